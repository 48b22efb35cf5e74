#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "src/admission/admission.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "src/directory.h"
#include "src/fill.h"
#include "src/spill.h"
#include "src/tier_eviction.h"
#include "tiers/defragmenter.h"

namespace cairn {

// Moves tensors within L3: each is read back, or taken from L2, verified, and written anew, flushed
// and named by the index before its old place is free. What eviction would let go next is let go
// instead, for as many bytes as are to be moved, where L3 is nearly full; and where nothing is in
// hand of the write budget, only that. A window that holds what has no record of its own, a pack,
// is left alone, and so is one with a tensor of more than 64 MiB.
class L3Mover final : public Defragmenter::Mover {
 public:
  // All must outlive this.
  struct Parts {
    Directory* directory;
    TierEviction* eviction;
    Admission* admission;
    FillContext fill;
    const SpillContext* spill;
    uint32_t fingerprint_id;
    std::function<uint64_t()> next_sequence;
  };
  explicit L3Mover(Parts parts);
  ~L3Mover() override;

  // Ends the wait for a move that is under way, which gives up or ends by itself, and all later
  // ones.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  void LookAt(absl::Span<const Extent> windows, uint64_t bytes_live_max,
              Deadline deadline) override;
  bool CanMove(Extent extent) override ABSL_LOCKS_EXCLUDED(mutex_);
  bool Move(Extent from) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Step;
  class Memory;
  struct Owner {
    uint64_t bytes = 0;  // Of the extent.
    uint64_t key_hash = 0;
  };

  // Null: it belongs to nobody, or cannot be moved.
  const Owner* OwnerOf(Extent extent) const;
  bool Clear(uint64_t key_hash, Extent from);
  bool Rewrite(uint64_t key_hash, Extent from);
  // False: the bytes could not be had in time, and who reads them last unpins the entry.
  bool Read(Entry* entry, const std::shared_ptr<Memory>& memory);
  static bool Verifies(const Entry& entry, const std::byte* payload);
  // Takes the pin over.
  bool Write(Entry* from, uint64_t sequence, const std::byte* payload,
             const std::shared_ptr<Memory>& memory);
  static std::unique_ptr<Entry> NewEntry(const Entry& from, uint64_t sequence);
  // None when no more may begin.
  std::shared_ptr<Step> NewStep() ABSL_LOCKS_EXCLUDED(mutex_);
  bool MayBegin() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Deadline StepDeadline() const;

  const Parts parts_;
  // Of whose turn it is to move.
  Deadline deadline_ = Deadline::max();
  absl::flat_hash_map<uint64_t, Owner> owners_;  // By the offset of the extent.
  absl::flat_hash_set<uint64_t> coldest_;        // Hashes of keys.

  Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  // The last. One that was left and has not ended is the only one: a device that hangs gets no
  // more.
  std::shared_ptr<Step> step_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn
