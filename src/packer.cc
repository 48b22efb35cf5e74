#include "src/packer.h"

#include <algorithm>
#include <utility>

#include "io/pack.h"
#include "src/base/check.h"
#include "src/base/status_macros.h"

namespace cairn {

// A small L3 must not be emptied for the sake of long runs.
Packer::Packer(const SpillContext* context, Evictor* evictor)
    : context_(context),
      evictor_(evictor),
      run_bytes_(std::min(kPackBytesMax, RoundUpToBlock(context->l3->bytes_max() / 128))) {}

Packer::~Packer() {
  MutexLock lock(mutex_);
  CAIRN_CHECK(open_ == nullptr && writing_ == 0);
}

bool Packer::Takes(uint64_t payload_bytes) { return payload_bytes <= kPackedPayloadBytesMax; }

uint64_t Packer::TableBytes(uint64_t members_bytes) const {
  return PackTableBytes(context_->fingerprint.size(), members_bytes);
}

bool Packer::Fits(const OpenPack& pack, const Entry& entry) const {
  const uint64_t members_bytes =
      pack.members_bytes + PackMemberBytes(entry.key().size(), entry.rank());
  return pack.retention == entry.retention() && context_->l3->InUse(pack.run.offset) &&
         pack.payload_bytes + RoundUpToBlock(entry.bytes()) + TableBytes(members_bytes) <=
             pack.run.bytes;
}

absl::Status Packer::Add(Tensor& tensor, Deadline deadline) {
  for (;;) {
    std::unique_ptr<OpenPack> full;
    {
      MutexLock lock(mutex_);
      if (open_ != nullptr && Fits(*open_, *tensor.entry)) {
        Place(tensor);
        full = TakeIfIdle();
      } else if (open_ != nullptr) {
        full = Take();
      }
    }
    if (full != nullptr) Write(std::move(full));
    if (tensor.entry == nullptr) return absl::OkStatus();
    CAIRN_RETURN_IF_ERROR(Open(*tensor.entry, deadline));
  }
}

absl::Status Packer::Open(const Entry& entry, Deadline deadline) {
  const uint64_t bytes_min =
      RoundUpToBlock(entry.bytes()) + TableBytes(PackMemberBytes(entry.key().size(), entry.rank()));
  CAIRN_ASSIGN_OR_RETURN(const Extent run, evictor_->ReserveL3UpTo(std::max(run_bytes_, bytes_min),
                                                                   bytes_min, deadline));
  auto pack = std::make_unique<OpenPack>();
  pack->run = run;
  pack->retention = entry.retention();
  pack->extent = std::make_unique<PackExtent>();
  std::unique_ptr<OpenPack> before;
  {
    MutexLock lock(mutex_);
    before = std::exchange(open_, std::move(pack));
    if (before != nullptr) ++writing_;
  }
  // Somebody else was quicker.
  if (before != nullptr) Write(std::move(before));
  return absl::OkStatus();
}

void Packer::Place(Tensor& tensor) {
  OpenPack& pack = *open_;
  // The spill owns it until it is listed.
  Entry* const entry = tensor.entry.release();
  const Extent place = {pack.run.offset + pack.payload_bytes, RoundUpToBlock(entry->bytes())};
  entry->pack = pack.extent.get();
  entry->set_l3_extent(place);
  pack.payload_bytes += place.bytes;
  pack.members_bytes += PackMemberBytes(entry->key().size(), entry->rank());
  pack.tensors.push_back({.entry = entry,
                          .pieces = std::move(tensor.pieces),
                          .list = tensor.list_when_written,
                          .flush = tensor.flush});
  context_->tracker->Begin(entry->sequence());
  if (!tensor.list_when_written) context_->directory->List(std::unique_ptr<Entry>(entry));
}

std::unique_ptr<Packer::OpenPack> Packer::TakeIfIdle() {
  return open_ != nullptr && !open_->tensors.empty() && writing_ == 0 && corks_ == 0 ? Take()
                                                                                     : nullptr;
}

std::unique_ptr<Packer::OpenPack> Packer::Take() {
  ++writing_;
  return std::move(open_);
}

void Packer::Cork() {
  MutexLock lock(mutex_);
  ++corks_;
}

void Packer::Uncork() {
  std::unique_ptr<OpenPack> pack;
  {
    MutexLock lock(mutex_);
    --corks_;
    pack = TakeIfIdle();
  }
  if (pack != nullptr) Write(std::move(pack));
}

void Packer::OnWritten() {
  std::unique_ptr<OpenPack> pack;
  {
    MutexLock lock(mutex_);
    --writing_;
    pack = TakeIfIdle();
  }
  if (pack != nullptr) Write(std::move(pack));
}

void Packer::Write(std::unique_ptr<OpenPack> pack) {
  NvmeTier& l3 = *context_->l3;
  if (pack->tensors.empty()) {
    l3.Release(pack->run);
    OnWritten();
    return;
  }
  PackExtent* const extent = pack->extent.release();
  const uint64_t table_bytes = TableBytes(pack->members_bytes);
  extent->table = {pack->run.offset + pack->payload_bytes, table_bytes};
  extent->members = static_cast<uint32_t>(pack->tensors.size());
  std::vector<uint64_t> sizes;
  sizes.reserve(pack->tensors.size() + 1);
  for (const SpillTensor& tensor : pack->tensors) {
    sizes.push_back(tensor.entry->l3_extent().bytes);
    tensor.entry->set_header_bytes(table_bytes);
  }
  sizes.push_back(table_bytes);
  l3.Split(pack->run, sizes);
  const uint64_t used = pack->payload_bytes + table_bytes;
  if (used < pack->run.bytes) l3.Release({pack->run.offset + used, pack->run.bytes - used});
  if (pack->retention == Retention::kKeep) context_->directory->KeepPack(extent);

  IoBatch batch;
  StartPackSpill(
      *context_, extent, std::move(pack->tensors), [this] { OnWritten(); }, batch);
  l3.io().Submit(batch);
}

}  // namespace cairn
