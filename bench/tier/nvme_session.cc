#include "bench/tier/nvme_session.h"

#include <algorithm>
#include <utility>

#include "bench/tier/own_store.h"
#include "io/superblock.h"
#include "tools/offload/block_content.h"

namespace cairn::bench {

Places::Places(const StoreFiles& files, uint64_t slot_bytes) : slot_bytes_(slot_bytes) {
  for (const StoreFiles::File& file : files.files()) {
    const uint64_t slots = file.fd < 0 ? 0 : file.bytes / slot_bytes;
    counts_.push_back(slots > 0 ? slots - 1 : 0);
    total_ += counts_.back();
  }
}

Places::Place Places::Of(uint64_t unit) const {
  size_t file = 0;
  while (unit >= counts_[file]) unit -= counts_[file++];
  return {.file = file, .offset = (unit + 1) * slot_bytes_};
}

NvmeSession::NvmeSession(SlotMemory memory, const NvmeShared& shared, const Job& job)
    : Session(std::move(memory)), shared_(shared), slots_(job.depth) {
  if (shared.files != nullptr) places_.emplace(*shared.files, job.slot_bytes());
  for (size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].parts = std::vector<Part>(PartsOf(job.slot_bytes()));
    for (Part& part : slots_[i].parts) {
      part.session = this;
      part.slot = i;
    }
  }
  // A refusal is in the report: the engine works on any memory.
  registered_ = shared_.io->RegisterMemory(memory_.all()).ok();
}

NvmeSession::~NvmeSession() {
  if (registered_) shared_.io->UnregisterMemory(memory_.all()).IgnoreError();
}

void NvmeSession::Begin(absl::Span<const Request> requests) {
  submitted_.clear();
  for (const Request& request : requests) Prepare(request);
  shared_.io->Submit(submitted_);
}

void NvmeSession::Reap(std::vector<Ended>& ended) {
  MutexLock lock(mutex_);
  waiting_ = true;
  while (ended_.empty()) changed_.Wait(mutex_);
  waiting_ = false;
  for (Ended& end : ended_) ended.push_back(std::move(end));
  ended_.clear();
}

void NvmeSession::Fill(const Request& request) {
  FillContent(L3OffsetOf(request.unit), memory_.slot(request.slot, request.bytes));
}

std::optional<uint64_t> NvmeSession::FirstDifference(const Request& request) const {
  const uint64_t begin = L3OffsetOf(request.unit);
  const absl::Span<const std::byte> bytes = memory_.slot(request.slot, request.bytes);
  for (uint64_t done = 0; done < request.bytes; done += kBlockBytes) {
    const std::optional<uint64_t> at =
        offload::FirstDifference(ContentId(begin + done), bytes.subspan(done, kBlockBytes));
    if (at.has_value()) return done + *at;
  }
  return std::nullopt;
}

Places::Place NvmeSession::PlaceOf(uint64_t unit) const {
  return places_.has_value() ? places_->Of(unit) : Places::Place{};
}

uint64_t NvmeSession::L3OffsetOf(uint64_t unit) const {
  const Places::Place place = PlaceOf(unit);
  return place.file * shared_.files->data_file_bytes() + place.offset;
}

void NvmeSession::Prepare(const Request& request) {
  Slot& slot = slots_[request.slot];
  if (request.kind == Request::Kind::kSync) return PrepareSync(slot);
  const bool write = request.kind == Request::Kind::kWrite;
  const Places::Place place = PlaceOf(request.unit);
  slot.parts_left = PartsOf(request.bytes);
  for (size_t i = 0; i < slot.parts_left; ++i) {
    Part& part = slot.parts[i];
    const uint64_t begin = i * kPartBytes;
    part.kind = write ? IoOp::Kind::kWrite : IoOp::Kind::kRead;
    part.priority = write ? IoPriority::kWrite : IoPriority::kDemandRead;
    part.file = shared_.io_files[place.file];
    part.offset = place.offset + begin;
    part.pieces.assign(1, iovec{.iov_base = memory_.slot(request.slot) + begin,
                                .iov_len = std::min(kPartBytes, request.bytes - begin)});
    submitted_.push_back(&part);
  }
  if (write) written_file_ = place.file;
}

// All files are on one device: its flush is asked for through the one that was last written.
void NvmeSession::PrepareSync(Slot& slot) {
  Part& part = slot.parts.front();
  slot.parts_left = 1;
  part.kind = IoOp::Kind::kSync;
  part.file = shared_.io_files[written_file_];
  part.pieces.clear();
  submitted_.push_back(&part);
}

void NvmeSession::PartDone(size_t slot, absl::Status status) {
  MutexLock lock(mutex_);
  Slot& done = slots_[slot];
  if (!status.ok() && done.status.ok()) done.status = std::move(status);
  if (--done.parts_left > 0) return;
  ended_.push_back({.slot = slot, .status = std::exchange(done.status, absl::OkStatus())});
  if (waiting_) changed_.NotifyOne();
}

void NvmeSession::Part::OnDone(absl::Status status) { session->PartDone(slot, std::move(status)); }

}  // namespace cairn::bench
