// CLOCK: first in, first out, but what was used since it came to the warm end goes there again.

#include "src/eviction/chain_clock.h"
#include "src/eviction/node_queue.h"
#include "src/eviction/policies.h"

namespace cairn {
namespace {

class ClockPolicy final : public EvictionPolicy {
 public:
  ClockPolicy(Describe describe, ChainClock* clock)
      : describe_(describe), clock_(clock), queue_(1, describe) {}

  void Track(EvictionNode* node) override {
    NodeQueue::SetUses(node, 0);
    const Copy copy = describe_(*node);
    queue_.Push(node, clock_->UseOf(copy.key_hash, copy.worth));
  }

  void Keep(EvictionNode* node) override {
    NodeQueue::SetUses(node, 0);
    queue_.PushAgain(node, clock_->Now());
  }

  void Touch(EvictionNode* node) override {
    if (node->tracked()) NodeQueue::SetUses(node, 1);
  }

  void Forget(EvictionNode* node) override {
    if (node->tracked()) queue_.Remove(node);
  }

  EvictionNode* Pick() override {
    EvictionNode* node = queue_.Pop(*clock_);
    // Once round at most: then none is used.
    while (node != nullptr && NodeQueue::Uses(*node) > 0) {
      NodeQueue::SetUses(node, 0);
      queue_.PushAgain(node, clock_->Now());
      node = queue_.Pop(*clock_);
    }
    return node;
  }

  uint64_t size() const override { return queue_.size(); }

  Parts parts() override { return {clock_, {&queue_}, {}}; }

 private:
  const Describe describe_;
  ChainClock* const clock_;
  NodeQueue queue_;
};

}  // namespace

std::unique_ptr<EvictionPolicy> NewClockPolicy(EvictionPolicy::Describe describe,
                                               ChainClock* clock) {
  return std::make_unique<ClockPolicy>(describe, clock);
}

}  // namespace cairn
