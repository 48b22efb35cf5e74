#include "src/evictor.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/clock.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

using std::chrono::milliseconds;

// Bounds what a wake-up lost between a try and the sleep costs.
constexpr milliseconds kSleepMax{10};
constexpr milliseconds kHousekeepingEvery{100};
constexpr int kStuckTriesMax = 20;
// Of L2: what may be dirty however short memory is.
constexpr double kDirtyShareLeast = 1.0 / 16;

// One part in a hundred of L3, within 4 to 128 MiB, but never a quarter of a small one.
uint64_t FreeBytesWanted(uint64_t l3_bytes_max) {
  const uint64_t wanted =
      std::clamp<uint64_t>(l3_bytes_max / 100, uint64_t{4} << 20, uint64_t{128} << 20);
  return std::min(wanted, l3_bytes_max / 16);
}

}  // namespace

Evictor::Evictor(Parts parts)
    : parts_(std::move(parts)), l3_free_bytes_wanted_(FreeBytesWanted(parts_.l3->bytes_max())) {}

Evictor::~Evictor() { Stop(); }

absl::Status Evictor::Start() {
  return thread_.Start("cairn-evictor", [this] { Run(); });
}

void Evictor::Stop() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    wake_.NotifyAll();
    room_.NotifyAll();
  }
  thread_.Join();
}

// One copy is let go first: mostly it is as large as the one that comes, and nothing is cheaper.
// When there is enough free then and still no room, others are moved; that is tried again when a
// quarter more is free.
absl::StatusOr<Extent> Evictor::ReserveNow(const Room& room, uint64_t bytes,
                                           WaitingLine::Wish& wish,
                                           std::optional<Deadline> deadline) {
  uint64_t bytes_free_wanted = bytes;
  bool evicted = false;
  while (wish.MayTake()) {
    absl::StatusOr<Extent> extent = room.reserve();
    if (extent.ok() || !absl::IsResourceExhausted(extent.status())) return extent;
    const uint64_t freed = evicted ? 0 : room.evict();
    if (freed > 0) {
      evicted = true;
      continue;
    }
    // What goes for it may be taken by others, over and over.
    if (deadline) wish.Join();
    if (const uint64_t free = room.bytes_free(); deadline && free >= bytes_free_wanted) {
      extent = room.defragmenter->MakeRoom(bytes, *deadline);
      if (extent.ok()) return extent;
      bytes_free_wanted = free + bytes / 4;
    }
    if (room.evict() == 0) break;
  }
  return room.full();
}

absl::StatusOr<Extent> Evictor::ReserveL1Now(Gpu* gpu, uint64_t bytes, WaitingLine::Wish& wish,
                                             std::optional<Deadline> deadline) {
  absl::StatusOr<Extent> extent =
      ReserveNow({.reserve = [&] { return gpu->l1->Reserve(bytes); },
                  .evict = [&] { return parts_.directory->EvictFromL1(gpu); },
                  .bytes_free = [&] { return gpu->l1->bytes_free(); },
                  .full = [&] { return NoRoomInL1(*gpu, bytes); },
                  .defragmenter = gpu->defragmenter.get()},
                 bytes, wish, deadline);
  if (!absl::IsResourceExhausted(extent.status()) || !wish.MayTake()) return extent;
  // What only streams still read: who waits for them then is the device, and nobody here.
  if (const std::optional<Extent> taken = parts_.directory->TakeOverInL1(gpu, bytes)) return *taken;
  return extent;
}

absl::StatusOr<Extent> Evictor::ReserveL2Now(uint64_t bytes, WaitingLine::Wish& wish,
                                             std::optional<Deadline> deadline) {
  const auto evict = [&]() -> uint64_t {
    // Larger than what memory leaves of L2: nothing that goes would make room for it.
    if (bytes > parts_.l2_sections->bytes_usable()) return 0;
    return parts_.directory->EvictFromL2();
  };
  return ReserveNow({.reserve = [&] { return parts_.l2->Reserve(bytes); },
                     .evict = evict,
                     .bytes_free = [&] { return parts_.l2->bytes_free(); },
                     .full = [&] { return NoRoomInL2(bytes); },
                     .defragmenter = parts_.l2_defragmenter},
                    bytes, wish, deadline);
}

absl::StatusOr<Extent> Evictor::TryReserveL1(Gpu* gpu, uint64_t bytes) {
  WaitingLine::Wish wish(gpu->line);
  return ReserveL1Now(gpu, bytes, wish, std::nullopt);
}

absl::Status Evictor::NoRoomInL1(const Gpu& gpu, uint64_t bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("L1 is full: no room for ", bytes, " bytes on GPU ", gpu.ordinal(), ", ",
                   gpu.l1->bytes_used(), " of ", gpu.l1->bytes_max(),
                   " in use and pinned or on their way, the longest free run has ",
                   gpu.l1->largest_free_bytes()));
}

absl::StatusOr<Extent> Evictor::ReserveL1(Gpu* gpu, uint64_t bytes, Deadline deadline) {
  WaitingLine::Wish wish(gpu->line);
  while (true) {
    absl::StatusOr<Extent> extent = ReserveL1Now(gpu, bytes, wish, deadline);
    if (extent.ok() || !absl::IsResourceExhausted(extent.status())) return extent;
    if (!Wait(wish, deadline)) return extent;
  }
}

absl::StatusOr<Extent> Evictor::TryReserveL2(uint64_t bytes) {
  WaitingLine::Wish wish(l2_line_);
  return ReserveL2Now(bytes, wish, std::nullopt);
}

absl::Status Evictor::NoRoomInL2(uint64_t bytes) const {
  return absl::ResourceExhaustedError(
      absl::StrCat("L2 is full: no room for ", bytes, " bytes, ", parts_.l2->bytes_used(), " of ",
                   parts_.l2_sections->bytes_usable(),
                   " in use and pinned or not yet on L3, the longest free run has ",
                   parts_.l2->largest_free_bytes()));
}

absl::StatusOr<Extent> Evictor::ReserveL2(uint64_t bytes, Deadline deadline) {
  WaitingLine::Wish wish(l2_line_);
  int stuck = 0;
  while (true) {
    absl::StatusOr<Extent> extent = ReserveL2Now(bytes, wish, deadline);
    if (extent.ok() || !absl::IsResourceExhausted(extent.status())) return extent;
    // What is left is what classes are to keep, or pinned.
    const bool may_come = !NothingSpills() || bytes > parts_.l2_sections->bytes_usable();
    stuck = may_come || !wish.MayTake() ? 0 : stuck + 1;
    if (stuck > kStuckTriesMax && parts_.directory->EvictFromL2(/*of_any=*/true) > 0) continue;
    if (!Wait(wish, deadline)) return extent;
  }
}

uint64_t Evictor::EvictL3(uint64_t bytes) {
  uint64_t leaving = 0;
  while (leaving < bytes) {
    const uint64_t evicted = parts_.directory->EvictFromL3();
    if (evicted == 0) break;
    leaving += evicted;
  }
  return leaving;
}

absl::StatusOr<Extent> Evictor::ReserveL3(uint64_t bytes, Deadline deadline) {
  return ReserveL3UpTo(bytes, bytes, deadline);
}

absl::StatusOr<Extent> Evictor::ReserveL3UpTo(uint64_t bytes_max, uint64_t bytes,
                                              Deadline deadline) {
  WaitingLine::Wish wish(l3_line_);
  int stuck = 0;
  int idle = 0;  // Nothing leaves that its class is not to keep.
  uint64_t bytes_free_wanted = bytes;
  KeepAhead(bytes);
  while (true) {
    const bool may_take = wish.MayTake();
    if (may_take) {
      absl::StatusOr<Extent> extent = parts_.l3->ReserveUpTo(bytes_max, bytes);
      if (extent.ok() || !absl::IsResourceExhausted(extent.status())) return extent;
      // As in ReserveNow.
      const uint64_t free = parts_.l3->bytes_free();
      if (free >= bytes_free_wanted + parts_.l3->bytes_withheld() && SteadyNow() < deadline) {
        wish.Join();
        extent = parts_.l3_defragmenter->MakeRoom(bytes, deadline);
        if (extent.ok()) return extent;
        bytes_free_wanted = free + bytes / 4;
      }
    }
    const uint64_t leaving = parts_.directory->l3_bytes_leaving();
    const uint64_t evicted = may_take && leaving < bytes ? EvictL3(bytes - leaving) : 0;
    idle = may_take && evicted == 0 && leaving == 0 && NothingSpills() ? idle + 1 : 0;
    if (idle > kStuckTriesMax) parts_.directory->EvictFromL3(/*of_any=*/true);
    const uint64_t kept = parts_.directory->kept_bytes();
    // What is free is in pieces: that may still be a write on its way to replace another, but not
    // for long.
    const bool may_come = leaving > 0 || parts_.l3->bytes_withheld() > 0;
    stuck = !may_come && AllIsKept() ? stuck + 1 : 0;
    const bool hopeless = kept + bytes > parts_.l3->bytes_max() || stuck > kStuckTriesMax;
    if (hopeless || !Wait(wish, deadline)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("L3 is full: no room for ", bytes, " bytes, ", parts_.l3->bytes_used(),
                       " of ", parts_.l3->bytes_max(), " in use, ", kept, " to be kept"));
    }
  }
}

absl::Status Evictor::Reserve(Entry& entry, bool with_l3, Deadline deadline) {
  if (with_l3) {
    CAIRN_ASSIGN_OR_RETURN(const Extent l3_extent,
                           ReserveL3(entry.Record().extent_bytes(), deadline));
    entry.set_l3_extent(l3_extent);
  }
  const absl::StatusOr<Extent> l2_extent = ReserveL2(entry.bytes(), deadline);
  if (!l2_extent.ok()) {
    if (with_l3) {
      parts_.l3->Release(entry.TakeL3Extent());
      RoomMade();
    }
    return l2_extent.status();
  }
  entry.MakeHot().l2_extent = *l2_extent;
  return absl::OkStatus();
}

absl::Status Evictor::WaitForIndexRoom(const Entry& entry, Deadline deadline) {
  const uint64_t bytes = entry.index_bytes();
  int stuck = 0;
  while (true) {
    const uint64_t used = parts_.directory->index_bytes();
    if (used + bytes <= parts_.index_bytes_max) {
      if (used > IndexBytesWanted()) WakeUp();
      return absl::OkStatus();
    }
    const uint64_t leaving = parts_.directory->index_bytes_leaving();
    if (used + bytes > parts_.index_bytes_max + leaving) EvictOneFromIndex();
    // As for L3: what is pinned or leased is waited for, what is to be kept is not.
    stuck = leaving == 0 && AllIsKept() ? stuck + 1 : 0;
    if (stuck > kStuckTriesMax || !Wait(deadline)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the index is full: its entries take ", used, " of ", parts_.index_bytes_max,
                       " bytes (StoreOptions::l3_index_bytes_max)"));
    }
  }
}

uint64_t Evictor::DirtyBytesMax() const {
  const auto usable = static_cast<double>(parts_.l2_sections->bytes_usable());
  const auto share = static_cast<uint64_t>(parts_.l2_dirty_share_max * usable);
  const auto least = static_cast<uint64_t>(kDirtyShareLeast * usable);
  return std::min(share, std::max(least, dirty_bytes_max_.load(std::memory_order_relaxed)));
}

absl::Status Evictor::WaitForDirtyRoom(uint64_t bytes, Deadline deadline) {
  WaitingLine::Wish wish(dirty_line_);
  while (true) {
    const uint64_t dirty_max = DirtyBytesMax();
    const uint64_t dirty = parts_.directory->dirty_bytes();
    const bool fits = dirty == 0 || dirty + bytes <= dirty_max;
    if (fits && wish.MayTake()) return absl::OkStatus();
    if (!Wait(wish, deadline)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("L3 does not keep up: ", dirty, " bytes in L2 wait to be written, and ",
                       bytes, " more would pass the limit of ", dirty_max));
    }
  }
}

void Evictor::RoomMade() {
  // Sequentially consistent with Wait's increment: either the sleeper is seen here, or its try
  // after the increment sees the room. (What slips through costs kSleepMax.)
  if (waiting_.load() == 0) return;
  MutexLock lock(mutex_);
  room_.NotifyAll();
}

bool Evictor::Wait(Deadline deadline) {
  const Deadline now = SteadyNow();
  if (now >= deadline) return false;
  waiting_.fetch_add(1);
  {
    MutexLock lock(mutex_);
    if (!stop_) room_.WaitUntil(mutex_, std::min(deadline, now + kSleepMax));
  }
  waiting_.fetch_sub(1);
  return true;
}

void Evictor::KeepAhead(uint64_t bytes) {
  const uint64_t free = parts_.l3->bytes_free() + parts_.directory->l3_bytes_leaving();
  const uint64_t wanted = l3_free_bytes_wanted_ + bytes;
  if (free < wanted) EvictL3(wanted - free);
}

void Evictor::KeepIndexAhead() {
  while (parts_.directory->index_bytes() >
         IndexBytesWanted() + parts_.directory->index_bytes_leaving()) {
    if (EvictOneFromIndex() == 0) break;
  }
}

bool Evictor::AllIsKept() const {
  return parts_.directory->kept_bytes() >= parts_.l3->bytes_used();
}

uint64_t Evictor::EvictOneFromIndex() {
  const uint64_t evicted = parts_.directory->EvictFromL3();
  return evicted > 0 ? evicted : parts_.directory->EvictFromL3(/*of_any=*/true);
}

void Evictor::WakeUp() {
  MutexLock lock(mutex_);
  if (!low_) wake_.NotifyAll();
  low_ = true;
}

void Evictor::Run() {
  Deadline next = SteadyNow() + kHousekeepingEvery;
  while (true) {
    {
      MutexLock lock(mutex_);
      while (!stop_ && !low_ && wake_.WaitUntil(mutex_, next)) {
      }
      if (stop_) return;
      low_ = false;
    }
    KeepIndexAhead();
    if (SteadyNow() < next) continue;
    parts_.housekeeping();
    next = SteadyNow() + kHousekeepingEvery;
  }
}

}  // namespace cairn
