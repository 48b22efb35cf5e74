// ARC (Megiddo and Modha, FAST '03): what was used once and what was used again, in LRU order each,
// share the cache. Where a key comes back after it left says which of them is to grow.

#include <algorithm>
#include <vector>

#include "src/eviction/chain_clock.h"
#include "src/eviction/ghost_list.h"
#include "src/eviction/node_queue.h"
#include "src/eviction/policies.h"

namespace cairn {
namespace {

class ArcPolicy final : public EvictionPolicy {
 public:
  ArcPolicy(Describe describe, ChainClock* clock)
      : describe_(describe), clock_(clock), once_(1, describe), again_(2, describe) {}

  void Track(EvictionNode* node) override {
    const Copy copy = describe_(*node);
    const uint64_t ghosts_once = ghosts_once_.size();
    const uint64_t ghosts_again = ghosts_again_.size();
    const bool was_once = ghosts_once_.Take(copy.key_hash);
    const bool was_again = !was_once && ghosts_again_.Take(copy.key_hash);
    if (was_once) {
      once_bytes_wanted_ += Step(copy.bytes, ghosts_again, ghosts_once);
      once_bytes_wanted_ = std::min(once_bytes_wanted_, bytes() + copy.bytes);
    } else if (was_again) {
      const uint64_t step = Step(copy.bytes, ghosts_once, ghosts_again);
      once_bytes_wanted_ -= std::min(once_bytes_wanted_, step);
    }
    (was_once || was_again ? again_ : once_).Push(node, clock_->UseOf(copy.key_hash, copy.worth));
  }

  // In the other list, or one that is all in use would be picked from for ever.
  void Keep(EvictionNode* node) override {
    (picked_from_once_ ? ghosts_once_ : ghosts_again_).Take(describe_(*node).key_hash);
    (picked_from_once_ ? again_ : once_).PushAgain(node, clock_->Now());
  }

  void Touch(EvictionNode* node) override {
    if (!node->tracked()) return;
    Forget(node);
    const Copy copy = describe_(*node);
    again_.Push(node, clock_->UseOf(copy.key_hash, copy.worth));
  }

  void Forget(EvictionNode* node) override {
    if (!node->tracked()) return;
    (once_.Has(*node) ? once_ : again_).Remove(node);
  }

  EvictionNode* Pick() override {
    const uint64_t copies = size();
    if (copies == 0) return nullptr;
    picked_from_once_ =
        once_.size() > 0 && (again_.size() == 0 || once_.bytes() > once_bytes_wanted_);
    EvictionNode* const node = (picked_from_once_ ? once_ : again_).Pop(*clock_);
    // Both lists remember, together, as many as the cache holds.
    if (picked_from_once_) {
      ghosts_once_.Add(describe_(*node).key_hash, copies - once_.size());
    } else {
      ghosts_again_.Add(describe_(*node).key_hash,
                        copies - std::min(copies - 1, ghosts_once_.size()));
    }
    return node;
  }

  uint64_t size() const override { return once_.size() + again_.size(); }

  Parts parts() override { return {clock_, {&once_, &again_}, {&ghosts_once_, &ghosts_again_}}; }
  std::vector<uint64_t> Findings(size_t /*words_max*/) const override {
    return {once_bytes_wanted_};
  }
  void TakeFindings(absl::Span<const uint64_t> findings) override {
    if (findings.size() == 1) once_bytes_wanted_ = findings[0];
  }

 private:
  uint64_t bytes() const { return once_.bytes() + again_.bytes(); }
  static uint64_t Step(uint64_t copy_bytes, uint64_t ghosts_other, uint64_t ghosts_own) {
    return copy_bytes * std::max<uint64_t>(1, ghosts_other / std::max<uint64_t>(1, ghosts_own));
  }

  const Describe describe_;
  ChainClock* const clock_;
  NodeQueue once_;
  NodeQueue again_;
  GhostList ghosts_once_;
  GhostList ghosts_again_;
  uint64_t once_bytes_wanted_ = 0;
  bool picked_from_once_ = false;  // The last.
};

}  // namespace

std::unique_ptr<EvictionPolicy> NewArcPolicy(EvictionPolicy::Describe describe, ChainClock* clock) {
  return std::make_unique<ArcPolicy>(describe, clock);
}

}  // namespace cairn
