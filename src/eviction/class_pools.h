#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "cairn/options.h"
#include "cairn/tensor.h"
#include "src/eviction/chain_clock.h"
#include "src/eviction/node_queue.h"
#include "src/eviction/policy.h"
#include "src/eviction/shadow_caches.h"

namespace cairn {

// Bytes of each TensorClass.
using ClassBytes = std::array<uint64_t, kTensorClasses>;

// A tier's copies in pools, one for each class of tensors, over the same memory: each has a policy
// of its own, and what leaves next comes from the pool that is most over its part. The parts follow
// what is hit: shadows of each pool say what it would hit in a sixteenth of the tier, an eighth,
// ... and in all of it, and the tier is given away piece by piece to who hits most with it, in
// bytes times what they are worth.
// What a class does not fill others use. With one class alone it is that policy and nothing else.
class ClassPools final : public EvictionPolicy {
 public:
  ClassPools(EvictionKind kind, Describe describe, const PoolOptions& options);
  ClassPools(const ClassPools&) = delete;
  ClassPools& operator=(const ClassPools&) = delete;

  void Request(absl::Span<const uint64_t> key_hashes) override;
  void Track(EvictionNode* node) override;
  void Keep(EvictionNode* node) override;
  void Touch(EvictionNode* node) override;
  void Forget(EvictionNode* node) override;
  // As NodeQueue::Replace. Nothing to do when it is not tracked.
  void Replace(EvictionNode* node, EvictionNode* successor);
  EvictionNode* Pick() override { return Pick(PickOptions()); }
  uint64_t size() const override;
  // Of each TensorClass; with one pool for all, the first has all.
  std::array<uint64_t, kTensorClasses> sizes() const;
  void SetBytesMax(uint64_t bytes_max) override { bytes_max_ = bytes_max; }
  Parts parts() override;
  std::vector<uint64_t> Findings(size_t words_max) const override;
  void TakeFindings(absl::Span<const uint64_t> findings) override;

  struct PickOptions {
    // When the search began of which this is a part (now): what stays since is picked after the
    // rest of its pool.
    std::optional<uint32_t> begun;
    // Also of what a class is to keep (ClassShare::min).
    bool of_any = false;
    uint32_t without = 0;  // The classes of these bits.
    // What each has in the tier, with what is not tracked.
    ClassBytes bytes = {};
  };
  EvictionNode* Pick(const PickOptions& options);
  uint32_t now() const { return clock_.last(); }

 private:
  struct Pool {
    std::unique_ptr<EvictionPolicy> policy;
    Parts parts;
    ShadowCaches sizes{ShadowCaches::Compare::kSizes};
    ClassShare share;
    bool seen = false;
    double bytes_wanted = 0;
    double copy_bytes = 1;  // On average.
    double copy_worth = 1;
  };
  // A part of the tier, and what a class hits more with it than without, for each byte of it.
  struct Gain {
    double hit_worth = 0;
    double share = 0;
    size_t pool = 0;
  };
  // A request of a class that is not known before one of its keys is there.
  struct OpenRequest {
    uint32_t number = 0;  // ChainClock::RequestOf; 0: none.
    std::vector<uint64_t> key_hashes;
  };
  static constexpr size_t kOpenRequests = 64;

  Pool& PoolOf(TensorClass tensor_class) {
    return pools_[pools_.size() == 1 ? 0 : static_cast<size_t>(tensor_class)];
  }
  Pool& Use(const Copy& copy);
  void Count(Pool& pool, absl::Span<const uint64_t> key_hashes);
  Pool* Victim(const PickOptions& options);
  bool MayLeave(size_t number, const PickOptions& options) const;
  double Excess(size_t number, const PickOptions& options) const;
  void Rebalance();
  void AddGains(size_t number, std::vector<Gain>& gains) const;

  const Describe describe_;
  ChainClock clock_;
  std::vector<Pool> pools_;  // One, or one for each class.
  // What each holds, side by side, as it is asked for whenever one has to leave.
  std::array<NodeQueue::Held, kTensorClasses> held_;
  std::array<OpenRequest, kOpenRequests> open_requests_;
  uint64_t bytes_max_ = 0;   // 0: not known, and no share of it either.
  bool full_ = false;        // Something had to leave.
  uint64_t bytes_used_ = 0;  // Since the last Rebalance.
  uint64_t rebalances_ = 0;
  size_t pools_seen_ = 0;
};

}  // namespace cairn
