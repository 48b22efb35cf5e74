// S3-FIFO (Yang and others, SOSP '23): what is new is on probation in a tenth of the cache; what
// was used twice there, or came back soon after, is in the rest, which goes round while it is used.

#include "src/eviction/chain_clock.h"
#include "src/eviction/ghost_list.h"
#include "src/eviction/node_queue.h"
#include "src/eviction/policies.h"

namespace cairn {
namespace {

constexpr uint64_t kProbationOneIn = 10;
constexpr uint8_t kUsesToStay = 2;

class S3FifoPolicy final : public EvictionPolicy {
 public:
  S3FifoPolicy(Describe describe, ChainClock* clock)
      : describe_(describe), clock_(clock), probation_(1, describe), main_(2, describe) {}

  void Track(EvictionNode* node) override {
    const Copy copy = describe_(*node);
    NodeQueue::SetUses(node, 0);
    (ghosts_.Take(copy.key_hash) ? main_ : probation_)
        .Push(node, clock_->UseOf(copy.key_hash, copy.worth));
  }

  // In the other queue, or one that is all in use would be picked from for ever.
  void Keep(EvictionNode* node) override {
    ghosts_.Take(describe_(*node).key_hash);
    NodeQueue::SetUses(node, picked_from_main_ ? kUsesToStay : 0);
    (picked_from_main_ ? probation_ : main_).PushAgain(node, clock_->Now());
  }

  void Touch(EvictionNode* node) override {
    if (node->tracked()) NodeQueue::AddUse(node);
  }

  void Forget(EvictionNode* node) override {
    if (!node->tracked()) return;
    (probation_.Has(*node) ? probation_ : main_).Remove(node);
  }

  EvictionNode* Pick() override {
    // Every turn that does not end it takes a use away, or a node out of probation.
    while (size() > 0) {
      const uint64_t bytes = probation_.bytes() + main_.bytes();
      if (main_.size() == 0 ||
          (probation_.size() > 0 && probation_.bytes() >= bytes / kProbationOneIn)) {
        EvictionNode* const node = probation_.Pop(*clock_);
        if (NodeQueue::Uses(*node) < kUsesToStay) {
          picked_from_main_ = false;
          ghosts_.Add(describe_(*node).key_hash, main_.size() + 1);
          return node;
        }
        NodeQueue::SetUses(node, 0);
        main_.PushAgain(node, clock_->Now());
        continue;
      }
      EvictionNode* const node = main_.Pop(*clock_);
      const uint8_t uses = NodeQueue::Uses(*node);
      if (uses == 0) {
        picked_from_main_ = true;
        return node;
      }
      NodeQueue::SetUses(node, uses - 1);
      main_.PushAgain(node, clock_->Now());
    }
    return nullptr;
  }

  uint64_t size() const override { return probation_.size() + main_.size(); }

  Parts parts() override { return {clock_, {&probation_, &main_}, {&ghosts_}}; }

 private:
  const Describe describe_;
  ChainClock* const clock_;
  NodeQueue probation_;
  NodeQueue main_;
  GhostList ghosts_;
  bool picked_from_main_ = false;  // The last.
};

}  // namespace

std::unique_ptr<EvictionPolicy> NewS3FifoPolicy(EvictionPolicy::Describe describe,
                                                ChainClock* clock) {
  return std::make_unique<S3FifoPolicy>(describe, clock);
}

}  // namespace cairn
