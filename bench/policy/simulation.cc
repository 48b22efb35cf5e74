#include "bench/policy/simulation.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "bench/peers/usage.h"
#include "src/admission/policy.h"
#include "src/base/check.h"
#include "src/eviction/policy.h"
#include "src/eviction/snapshot.h"
#include "src/eviction/worth.h"

namespace cairn::policy {
namespace {

// What a run takes is the median of so many, or of as many as are done in this time.
constexpr size_t kRunsMax = 5;
constexpr double kSecondsEnough = 0.5;

// What the store has an entry for.
struct Block final : EvictionNode {
  uint64_t key_hash = 0;
  bool present = false;
  uint8_t worth = kWorthUnknown;
};

EvictionPolicy::Copy Describe(const EvictionNode& node) {
  const auto& block = static_cast<const Block&>(node);
  return {.key_hash = block.key_hash, .bytes = 1, .worth = block.worth};
}

class Tier {
 public:
  Tier(const Workload& workload, EvictionKind kind, const OneTier& tier)
      : kind_(kind),
        tier_(tier),
        policy_(NewEvictionPolicy(kind, Describe)),
        blocks_(workload.blocks) {
    for (uint32_t i = 0; i < workload.blocks; ++i) blocks_[i].key_hash = workload.key_hashes[i];
    if (!tier.tell_costs) return;
    for (size_t i = 0; i < workload.costs.size(); ++i) {
      blocks_[i].worth = WorthOf(RecomputeLevel(absl::Nanoseconds(workload.costs[i]), 1));
    }
  }

  void Serve(const Workload& workload, size_t number, Outcome& outcome) {
    const std::vector<size_t>& restarts = tier_.restarts;
    for (; restart_ < restarts.size() && restarts[restart_] <= number; ++restart_) Restart();
    const std::vector<uint32_t>& request = workload.requests[number];
    hashes_.clear();
    for (const uint32_t block : request) hashes_.push_back(blocks_[block].key_hash);
    policy_->Request(hashes_);
    size_t hits = 0;
    while (hits < request.size() && blocks_[request[hits]].present) ++hits;
    outcome.hits += hits;
    for (size_t i = 0; i < hits && !workload.costs.empty(); ++i) {
      outcome.hit_cost += workload.costs[request[i]];
    }
    for (size_t i = hits; i-- > 0;) policy_->Touch(&blocks_[request[i]]);
    for (size_t i = hits; i < request.size(); ++i) Put(blocks_[request[i]], outcome);
  }

 private:
  // As bytes, as the store keeps it.
  void Restart() {
    std::string bytes;
    uint32_t pieces = 0;
    SnapshotPiece piece;
    for (SnapshotReader reader(policy_.get(), UINT64_MAX); reader.Next(&piece); ++pieces) {
      AppendPiece(piece, bytes);
    }
    AppendEnd(pieces, bytes);
    while (policy_->Pick() != nullptr) {
    }
    policy_ = NewEvictionPolicy(kind_, Describe);
    absl::flat_hash_map<uint64_t, EvictionNode*> present;
    for (Block& block : blocks_) {
      if (block.present) present[block.key_hash] = &block;
    }
    const absl::Status status = DecodePieces(bytes, [&](const SnapshotPiece& decoded) {
      std::vector<EvictionNode*> nodes;
      if (decoded.kind == SnapshotPiece::Kind::kCopies) {
        for (const uint64_t key_hash : decoded.words) nodes.push_back(present[key_hash]);
      }
      Restore(policy_.get(), decoded, nodes);
    });
    CAIRN_CHECK(status.ok());
  }

  void Put(Block& block, Outcome& outcome) {
    if (block.present) {
      policy_->Touch(&block);
      return;
    }
    for (; blocks_present_ >= tier_.blocks_max; --blocks_present_) {
      static_cast<Block*>(policy_->Pick())->present = false;
    }
    block.present = true;
    policy_->Track(&block);
    ++blocks_present_;
    ++outcome.writes;
  }

  const EvictionKind kind_;
  const OneTier tier_;
  size_t restart_ = 0;  // The next of them.
  std::unique_ptr<EvictionPolicy> policy_;
  std::vector<Block> blocks_;
  uint64_t blocks_present_ = 0;
  std::vector<uint64_t> hashes_;
};

constexpr uint64_t kBurstShare = 20;

AdmissionPolicy::Options AdmissionOptions(const Workload& workload, const Tiers& tiers) {
  const uint64_t bytes_per_day = *tiers.write_bytes_per_day;
  const double granted = static_cast<double>(bytes_per_day) * workload.span_days();
  return {.budget = {.bytes_per_day = bytes_per_day,
                     .burst_bytes = static_cast<uint64_t>(granted) / kBurstShare},
          .l3_bytes_max = tiers.l3_blocks_max * tiers.block_bytes};
}

// L3 has what L2 has, but for what it was refused; as in the store, what leaves L3 leaves both.
class TwoTiers {
 public:
  TwoTiers(const Workload& workload, EvictionKind kind, const Tiers& tiers)
      : tiers_(tiers),
        l2_policy_(NewEvictionPolicy(kind, Describe)),
        l3_policy_(NewEvictionPolicy(kind, Describe)),
        l2_(workload.blocks),
        l3_(workload.blocks) {
    for (uint32_t i = 0; i < workload.blocks; ++i) {
      l2_[i].key_hash = l3_[i].key_hash = workload.key_hashes[i];
    }
    if (tiers.write_bytes_per_day.has_value()) {
      admission_.emplace(AdmissionOptions(workload, tiers));
    }
  }

  void Serve(const Workload& workload, size_t number, Outcome& outcome) {
    const std::vector<uint32_t>& request = workload.requests[number];
    now_ms_ = workload.times_ms[number];
    hashes_.clear();
    for (const uint32_t block : request) hashes_.push_back(l3_[block].key_hash);
    l2_policy_->Request(hashes_);
    l3_policy_->Request(hashes_);
    if (admission_.has_value()) admission_->Request(hashes_);
    const auto partial = [&](size_t i) {
      return i + 1 == request.size() && workload.ends_in_partial[number];
    };
    size_t hits = 0;
    while (hits < request.size() && Present(request[hits])) ++hits;
    outcome.hits += hits;
    for (size_t i = hits; i-- > 0;) Use(request[i], partial(i), outcome);
    for (size_t i = 0; i < hits; ++i) {
      if (!l2_[request[i]].present) ToL2(request[i]);
    }
    for (size_t i = hits; i < request.size(); ++i) {
      if (Present(request[i])) {
        Use(request[i], partial(i), outcome);
      } else {
        ToL2(request[i]);
        MaybeToL3(request[i], partial(i), outcome);
      }
    }
  }

 private:
  bool Present(uint32_t block) const { return l2_[block].present || l3_[block].present; }

  void Use(uint32_t block, bool partial, Outcome& outcome) {
    l2_policy_->Touch(&l2_[block]);
    l3_policy_->Touch(&l3_[block]);
    if (!l3_[block].present) MaybeToL3(block, partial, outcome);
  }

  void ToL2(uint32_t block) {
    while (l2_policy_->size() >= tiers_.l2_blocks_max) {
      static_cast<Block*>(l2_policy_->Pick())->present = false;
    }
    l2_[block].present = true;
    l2_policy_->Track(&l2_[block]);
  }

  void MaybeToL3(uint32_t block, bool partial, Outcome& outcome) {
    if (admission_.has_value() &&
        !Admitted(admission_->Decide(
            {.key_hash = l3_[block].key_hash, .bytes = tiers_.block_bytes, .partial = partial},
            now_ms_))) {
      return;
    }
    while (l3_policy_->size() >= tiers_.l3_blocks_max) LeaveL3();
    l3_[block].present = true;
    l3_policy_->Track(&l3_[block]);
    ++outcome.writes;
  }

  void LeaveL3() {
    auto* const left = static_cast<Block*>(l3_policy_->Pick());
    left->present = false;
    Block& in_l2 = l2_[static_cast<size_t>(left - l3_.data())];
    l2_policy_->Forget(&in_l2);
    in_l2.present = false;
    if (admission_.has_value()) admission_->Left(left->key_hash);
  }

  const Tiers tiers_;
  const std::unique_ptr<EvictionPolicy> l2_policy_;
  const std::unique_ptr<EvictionPolicy> l3_policy_;
  std::optional<AdmissionPolicy> admission_;
  std::vector<Block> l2_;
  std::vector<Block> l3_;
  std::vector<uint64_t> hashes_;
  int64_t now_ms_ = 0;
};

// CPU time of a run that makes its tiers, and serves all requests to them.
template <class Cache>
Outcome Measure(const Workload& workload, const std::function<Cache()>& make) {
  Outcome outcome;
  std::vector<double> seconds;
  double all_seconds = 0;
  while (seconds.empty() || (seconds.size() < kRunsMax && all_seconds < kSecondsEnough)) {
    Cache cache = make();
    outcome = {};
    const double begin_s = peers::ThreadCpuSeconds();
    for (size_t i = 0; i < workload.requests.size(); ++i) cache.Serve(workload, i, outcome);
    seconds.push_back(peers::ThreadCpuSeconds() - begin_s);
    all_seconds += seconds.back();
  }
  const auto middle = seconds.begin() + static_cast<ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  outcome.seconds = *middle;
  return outcome;
}

}  // namespace

Outcome Simulate(const Workload& workload, EvictionKind kind, const OneTier& tier) {
  return Measure<Tier>(workload, [&] { return Tier(workload, kind, tier); });
}

Outcome SimulateTiers(const Workload& workload, EvictionKind kind, const Tiers& tiers) {
  return Measure<TwoTiers>(workload, [&] { return TwoTiers(workload, kind, tiers); });
}

}  // namespace cairn::policy
