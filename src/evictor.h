#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "src/base/thread.h"
#include "src/directory.h"
#include "src/gpu.h"
#include "src/l2_sections.h"
#include "src/waiting_line.h"
#include "tiers/defragmenter.h"
#include "tiers/nvme_tier.h"
#include "tiers/pinned_tier.h"

namespace cairn {

// Finds room in L1, L2 and L3 by letting the coldest copies go, and keeps a little of L3 free ahead
// of demand: an extent of L3 is only free once the index has forgotten who was in it, and a put
// should not have to wait for that. So that what stays does not hang on who is quicker, whoever
// takes room on L3 lets as much go as will be missed then. Who has waited for long has a turn.
// Thread-safe.
class Evictor {
 public:
  struct Parts {
    Directory* directory;
    PinnedTier* l2;
    const L2Sections* l2_sections;
    NvmeTier* l3;
    Defragmenter* l2_defragmenter;
    Defragmenter* l3_defragmenter;
    double l2_dirty_share_max;
    uint64_t index_bytes_max;
    std::function<void()> housekeeping;  // Called about ten times a second.
  };
  explicit Evictor(Parts parts);
  ~Evictor();

  // Begins keeping the index ahead and housekeeping.
  absl::Status Start();
  void Stop();

  // Room in the GPU's L1 now, or kResourceExhausted; and before the deadline, as for L2.
  absl::StatusOr<Extent> TryReserveL1(Gpu* gpu, uint64_t bytes);
  absl::StatusOr<Extent> ReserveL1(Gpu* gpu, uint64_t bytes, Deadline deadline);
  // Room in L2 now, or kResourceExhausted. Moves nothing.
  absl::StatusOr<Extent> TryReserveL2(uint64_t bytes);
  // Room before the deadline, or kResourceExhausted naming the figures. Where enough is free and
  // only in pieces, others are moved out of the way rather than more let go; on L3 as well.
  absl::StatusOr<Extent> ReserveL2(uint64_t bytes, Deadline deadline);
  absl::StatusOr<Extent> ReserveL3(uint64_t bytes, Deadline deadline);
  // Of L3 as much as there is in one run, `bytes_max` at most, `bytes_min` at least.
  absl::StatusOr<Extent> ReserveL3UpTo(uint64_t bytes_max, uint64_t bytes_min, Deadline deadline);
  // The extents of a new entry, in L2 and `with_l3`, or neither.
  absl::Status Reserve(Entry& entry, bool with_l3, Deadline deadline);
  // Waits until the index has room for the entry.
  absl::Status WaitForIndexRoom(const Entry& entry, Deadline deadline);
  // Waits until `bytes` more may be dirty in L2.
  absl::Status WaitForDirtyRoom(uint64_t bytes, Deadline deadline);
  // From now on no more may be dirty, but for a little with which writes go on.
  void SetDirtyBytesMax(uint64_t bytes) {
    dirty_bytes_max_.store(bytes, std::memory_order_relaxed);
  }

  // Something was freed, unpinned or cleaned: whoever waits tries again.
  void RoomMade();

 private:
  // Of L1 or L2, for one who wants some.
  struct Room {
    absl::FunctionRef<absl::StatusOr<Extent>()> reserve;
    absl::FunctionRef<uint64_t()> evict;  // One; how many bytes that frees.
    absl::FunctionRef<uint64_t()> bytes_free;
    absl::FunctionRef<absl::Status()> full;
    Defragmenter* defragmenter;
  };
  // Moves others only for a wish that waits, until the deadline; so do the next two.
  static absl::StatusOr<Extent> ReserveNow(const Room& room, uint64_t bytes,
                                           WaitingLine::Wish& wish,
                                           std::optional<Deadline> deadline);
  absl::StatusOr<Extent> ReserveL1Now(Gpu* gpu, uint64_t bytes, WaitingLine::Wish& wish,
                                      std::optional<Deadline> deadline);
  absl::StatusOr<Extent> ReserveL2Now(uint64_t bytes, WaitingLine::Wish& wish,
                                      std::optional<Deadline> deadline);
  // Sleeps until RoomMade, a short while, or the deadline; false when it has passed.
  bool Wait(Deadline deadline) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Wait(WaitingLine::Wish& wish, Deadline deadline) {
    wish.Join();
    return Wait(deadline);
  }
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  void KeepAhead(uint64_t bytes);
  void KeepIndexAhead();
  uint64_t EvictL3(uint64_t bytes);
  // Nothing on L3 may ever be evicted.
  bool AllIsKept() const;
  // As Directory::EvictFromL3, where the index is full: classes have no share of that.
  uint64_t EvictOneFromIndex();
  uint64_t DirtyBytesMax() const;
  // No write is on its way to L3, after which more may leave.
  bool NothingSpills() const { return parts_.directory->dirty_bytes() == 0; }
  static absl::Status NoRoomInL1(const Gpu& gpu, uint64_t bytes);
  absl::Status NoRoomInL2(uint64_t bytes) const;
  // A little is kept free of the index too.
  uint64_t IndexBytesWanted() const { return parts_.index_bytes_max / 64 * 63; }
  void WakeUp() ABSL_LOCKS_EXCLUDED(mutex_);

  // Constant.
  const Parts parts_;
  const uint64_t l3_free_bytes_wanted_;

  std::atomic<uint64_t> dirty_bytes_max_ = UINT64_MAX;

  // Of each tier but L1, which has one on each GPU; and of what of L2 may be dirty.
  WaitingLine l2_line_{[this] { RoomMade(); }};
  WaitingLine dirty_line_{[this] { RoomMade(); }};
  WaitingLine l3_line_{[this] { RoomMade(); }};

  // Sleepers in Wait; makes RoomMade free of charge when there are none.
  std::atomic<uint32_t> waiting_ = 0;

  Mutex mutex_;
  CondVar room_;
  CondVar wake_;
  bool low_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;

  Thread thread_;
};

}  // namespace cairn
