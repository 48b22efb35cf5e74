#include "cairn/handle.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "src/store_core.h"

namespace cairn {

TensorHandle::TensorHandle() = default;

TensorHandle::TensorHandle(std::shared_ptr<StoreCore> core, Entry* entry, L1Copy* l1,
                           const TensorView& view, Level found_at)
    : core_(std::move(core)), entry_(entry), l1_(l1), view_(view), found_at_(found_at) {}

TensorHandle::TensorHandle(TensorHandle&& other) noexcept
    : core_(std::move(other.core_)),
      entry_(std::exchange(other.entry_, nullptr)),
      l1_(std::exchange(other.l1_, nullptr)),
      view_(std::exchange(other.view_, {})),
      found_at_(other.found_at_) {}

TensorHandle& TensorHandle::operator=(TensorHandle&& other) noexcept {
  if (this == &other) return *this;
  Release();
  core_ = std::move(other.core_);
  entry_ = std::exchange(other.entry_, nullptr);
  l1_ = std::exchange(other.l1_, nullptr);
  view_ = std::exchange(other.view_, {});
  found_at_ = other.found_at_;
  return *this;
}

TensorHandle::~TensorHandle() { Release(); }

void TensorHandle::Release() {
  if (entry_ == nullptr) return;
  core_->directory->Unpin(Pin{std::exchange(entry_, nullptr), std::exchange(l1_, nullptr)});
  view_ = {};
  core_.reset();
}

absl::Status TensorHandle::ReleaseAfter(StreamRef stream) {
  if (entry_ == nullptr) return absl::OkStatus();
  CAIRN_ASSIGN_OR_RETURN(Gpu* const gpu, FindGpu(core_->gpus, /*ordinal=*/std::nullopt, stream));
  CAIRN_RETURN_IF_ERROR(gpu->releases->Add(stream, {entry_, l1_}));
  entry_ = nullptr;
  l1_ = nullptr;
  view_ = {};
  core_.reset();
  return absl::OkStatus();
}

absl::Status TensorHandle::CopyTo(absl::Span<std::byte> target) const {
  if (entry_ == nullptr) return absl::InvalidArgumentError("the handle is empty");
  if (target.size() != view_.size) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", PrintableKey(entry_->key()), " has ",
                                                   view_.size, " bytes and the target ",
                                                   target.size()));
  }
  if (l1_ != nullptr) return l1_->gpu->l1->CopyToHost(view_.data, target);
  std::memcpy(target.data(), view_.data, view_.size);
  return absl::OkStatus();
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
