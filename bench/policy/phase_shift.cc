#include "bench/policy/phase_shift.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <queue>

#include "absl/container/flat_hash_map.h"
#include "bench/peers/usage.h"
#include "src/eviction/policy.h"
#include "tools/offload/block_content.h"
#include "tools/offload/workload.h"

namespace cairn::policy {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kKvBytes = kMiB * 9 / 4;
constexpr uint64_t kVisionBytes = 8 * kMiB;
constexpr double kMajority = 0.9;
constexpr uint64_t kPopularImages = 4096;
constexpr double kPopularProbability = 0.5;
// As the sessions of offload::GenerateWorkload.
constexpr std::array<double, 4> kReturnProbability = {0.24, 0.42, 0.50, 0.58};
constexpr double kPauseRequestsP50 = 600;
constexpr double kPauseRequestsP90 = 2700;
constexpr uint64_t kKvRequestsAtATime = 1000;

class Images {
 public:
  explicit Images(uint64_t seed) : state_(offload::Scramble(seed ^ 0x696d61676573)) {
    double sum = 0;
    for (uint64_t n = 0; n < kPopularImages; ++n) {
      bounds_.push_back(sum += 1.0 / static_cast<double>(n + 1));
    }
  }

  uint64_t Next() {
    ++now_;
    Return image = Take();
    const size_t turn = std::min(image.turns, kReturnProbability.size() - 1);
    if (Fraction() < kReturnProbability[turn]) {
      returns_.push({now_ + 1 + Pause(), image.id, image.turns + 1});
    }
    return image.id;
  }

 private:
  struct Return {
    uint64_t at = 0;
    uint64_t id = 0;
    size_t turns = 0;
    friend bool operator<(const Return& a, const Return& b) { return a.at > b.at; }
  };

  Return Take() {
    if (!returns_.empty() && returns_.top().at <= now_) {
      const Return image = returns_.top();
      returns_.pop();
      return image;
    }
    if (Fraction() >= kPopularProbability) return {.id = kPopularImages + new_images_++};
    const auto bound =
        std::upper_bound(bounds_.begin(), bounds_.end(), Fraction() * bounds_.back());
    return {.id = static_cast<uint64_t>(bound - bounds_.begin())};
  }

  double Fraction() { return static_cast<double>(offload::Scramble(state_++) >> 11) * 0x1p-53; }
  uint64_t Pause() {
    constexpr double kZ90 = 1.2815515655446004;
    const double sigma = std::log(kPauseRequestsP90 / kPauseRequestsP50) / kZ90;
    const double radius = std::sqrt(-2 * std::log1p(-Fraction()));
    const double normal = radius * std::cos(2 * std::numbers::pi * Fraction());
    return static_cast<uint64_t>(kPauseRequestsP50 * std::exp(sigma * normal));
  }

  uint64_t state_;
  uint64_t now_ = 0;
  uint64_t new_images_ = 0;
  std::vector<double> bounds_;
  std::priority_queue<Return> returns_;
};

class Generator {
 public:
  Generator(uint64_t seed, PhaseShift& shift) : seed_(seed), images_(seed), shift_(shift) {}

  void AddPhase(uint32_t phase, uint64_t bytes) {
    const double kv_share = phase == 0 ? kMajority : 1 - kMajority;
    double kv_bytes = 0;
    double vision_bytes = 0;
    while (kv_bytes + vision_bytes < static_cast<double>(bytes)) {
      const bool kv = kv_bytes * (1 - kv_share) <= vision_bytes * kv_share;
      PhaseShift::Request& request = shift_.requests.emplace_back();
      request.phase = phase;
      request.tensor_class = kv ? TensorClass::kKv : TensorClass::kVision;
      if (kv) {
        for (const uint64_t id : NextKv()) request.blocks.push_back(NumberOf(id, true));
      } else {
        request.blocks.push_back(NumberOf(images_.Next(), false));
      }
      shift_.accesses += request.blocks.size();
      const uint64_t asked = request.blocks.size() * PhaseShift::BytesOf(request.tensor_class);
      (kv ? kv_bytes : vision_bytes) += static_cast<double>(asked);
      shift_.bytes[phase] += asked;
    }
  }

 private:
  // The generated workload does not depend on how many requests of it are asked for.
  const std::vector<uint64_t>& NextKv() {
    if (next_kv_ == trace_.requests.size()) {
      const uint64_t requests = std::max(kKvRequestsAtATime, 2 * next_kv_);
      trace_ = offload::GenerateWorkload({.seed = seed_, .requests = requests, .block_tokens = 16});
    }
    return trace_.requests[next_kv_++].block_ids;
  }

  uint32_t NumberOf(uint64_t id, bool kv) {
    const auto next = static_cast<uint32_t>(shift_.key_hashes.size());
    const auto [found, is_new] = (kv ? kv_numbers_ : vision_numbers_).try_emplace(id, next);
    if (is_new) {
      const TensorClass tensor_class = kv ? TensorClass::kKv : TensorClass::kVision;
      shift_.key_hashes.push_back(offload::Scramble(next));
      shift_.classes.push_back(tensor_class);
      shift_.distinct_bytes += PhaseShift::BytesOf(tensor_class);
    }
    return found->second;
  }

  const uint64_t seed_;
  Images images_;
  PhaseShift& shift_;
  offload::Trace trace_;
  uint64_t next_kv_ = 0;
  absl::flat_hash_map<uint64_t, uint32_t> kv_numbers_;
  absl::flat_hash_map<uint64_t, uint32_t> vision_numbers_;
};

struct PhaseBlock final : EvictionNode {
  uint64_t key_hash = 0;
  TensorClass tensor_class = TensorClass::kKv;
  bool present = false;
};

EvictionPolicy::Copy DescribePhaseBlock(const EvictionNode& node) {
  const auto& block = static_cast<const PhaseBlock&>(node);
  return {block.key_hash, PhaseShift::BytesOf(block.tensor_class), block.tensor_class};
}

struct PhaseTier {
  std::unique_ptr<EvictionPolicy> policy;
  uint64_t bytes_max = 0;
  uint64_t bytes = 0;

  PhaseTier(EvictionKind kind, uint64_t room, const PoolOptions& options)
      : policy(NewEvictionPolicy(kind, DescribePhaseBlock, options)), bytes_max(room) {
    policy->SetBytesMax(bytes_max);
  }

  void Put(PhaseBlock& block) {
    if (block.present) return policy->Touch(&block);
    const uint64_t block_bytes = PhaseShift::BytesOf(block.tensor_class);
    if (block_bytes > bytes_max) return;
    while (bytes + block_bytes > bytes_max) {
      auto* const left = static_cast<PhaseBlock*>(policy->Pick());
      left->present = false;
      bytes -= PhaseShift::BytesOf(left->tensor_class);
    }
    block.present = true;
    bytes += block_bytes;
    policy->Track(&block);
  }
};

// Each class in its tier.
PhaseOutcome Run(const PhaseShift& shift, PhaseTier& kv, PhaseTier& vision) {
  std::vector<PhaseBlock> blocks(shift.key_hashes.size());
  for (size_t i = 0; i < blocks.size(); ++i) {
    blocks[i].key_hash = shift.key_hashes[i];
    blocks[i].tensor_class = shift.classes[i];
  }
  PhaseOutcome outcome;
  std::vector<uint64_t> hashes;
  const double begin_s = peers::ThreadCpuSeconds();
  for (const PhaseShift::Request& request : shift.requests) {
    PhaseTier& tier = request.tensor_class == TensorClass::kKv ? kv : vision;
    hashes.clear();
    for (const uint32_t block : request.blocks) hashes.push_back(blocks[block].key_hash);
    tier.policy->Request(hashes);
    size_t hits = 0;
    while (hits < request.blocks.size() && blocks[request.blocks[hits]].present) ++hits;
    outcome.hit_bytes[request.phase] += hits * PhaseShift::BytesOf(request.tensor_class);
    for (size_t i = hits; i-- > 0;) tier.policy->Touch(&blocks[request.blocks[i]]);
    for (size_t i = hits; i < request.blocks.size(); ++i) tier.Put(blocks[request.blocks[i]]);
  }
  outcome.seconds = peers::ThreadCpuSeconds() - begin_s;
  return outcome;
}

}  // namespace

uint64_t PhaseShift::BytesOf(TensorClass tensor_class) {
  return tensor_class == TensorClass::kKv ? kKvBytes : kVisionBytes;
}

PhaseShift GeneratePhaseShift(uint64_t seed, uint64_t bytes_a_phase) {
  PhaseShift shift;
  Generator generator(seed, shift);
  for (uint32_t phase = 0; phase < PhaseShift::kPhases; ++phase) {
    generator.AddPhase(phase, bytes_a_phase);
  }
  return shift;
}

PhaseOutcome SimulatePools(const PhaseShift& shift, EvictionKind kind, uint64_t bytes_max,
                           bool by_class, const ClassShares& shares) {
  PhaseTier tier(kind, bytes_max, {.by_class = by_class, .shares = shares});
  return Run(shift, tier, tier);
}

PhaseOutcome SimulateSplit(const PhaseShift& shift, EvictionKind kind, uint64_t bytes_max,
                           double kv_share) {
  const auto kv_bytes = static_cast<uint64_t>(kv_share * static_cast<double>(bytes_max));
  PhaseTier kv(kind, kv_bytes, {.by_class = false});
  PhaseTier vision(kind, bytes_max - kv_bytes, {.by_class = false});
  return Run(shift, kv, vision);
}

}  // namespace cairn::policy
