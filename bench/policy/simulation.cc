#include "bench/policy/simulation.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "bench/peers/usage.h"
#include "src/eviction/policy.h"

namespace cairn::policy {
namespace {

// What a run takes is the median of so many, or of as many as are done in this time.
constexpr size_t kRunsMax = 5;
constexpr double kSecondsEnough = 0.5;

// What the store has an entry for.
struct Block final : EvictionNode {
  uint64_t key_hash = 0;
  bool present = false;
};

EvictionPolicy::Copy Describe(const EvictionNode& node) {
  return {.key_hash = static_cast<const Block&>(node).key_hash, .bytes = 1};
}

class Tier {
 public:
  Tier(const Workload& workload, EvictionKind kind, uint64_t blocks_max)
      : blocks_max_(blocks_max),
        policy_(NewEvictionPolicy(kind, Describe)),
        blocks_(workload.blocks) {
    for (uint32_t i = 0; i < workload.blocks; ++i) blocks_[i].key_hash = workload.key_hashes[i];
  }

  void Serve(const std::vector<uint32_t>& request, Outcome& outcome) {
    hashes_.clear();
    for (const uint32_t number : request) hashes_.push_back(blocks_[number].key_hash);
    policy_->Request(hashes_);
    size_t hits = 0;
    while (hits < request.size() && blocks_[request[hits]].present) ++hits;
    outcome.hits += hits;
    for (size_t i = hits; i-- > 0;) policy_->Touch(&blocks_[request[i]]);
    for (size_t i = hits; i < request.size(); ++i) Put(blocks_[request[i]], outcome);
  }

 private:
  void Put(Block& block, Outcome& outcome) {
    if (block.present) {
      policy_->Touch(&block);
      return;
    }
    while (policy_->size() >= blocks_max_) static_cast<Block*>(policy_->Pick())->present = false;
    block.present = true;
    policy_->Track(&block);
    ++outcome.writes;
  }

  const uint64_t blocks_max_;
  const std::unique_ptr<EvictionPolicy> policy_;
  std::vector<Block> blocks_;
  std::vector<uint64_t> hashes_;
};

}  // namespace

Outcome Simulate(const Workload& workload, EvictionKind kind, uint64_t blocks_max) {
  Outcome outcome;
  std::vector<double> seconds;
  double all_seconds = 0;
  while (seconds.empty() || (seconds.size() < kRunsMax && all_seconds < kSecondsEnough)) {
    Tier tier(workload, kind, blocks_max);
    outcome = {};
    const double begin_s = peers::ThreadCpuSeconds();
    for (const std::vector<uint32_t>& request : workload.requests) tier.Serve(request, outcome);
    seconds.push_back(peers::ThreadCpuSeconds() - begin_s);
    all_seconds += seconds.back();
  }
  const auto middle = seconds.begin() + static_cast<ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  outcome.seconds = *middle;
  return outcome;
}

}  // namespace cairn::policy
