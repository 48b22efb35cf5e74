// The default: what is new is on probation, what was used again, or comes back after it left, is in
// the main queue. As in S3-FIFO, but
// - keys that left are remembered four times as long as the cache is large: they take a few bytes
//   beside megabytes;
// - how much of the cache is for probation is what shadow caches find best;
// - the main queue is in LRU order, and what leaves it goes through probation once more: so a cache
//   that is all probation is LRU, and the shadow that is so keeps this policy from ever being
//   worse.

#include <algorithm>
#include <vector>

#include "src/eviction/chain_clock.h"
#include "src/eviction/ghost_list.h"
#include "src/eviction/node_queue.h"
#include "src/eviction/policies.h"
#include "src/eviction/shadow_caches.h"

namespace cairn {
namespace {

constexpr int kDemotionsMax = 16;
constexpr uint64_t kHighWaterPicks = 4096;  // In which a mark that is not reached falls.

class TunedPolicy final : public EvictionPolicy {
 public:
  TunedPolicy(Describe describe, ChainClock* clock)
      : describe_(describe), clock_(clock), probation_(1, describe), main_(2, describe) {}

  void Request(absl::Span<const uint64_t> key_hashes) override { shadows_.Request(key_hashes); }

  void Track(EvictionNode* node) override {
    const Copy copy = describe_(*node);
    if (ghosts_.Take(copy.key_hash)) return PushProven(node, copy);
    probation_.Push(node, clock_->UseOf(copy.key_hash, copy.worth));
  }

  // Probation is picked from first.
  void Keep(EvictionNode* node) override {
    ghosts_.Take(describe_(*node).key_hash);
    main_.PushAgain(node, clock_->Now());
  }

  void Touch(EvictionNode* node) override {
    if (!node->tracked()) return;
    Forget(node);
    PushProven(node, describe_(*node));
  }

  void Forget(EvictionNode* node) override {
    if (!node->tracked()) return;
    (probation_.Has(*node) ? probation_ : main_).Remove(node);
  }

  EvictionNode* Pick() override {
    if (size() == 0) return nullptr;
    capacity_copies_ = HighWater(capacity_copies_, size());
    capacity_bytes_ = HighWater(capacity_bytes_, probation_.bytes() + main_.bytes());
    shadows_.SetCapacity(capacity_copies_);
    EvictionNode* const node = (probation_.size() > 0 ? probation_ : main_).Pop(*clock_);
    ghosts_.Add(describe_(*node).key_hash, ShadowCaches::kGhostsPerCopy * capacity_copies_);
    return node;
  }

  uint64_t size() const override { return probation_.size() + main_.size(); }
  double probation_share() const override { return shadows_.best_share(); }

  Parts parts() override { return {clock_, {&probation_, &main_}, {&ghosts_}}; }
  std::vector<uint64_t> Findings(size_t words_max) const override {
    std::vector<uint64_t> findings = {capacity_copies_, capacity_bytes_};
    const std::vector<uint64_t> of_shadows = shadows_.Findings(words_max - findings.size());
    findings.insert(findings.end(), of_shadows.begin(), of_shadows.end());
    return findings;
  }
  void TakeFindings(absl::Span<const uint64_t> findings) override {
    if (findings.size() < 2 || !shadows_.TakeFindings(findings.subspan(2))) return;
    capacity_copies_ = findings[0];
    capacity_bytes_ = findings[1];
  }

 private:
  void PushProven(EvictionNode* node, const Copy& copy) {
    const ChainClock::Use use = clock_->UseOf(copy.key_hash, copy.worth);
    const double main_share = 1 - shadows_.best_share();
    (main_share > 0 ? main_ : probation_).Push(node, use);
    // What the main queue has no room for. More than a few only after the share has changed.
    const uint64_t bytes = std::max(capacity_bytes_, probation_.bytes() + main_.bytes());
    const auto main_max = static_cast<uint64_t>(main_share * static_cast<double>(bytes));
    for (int i = 0; main_.bytes() > main_max && i < kDemotionsMax; ++i) {
      probation_.PushAgain(main_.Pop(*clock_), clock_->Now());
    }
  }

  // What the tier holds when it is full. What is on its way into it takes room and is not tracked
  // yet: a burst of it must not be taken for a smaller tier, in which less is proven.
  static uint64_t HighWater(uint64_t mark, uint64_t now) {
    return std::max(now, mark - mark / kHighWaterPicks);
  }

  const Describe describe_;
  ChainClock* const clock_;
  ShadowCaches shadows_;
  NodeQueue probation_;
  NodeQueue main_;
  GhostList ghosts_;
  uint64_t capacity_copies_ = 0;
  uint64_t capacity_bytes_ = 0;
};

}  // namespace

std::unique_ptr<EvictionPolicy> NewTunedPolicy(EvictionPolicy::Describe describe,
                                               ChainClock* clock) {
  return std::make_unique<TunedPolicy>(describe, clock);
}

}  // namespace cairn
