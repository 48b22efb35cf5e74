#include "tiers/gpu_tier.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

constexpr uint64_t kAlignment = 4096;

// How far `to` is behind `from`; a great number when it is not.
uint64_t Distance(const std::byte* from, const std::byte* to) {
  return reinterpret_cast<uintptr_t>(to) - reinterpret_cast<uintptr_t>(from);
}

// Pieces of one length and, on both sides, one distance: the layers' slices of a block in a larger
// layout, which a device copies in one go.
std::optional<StridedCopy> AsRows(absl::Span<const CopyPiece> pieces) {
  if (pieces.size() < 2) return std::nullopt;
  const CopyPiece& first = pieces[0];
  const StridedCopy rows = {.target = first.target,
                            .target_pitch = Distance(first.target, pieces[1].target),
                            .source = first.source,
                            .source_pitch = Distance(first.source, pieces[1].source),
                            .row_bytes = first.bytes,
                            .rows = pieces.size()};
  for (const uint64_t pitch : {rows.target_pitch, rows.source_pitch}) {
    if (pitch < rows.row_bytes || pitch > kPitchMax) return std::nullopt;
  }
  for (size_t i = 1; i < pieces.size(); ++i) {
    if (pieces[i].bytes != rows.row_bytes ||
        Distance(pieces[i - 1].target, pieces[i].target) != rows.target_pitch ||
        Distance(pieces[i - 1].source, pieces[i].source) != rows.source_pitch) {
      return std::nullopt;
    }
  }
  return rows;
}

}  // namespace

absl::StatusOr<std::unique_ptr<GpuTier>> GpuTier::Create(uint64_t bytes_max, Device* device,
                                                         L1Memory memory) {
  const uint64_t bytes = bytes_max / kAlignment * kAlignment;
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<MagazineAllocator> allocator,
                         MagazineAllocator::Create(AllocatorKind::kHybrid, bytes, kAlignment));
  CAIRN_ASSIGN_OR_RETURN(ExtentOwners owners, ExtentOwners::Create(bytes, kAlignment));
  const absl::StatusOr<absl::Span<std::byte>> arena = memory == L1Memory::kManaged
                                                          ? device->AllocateManagedArena(bytes)
                                                          : device->AllocateArena(bytes);
  if (!arena.ok()) {
    return absl::Status(arena.status().code(),
                        absl::StrCat("L1 of ", bytes, " bytes on ", device->name(), ": ",
                                     arena.status().message()));
  }
  std::unique_ptr<GpuTier> tier(
      new GpuTier(device, memory, *arena, std::move(allocator), std::move(owners)));
  CAIRN_RETURN_IF_ERROR(tier->Start());
  return tier;
}

absl::Status GpuTier::Start() {
  CAIRN_ASSIGN_OR_RETURN(up_, device_->CreateStream());
  CAIRN_ASSIGN_OR_RETURN(down_, device_->CreateStream());
  return ender_.Start("cairn-l1-copies", [this] { EndCopies(); });
}

GpuTier::~GpuTier() {
  {
    MutexLock lock(copies_mutex_);
    stop_ = true;
    copies_changed_.NotifyAll();
  }
  ender_.Join();
  // A device that answers no more takes nothing back either.
  for (const std::optional<StreamRef>& stream : {up_, down_}) {
    if (stream.has_value()) device_->DestroyStream(*stream).IgnoreError();
  }
  device_->FreeArena(arena_).IgnoreError();
}

absl::StatusOr<Extent> GpuTier::Reserve(uint64_t bytes) {
  absl::StatusOr<Extent> extent = allocator_->Allocate(bytes);
  if (extent.ok()) mix_.Note(bytes);
  return extent;
}

Fragmentation GpuTier::fragmentation() const {
  return MeasureFragmentation(bytes_max(), mix_, [this](Extent part, VisitRun visit) {
    allocator_->ForEachFree(part, visit);
  });
}

void GpuTier::ReleaseBehind(Extent extent, StreamReaders readers) {
  {
    MutexLock lock(readers_mutex_);
    if (const auto found = handed_over_.find(extent.offset); found != handed_over_.end()) {
      readers = std::move(found->second);
      handed_over_.erase(found);
    }
    if (readers.any()) {
      leaving_.push_back({extent, std::move(readers)});
      return;
    }
  }
  CAIRN_CHECK(allocator_->Free(extent).ok());
}

void GpuTier::FreeWhatIsRead() {
  std::vector<Leaving> read;
  {
    MutexLock lock(readers_mutex_);
    const auto first = std::partition(leaving_.begin(), leaving_.end(),
                                      [](const Leaving& one) { return one.readers.any(); });
    read.assign(std::make_move_iterator(first), std::make_move_iterator(leaving_.end()));
    leaving_.erase(first, leaving_.end());
  }
  for (const Leaving& one : read) CAIRN_CHECK(allocator_->Free(one.extent).ok());
}

void GpuTier::HandOver(Extent extent, uint64_t bytes, StreamReaders readers) {
  mix_.Note(bytes);
  if (!readers.any()) return;
  MutexLock lock(readers_mutex_);
  handed_over_.insert_or_assign(extent.offset, std::move(readers));
}

absl::Status GpuTier::WaitForReaders(Extent target) {
  StreamReaders readers;
  {
    MutexLock lock(readers_mutex_);
    const auto found = handed_over_.find(target.offset);
    if (found == handed_over_.end()) return absl::OkStatus();
    readers = found->second;
  }
  CAIRN_RETURN_IF_ERROR(readers.LetWait(*up_));
  // Whatever is copied up from here on is behind them.
  MutexLock lock(readers_mutex_);
  handed_over_.erase(target.offset);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<DeviceEvent>> GpuTier::StartCopyUp(
    Extent target, absl::Span<const std::byte> source) {
  CAIRN_CHECK(source.size() <= target.bytes);
  CAIRN_RETURN_IF_ERROR(WaitForReaders(target));
  if (memory_ == L1Memory::kManaged) {
    CAIRN_RETURN_IF_ERROR(device_->Prefetch(*up_, {Address(target), target.bytes}));
  }
  const CopyPiece piece = {Address(target), source.data(), source.size()};
  CAIRN_RETURN_IF_ERROR(device_->Copy(*up_, CopyDirection::kToDevice, {&piece, 1}));
  absl::StatusOr<std::shared_ptr<DeviceEvent>> copied = device_->Record(*up_);
  // Nobody could say when it is done: so it is made to be.
  if (!copied.ok()) device_->Synchronize(*up_).IgnoreError();
  return copied;
}

void GpuTier::WhenCopied(std::shared_ptr<DeviceEvent> copied, Done done) {
  MutexLock lock(copies_mutex_);
  copies_.push_back({std::move(copied), std::move(done)});
  copies_changed_.NotifyAll();
}

absl::Status GpuTier::LetWait(StreamRef consumer) {
  CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<DeviceEvent> copied, device_->Record(*up_));
  return device_->WaitFor(consumer, copied);
}

absl::Status GpuTier::CopyAndWait(CopyDirection direction, absl::Span<const CopyPiece> pieces,
                                  std::optional<StreamRef> producer) {
  const StreamRef stream = direction == CopyDirection::kToHost ? *down_ : *up_;
  if (producer.has_value()) {
    CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<DeviceEvent> made, device_->Record(*producer));
    CAIRN_RETURN_IF_ERROR(device_->WaitFor(stream, made));
  }
  const std::optional<StridedCopy> rows = AsRows(pieces);
  CAIRN_RETURN_IF_ERROR(rows.has_value() ? device_->CopyRows(stream, direction, *rows)
                                         : device_->Copy(stream, direction, pieces));
  const absl::StatusOr<std::shared_ptr<DeviceEvent>> copied = device_->Record(stream);
  return copied.ok() ? (*copied)->Wait() : device_->Synchronize(stream);
}

void GpuTier::EndCopies() {
  while (true) {
    std::shared_ptr<DeviceEvent> copied;
    {
      MutexLock lock(copies_mutex_);
      while (!stop_ && copies_.empty()) copies_changed_.Wait(copies_mutex_);
      if (copies_.empty()) return;
      copied = copies_.front().copied;
    }
    absl::Status status = copied->Wait();
    Done done;
    {
      MutexLock lock(copies_mutex_);
      done = std::move(copies_.front().done);
    }
    std::move(done)(std::move(status));
    MutexLock lock(copies_mutex_);
    copies_.pop_front();
    copies_changed_.NotifyAll();
  }
}

void GpuTier::Drain() {
  MutexLock lock(copies_mutex_);
  while (!copies_.empty()) copies_changed_.Wait(copies_mutex_);
}

}  // namespace cairn
