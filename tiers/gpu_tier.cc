#include "tiers/gpu_tier.h"

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/status_macros.h"
#include "tiers/extent_allocator.h"

namespace cairn {
namespace {

constexpr uint64_t kAlignment = 4096;
// What every GPU takes: cudaDevAttrMaxPitch is 2^31 - 1.
constexpr uint64_t kPitchMax = (uint64_t{1} << 31) - 1;

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

absl::StatusOr<std::unique_ptr<GpuTier>> GpuTier::Create(uint64_t bytes_max, Device* device) {
  const uint64_t bytes = bytes_max / kAlignment * kAlignment;
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<SpaceAllocator> allocator,
                         ExtentAllocator::Create(bytes, kAlignment));
  const absl::StatusOr<absl::Span<std::byte>> arena = device->AllocateArena(bytes);
  if (!arena.ok()) {
    return absl::Status(arena.status().code(),
                        absl::StrCat("L1 of ", bytes, " bytes on ", device->name(), ": ",
                                     arena.status().message()));
  }
  std::unique_ptr<GpuTier> tier(new GpuTier(device, *arena, std::move(allocator)));
  CAIRN_RETURN_IF_ERROR(tier->Start());
  return tier;
}

absl::Status GpuTier::Start() {
  CAIRN_ASSIGN_OR_RETURN(up_, device_->CreateStream());
  CAIRN_ASSIGN_OR_RETURN(down_, device_->CreateStream());
  ender_.Start([this] { EndCopies(); });
  return absl::OkStatus();
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
  MutexLock lock(mutex_);
  absl::StatusOr<Extent> extent = allocator_->Allocate(bytes);
  if (extent.ok()) mix_.Note(bytes);
  return extent;
}

Fragmentation GpuTier::fragmentation() const {
  return MeasureFragmentation(bytes_max(), mix_, [this](Extent part, VisitRun visit) {
    MutexLock lock(mutex_);
    allocator_->ForEachFree(part, visit);
  });
}

void GpuTier::Release(Extent extent) {
  MutexLock lock(mutex_);
  CAIRN_CHECK(allocator_->Free(extent).ok());
}

uint64_t GpuTier::bytes_used() const {
  MutexLock lock(mutex_);
  return allocator_->bytes_used();
}

uint64_t GpuTier::largest_free_bytes() const {
  MutexLock lock(mutex_);
  return allocator_->largest_free_bytes();
}

absl::StatusOr<std::shared_ptr<DeviceEvent>> GpuTier::StartCopyUp(
    Extent target, absl::Span<const std::byte> source) {
  CAIRN_CHECK(source.size() <= target.bytes);
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
