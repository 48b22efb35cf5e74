#include "src/eviction/node_queue.h"

#include <utility>

#include "src/base/check.h"
#include "src/eviction/chain_clock.h"

namespace cairn {
namespace {

// Blocks of a chain come nearly in order: what is out of it by more is not worth the search.
constexpr int kStepsMax = 128;

}  // namespace

NodeQueue::NodeQueue(uint8_t number, EvictionPolicy::Describe describe)
    : number_(number), describe_(describe) {
  ends_.set_colder(&ends_);
  ends_.set_warmer(&ends_);
}

void NodeQueue::Push(EvictionNode* node, uint32_t time) {
  CAIRN_CHECK(!node->tracked());
  EvictionNode* colder = ends_.colder();
  if (last_ != nullptr && ChainClock::Later(last_->time(), time)) colder = last_;
  for (int step = 0; step < kStepsMax && colder != &ends_; ++step) {
    if (!ChainClock::Later(colder->time(), time)) break;
    colder = colder->colder();
  }
  EvictionNode* const warmer = colder->warmer();
  node->set_colder(colder);
  node->set_warmer(warmer);
  colder->set_warmer(node);
  warmer->set_colder(node);
  node->set_time(time);
  node->set_queue(number_);
  last_ = node;
  ++size_;
  bytes_ += describe_(*node).bytes;
}

void NodeQueue::Remove(EvictionNode* node) {
  CAIRN_CHECK(Has(*node));
  node->colder()->set_warmer(node->warmer());
  node->warmer()->set_colder(node->colder());
  node->set_queue(0);
  if (walk_ == node) walk_ = node->warmer();
  if (last_ == node) last_ = node->warmer() == &ends_ ? nullptr : node->warmer();
  --size_;
  bytes_ -= describe_(*node).bytes;
}

EvictionNode* NodeQueue::Walk() {
  if (walk_ == &ends_) return nullptr;
  return std::exchange(walk_, walk_->warmer());
}

EvictionNode* NodeQueue::Pop() {
  EvictionNode* const node = ends_.warmer();
  if (node == &ends_) return nullptr;
  Remove(node);
  return node;
}

}  // namespace cairn
