#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "cairn/options.h"
#include "cairn/tensor.h"
#include "src/eviction/worth.h"

namespace cairn {

class ChainClock;
class GhostList;
class NodeQueue;

// A copy's place in the order of eviction, embedded in what it belongs to. The policy's own while
// tracked. There is one for every tensor on L3: so its two neighbours take 44 bits each, as
// addresses of 48 bits do that are multiples of 16, and what a policy remembers of the copy lies in
// what is left of 16 bytes.
class alignas(16) EvictionNode {
 public:
  EvictionNode()
      : colder_(0), worth_(0), queue_(0), uses_(0), time_high_(0), warmer_(0), time_low_(0) {}
  EvictionNode(const EvictionNode&) = delete;
  EvictionNode& operator=(const EvictionNode&) = delete;

  bool tracked() const { return queue_ != 0; }

 private:
  friend class NodeQueue;
  static constexpr int kAddressBits = 44;
  static constexpr int kAddressShift = 4;
  static constexpr int kTimeLowBits = 16;
  static constexpr uintptr_t kAddressMax = (uintptr_t{1} << kAddressBits) - 1;
  static constexpr uint32_t kTimeLowMax = (uint32_t{1} << kTimeLowBits) - 1;
  static constexpr uint32_t kTimeHighMax = 0xfff;
  static constexpr uint8_t kQueueMax = 3;
  static constexpr uint8_t kUsesMax = 3;
  static constexpr uint8_t kWorthMax = 15;

  static EvictionNode* NodeAt(uintptr_t address) {
    // What the compiler no longer sees through the cast saves 20 bits a neighbour.
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    return reinterpret_cast<EvictionNode*>(address << kAddressShift);
  }
  static uintptr_t AddressOf(EvictionNode* node) {
    return reinterpret_cast<uintptr_t>(node) >> kAddressShift;
  }
  EvictionNode* colder() const { return NodeAt(colder_); }
  EvictionNode* warmer() const { return NodeAt(warmer_); }
  void set_colder(EvictionNode* node) { colder_ = AddressOf(node) & kAddressMax; }
  void set_warmer(EvictionNode* node) { warmer_ = AddressOf(node) & kAddressMax; }
  uint8_t worth() const { return static_cast<uint8_t>(worth_); }
  void set_worth(uint8_t worth) { worth_ = worth & kWorthMax; }
  uint8_t queue() const { return static_cast<uint8_t>(queue_); }
  void set_queue(uint8_t queue) { queue_ = queue & kQueueMax; }
  uint8_t uses() const { return static_cast<uint8_t>(uses_); }
  void set_uses(uint8_t uses) { uses_ = uses & kUsesMax; }
  uint32_t time() const {
    return static_cast<uint32_t>((time_high_ << kTimeLowBits) | uintptr_t{time_low_});
  }
  void set_time(uint32_t time) {
    time_high_ = (time >> kTimeLowBits) & kTimeHighMax;
    time_low_ = time & kTimeLowMax;
  }

  uintptr_t colder_ : kAddressBits;
  uintptr_t worth_ : 4;
  uintptr_t queue_ : 2;  // 0: in none.
  uintptr_t uses_ : 2;
  uintptr_t time_high_ : 12;
  uintptr_t warmer_ : kAddressBits;
  uintptr_t : 4;
  uintptr_t time_low_ : kTimeLowBits;
};
static_assert(sizeof(EvictionNode) == 16);

// Which copy leaves a tier next. Bookkeeping only: no lock, nothing per copy but its node, no
// knowledge of what may leave (the caller asks again when it may not). What a policy remembers of
// copies that have left is bounded (GhostList). The simulator and the store run the same code.
//
// Under every policy a copy that takes longer to compute, a byte, stays longer in the queue that it
// is in (NodeQueue).
class EvictionPolicy {
 public:
  // What a policy has to know of a copy. Constant while it is tracked.
  struct Copy {
    uint64_t key_hash = 0;
    uint64_t bytes = 0;
    TensorClass tensor_class = TensorClass::kGeneral;
    uint8_t worth = kWorthUnknown;  // What its bytes are worth (worth.h).
  };
  using Describe = Copy (*)(const EvictionNode& node);

  virtual ~EvictionPolicy() = default;

  // These tensors are about to be used together, whether they are there or not: the blocks of a
  // prompt, first to last, each of use only with all before it. What of them comes or is touched
  // soon is ordered so that the last leaves first; and a hit is one that such a chain begins with.
  virtual void Request(absl::Span<const uint64_t> /*key_hashes*/) {}
  // A copy came into the tier.
  virtual void Track(EvictionNode* node) = 0;
  // One that was picked stays: it is in use. It goes where it is picked after the rest, so that a
  // search for what may leave comes to all.
  virtual void Keep(EvictionNode* node) = 0;
  // It was used. Nothing to do when it is not tracked. Of a chain, the last first.
  virtual void Touch(EvictionNode* node) = 0;
  // It left, and not for lack of room. Nothing to do when it is not tracked.
  virtual void Forget(EvictionNode* node) = 0;
  // The next to leave, no longer tracked; null when nothing is, or only what classes are to keep.
  virtual EvictionNode* Pick() = 0;

  virtual uint64_t size() const = 0;
  // What the tier has room for: classes have shares of that.
  virtual void SetBytesMax(uint64_t /*bytes_max*/) {}
  // The share of it that is new, or on its way out; 1 where that is no matter.
  virtual double probation_share() const { return 1; }

  // What it is made of, for those who keep what it knows beyond its life (snapshot.h): always as
  // many, in the same order, pool by pool. A copy that was in queue i and is gone is remembered in
  // ghost list i, or in the last.
  struct Parts {
    ChainClock* clock = nullptr;
    std::vector<NodeQueue*> queues;
    std::vector<GhostList*> ghosts;
    size_t pools = 1;           // Of classes, if there are several; all of one kind.
    NodeQueue* next = nullptr;  // Where the next to leave is.
  };
  virtual Parts parts() = 0;
  // What else it has found out, as numbers, in `words_max` (at least 32) of them; and takes it back
  // before it is used. What is not of this policy changes nothing.
  virtual std::vector<uint64_t> Findings(size_t /*words_max*/) const { return {}; }
  virtual void TakeFindings(absl::Span<const uint64_t> /*findings*/) {}
};

// A tier's pools (class_pools.h).
struct PoolOptions {
  bool by_class = true;  // Else one for all.
  ClassShares shares;
};
std::unique_ptr<EvictionPolicy> NewEvictionPolicy(EvictionKind kind,
                                                  EvictionPolicy::Describe describe,
                                                  const PoolOptions& options = {});

}  // namespace cairn
