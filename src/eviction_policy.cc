#include "src/eviction_policy.h"

#include "src/base/check.h"

namespace cairn {
namespace {

class LruPolicy final : public EvictionPolicy {
 public:
  void Track(EvictionNode* node) override {
    CAIRN_CHECK(!node->tracked);
    node->tracked = true;
    node->colder = warmest_;
    node->warmer = nullptr;
    (warmest_ == nullptr ? coldest_ : warmest_->warmer) = node;
    warmest_ = node;
    ++size_;
  }

  void Touch(EvictionNode* node) override {
    if (!node->tracked || node == warmest_) return;
    Forget(node);
    Track(node);
  }

  void Forget(EvictionNode* node) override {
    if (!node->tracked) return;
    (node->colder == nullptr ? coldest_ : node->colder->warmer) = node->warmer;
    (node->warmer == nullptr ? warmest_ : node->warmer->colder) = node->colder;
    node->colder = node->warmer = nullptr;
    node->tracked = false;
    --size_;
  }

  EvictionNode* Pick() override {
    EvictionNode* node = coldest_;
    if (node != nullptr) Forget(node);
    return node;
  }

  uint64_t size() const override { return size_; }

 private:
  EvictionNode* coldest_ = nullptr;
  EvictionNode* warmest_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace

std::unique_ptr<EvictionPolicy> NewLruPolicy() { return std::make_unique<LruPolicy>(); }

}  // namespace cairn
