#pragma once

#include <cstdint>

#include "src/eviction/policy.h"

namespace cairn {

// Nodes from the coldest to the warmest by the time that each came with, and their bytes. A policy
// is made of one or two. A node is in one queue at most, and bears its number.
class NodeQueue {
 public:
  // `number` is 1, 2 or 3.
  NodeQueue(uint8_t number, EvictionPolicy::Describe describe);
  NodeQueue(const NodeQueue&) = delete;
  NodeQueue& operator=(const NodeQueue&) = delete;

  bool Has(const EvictionNode& node) const { return node.queue() == number_; }
  // To the warm end, but on the colder side of what has a later time. Times go round: what is more
  // than half of them ahead is behind.
  void Push(EvictionNode* node, uint32_t time);
  void Remove(EvictionNode* node);
  // The coldest, no longer in the queue; null when it is empty.
  EvictionNode* Pop();

  // A walk from the coldest to the warmest, one at a time, that goes on whatever happens between
  // its steps: who moves to the warm end meanwhile is met there, be it once more; only who comes in
  // on the colder side of it is not.
  void BeginWalk() { walk_ = ends_.warmer(); }
  // The next; null at the end.
  EvictionNode* Walk();

  static uint8_t Uses(const EvictionNode& node) { return node.uses(); }
  static void SetUses(EvictionNode* node, uint8_t uses) { node->set_uses(uses); }
  static void AddUse(EvictionNode* node) {
    if (node->uses() < EvictionNode::kUsesMax) node->set_uses(node->uses() + 1);
  }

  uint64_t KeyHash(const EvictionNode& node) const { return describe_(node).key_hash; }
  TensorClass ClassOf(const EvictionNode& node) const { return describe_(node).tensor_class; }
  uint64_t size() const { return size_; }
  uint64_t bytes() const { return bytes_; }

 private:
  const uint8_t number_;
  const EvictionPolicy::Describe describe_;
  // A ring through this one, whose warmer neighbour is the coldest and whose colder the warmest.
  EvictionNode ends_;
  // What was pushed last, or was next to it: a chain comes first to last, so its next block's place
  // is beside it. Null when that was the warm end.
  EvictionNode* last_ = nullptr;
  EvictionNode* walk_ = &ends_;  // The next of the walk, or the end.
  uint64_t size_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace cairn
