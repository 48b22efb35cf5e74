// Least recently used.

#include "src/eviction/chain_clock.h"
#include "src/eviction/node_queue.h"
#include "src/eviction/policies.h"

namespace cairn {
namespace {

class LruPolicy final : public EvictionPolicy {
 public:
  explicit LruPolicy(Describe describe) : describe_(describe), queue_(1, describe) {}

  void Request(absl::Span<const uint64_t> key_hashes) override { clock_.Request(key_hashes); }

  void Track(EvictionNode* node) override {
    queue_.Push(node, clock_.TimeOf(describe_(*node).key_hash));
  }

  void Keep(EvictionNode* node) override { queue_.Push(node, clock_.Now()); }

  void Touch(EvictionNode* node) override {
    if (!node->tracked()) return;
    queue_.Remove(node);
    Track(node);
  }

  void Forget(EvictionNode* node) override {
    if (node->tracked()) queue_.Remove(node);
  }

  EvictionNode* Pick() override { return queue_.Pop(); }

  uint64_t size() const override { return queue_.size(); }

  Parts parts() override { return {&clock_, {&queue_}, {}}; }

 private:
  const Describe describe_;
  ChainClock clock_;
  NodeQueue queue_;
};

}  // namespace

std::unique_ptr<EvictionPolicy> NewLruPolicy(EvictionPolicy::Describe describe) {
  return std::make_unique<LruPolicy>(describe);
}

}  // namespace cairn
