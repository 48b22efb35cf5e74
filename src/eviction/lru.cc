// Least recently used.

#include "src/eviction/chain_clock.h"
#include "src/eviction/node_queue.h"
#include "src/eviction/policies.h"

namespace cairn {
namespace {

class LruPolicy final : public EvictionPolicy {
 public:
  LruPolicy(Describe describe, ChainClock* clock)
      : describe_(describe), clock_(clock), queue_(1, describe) {}

  void Track(EvictionNode* node) override {
    const Copy copy = describe_(*node);
    queue_.Push(node, clock_->UseOf(copy.key_hash, copy.worth));
  }

  void Keep(EvictionNode* node) override { queue_.PushAgain(node, clock_->Now()); }

  void Touch(EvictionNode* node) override {
    if (!node->tracked()) return;
    queue_.Remove(node);
    Track(node);
  }

  void Forget(EvictionNode* node) override {
    if (node->tracked()) queue_.Remove(node);
  }

  EvictionNode* Pick() override { return queue_.Pop(*clock_); }

  uint64_t size() const override { return queue_.size(); }

  Parts parts() override { return {clock_, {&queue_}, {}}; }

 private:
  const Describe describe_;
  ChainClock* const clock_;
  NodeQueue queue_;
};

}  // namespace

std::unique_ptr<EvictionPolicy> NewLruPolicy(EvictionPolicy::Describe describe, ChainClock* clock) {
  return std::make_unique<LruPolicy>(describe, clock);
}

}  // namespace cairn
