#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "src/base/thread.h"
#include "tiers/fragmentation.h"
#include "tiers/movable_space.h"

namespace cairn {

// Makes long free runs of a space out of short ones: withholds the window in which least lies,
// moves that elsewhere, gives the window back in one piece. On demand, in the thread of who finds
// no room; and by a thread of its own, at a bounded rate, while more of the free space than it
// should be is in pieces that are of no use. Works on one window at a time, and a demand goes
// before the thread. Thread-safe.
class Defragmenter {
 public:
  // Knows what the extents are and whether they may move. Its calls are made one at a time, without
  // a lock held.
  class Mover {
   public:
    virtual ~Mover() = default;
    // One of these windows, of which at most so many bytes are to be moved, is about to be emptied:
    // all that is asked for from here on lies there. A move that waits for something ends, without
    // success, at the deadline.
    virtual void LookAt(absl::Span<const Extent> /*windows*/, uint64_t /*bytes_live_max*/,
                        Deadline /*deadline*/) {}
    // A window is about to be emptied of so many bytes.
    virtual void Begin(uint64_t /*bytes*/) {}
    // Whether nobody holds the extent where it is.
    virtual bool CanMove(Extent extent) = 0;
    // Has what lies there elsewhere, in an extent that this allocates, or nowhere, and frees the
    // extent. False, with nothing changed, when that cannot be now.
    virtual bool Move(Extent extent) = 0;
  };
  struct Options {
    double unusable_share_max = 0.3;  // 1: never moves anything.
    uint64_t bytes_per_second = uint64_t{256} << 20;
    std::chrono::milliseconds measure_every{1000};
  };
  struct Figures {
    uint64_t windows = 0;      // Emptied.
    uint64_t bytes_moved = 0;  // Out of windows, of those that were given up too.
    uint64_t bytes_freed = 0;  // Of the windows that were emptied: in one piece.
  };

  // All must outlive this.
  Defragmenter(MovableSpace* space, const SizeMix* mix, Mover* mover, const Options& options);
  ~Defragmenter();

  absl::Status Start();
  // Ends what goes on with the extent that is being moved. Nothing is moved after it.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  // Room for `bytes`, out of what is free already, by moving no more than as many. Waits for
  // another's window, and for moves, until the deadline. kResourceExhausted: not so.
  absl::StatusOr<Extent> MakeRoom(uint64_t bytes, Deadline deadline) ABSL_LOCKS_EXCLUDED(mutex_);

  // One look at the space, and one window if too much of what is free is of no use; what the thread
  // does every `measure_every`. Whether that share has become less.
  bool Tidy() ABSL_LOCKS_EXCLUDED(mutex_);

  Fragmentation Measure() const;
  Figures figures() const;

 private:
  struct Window {
    Extent range;
    uint64_t bytes_live = 0;  // That must move.
    uint64_t bytes_cost = 0;
  };

  // The cheapest that would have room for `bytes`, cheapest first; none that costs more than
  // `bytes_cost_max`. Free runs of `run_bytes` or more are of use as they are: to have one in a
  // window gains nothing, and so costs as much as what must move.
  std::vector<Window> Windows(uint64_t bytes, uint64_t run_bytes, uint64_t bytes_cost_max) const;
  Window WindowAt(uint64_t bytes, uint64_t offset) const;
  // Of the windows the first in which all can move, withheld and emptied; no bytes when none could
  // be. To be restored.
  Extent EmptyOne(const std::vector<Window>& windows, bool paced, Deadline deadline)
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool AllCanMove(Extent range);
  bool Empty(Extent range, bool paced) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<Extent> AllocatedIn(Extent range) const;

  // Until End nobody else moves anything. False when stopped, at the deadline, or, for one that is
  // no demand, while there is a demand.
  bool Begin(bool demand, Deadline deadline) ABSL_LOCKS_EXCLUDED(mutex_);
  void End() ABSL_LOCKS_EXCLUDED(mutex_);
  // False when what goes on is to end.
  bool MayGoOn(bool paced, uint64_t bytes_moved) ABSL_LOCKS_EXCLUDED(mutex_);
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  // Constant.
  MovableSpace* const space_;
  const SizeMix* const mix_;
  Mover* const mover_;
  const Options options_;

  std::atomic<uint64_t> windows_ = 0;
  std::atomic<uint64_t> bytes_moved_ = 0;
  std::atomic<uint64_t> bytes_freed_ = 0;

  Mutex mutex_;
  CondVar changed_;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  uint32_t demands_ ABSL_GUARDED_BY(mutex_) = 0;  // Waiting.
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  // A demand for as many bytes, or more, found no window; another looks again only after a while.
  uint64_t bytes_refused_ ABSL_GUARDED_BY(mutex_) = UINT64_MAX;
  Deadline refused_until_ ABSL_GUARDED_BY(mutex_) = {};

  Thread thread_;
};

}  // namespace cairn
