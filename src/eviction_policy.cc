#include "src/eviction_policy.h"

#include "src/base/check.h"

namespace cairn {
namespace {

// A ring through one node of its own, whose warmer neighbour is the coldest and whose colder one
// the warmest: so no tracked node lacks a neighbour, and one without is not tracked.
class LruPolicy final : public EvictionPolicy {
 public:
  LruPolicy() { ends_.colder = ends_.warmer = &ends_; }

  void Track(EvictionNode* node) override {
    CAIRN_CHECK(!node->tracked());
    node->colder = ends_.colder;
    node->warmer = &ends_;
    node->colder->warmer = node;
    ends_.colder = node;
    ++size_;
  }

  void Touch(EvictionNode* node) override {
    if (!node->tracked() || node == ends_.colder) return;
    Forget(node);
    Track(node);
  }

  void Forget(EvictionNode* node) override {
    if (!node->tracked()) return;
    node->colder->warmer = node->warmer;
    node->warmer->colder = node->colder;
    node->colder = node->warmer = nullptr;
    --size_;
  }

  EvictionNode* Pick() override {
    EvictionNode* const node = ends_.warmer;
    if (node == &ends_) return nullptr;
    Forget(node);
    return node;
  }

  uint64_t size() const override { return size_; }

 private:
  EvictionNode ends_;
  uint64_t size_ = 0;
};

}  // namespace

std::unique_ptr<EvictionPolicy> NewLruPolicy() { return std::make_unique<LruPolicy>(); }

}  // namespace cairn
