#include "cairn/handle.h"

#include <utility>

#include "src/store_core.h"

namespace cairn {

TensorHandle::TensorHandle() = default;

TensorHandle::TensorHandle(std::shared_ptr<StoreCore> core, Entry* entry, const TensorView& view,
                           Level found_at)
    : core_(std::move(core)), entry_(entry), view_(view), found_at_(found_at) {}

TensorHandle::TensorHandle(TensorHandle&& other) noexcept
    : core_(std::move(other.core_)),
      entry_(std::exchange(other.entry_, nullptr)),
      view_(std::exchange(other.view_, {})),
      found_at_(other.found_at_) {}

TensorHandle& TensorHandle::operator=(TensorHandle&& other) noexcept {
  if (this == &other) return *this;
  Release();
  core_ = std::move(other.core_);
  entry_ = std::exchange(other.entry_, nullptr);
  view_ = std::exchange(other.view_, {});
  found_at_ = other.found_at_;
  return *this;
}

TensorHandle::~TensorHandle() { Release(); }

void TensorHandle::Release() {
  if (entry_ == nullptr) return;
  core_->directory->Unpin(std::exchange(entry_, nullptr));
  view_ = {};
  core_.reset();
}

absl::Status TensorHandle::ReleaseAfter(StreamRef /*stream*/) {
  return absl::UnimplementedError(
      "ReleaseAfter: GPU streams come with the GPU tier (L1), which is not built yet; wait for "
      "the stream, then Release");
}

Lease::Lease() = default;
Lease::Lease(std::shared_ptr<StoreCore> core, uint64_t id) : core_(std::move(core)), id_(id) {}
Lease::Lease(Lease&& other) noexcept
    : core_(std::move(other.core_)), id_(std::exchange(other.id_, 0)) {}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  Release();
  core_ = std::move(other.core_);
  id_ = std::exchange(other.id_, 0);
  return *this;
}

Lease::~Lease() { Release(); }

void Lease::Release() {
  if (id_ == 0) return;
  core_->leases->End(std::exchange(id_, 0));
  core_.reset();
}

}  // namespace cairn
