#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "src/eviction/chain_clock.h"
#include "src/eviction/policy.h"

namespace cairn {

// Nodes from the coldest to the warmest by the time that each came with, and their bytes. A policy
// is made of one or two. A node is in one queue at most, and bears its number.
//
// What is worth more stays longer: there is a list for each worth (worth.h), and of the coldest of
// all lists that one leaves whose age is greatest for the stay that its worth gives it: four times
// the worth three times the stay (kAgeWeights). As GreedyDual-Size, and in constant time as CAMP
// (Ghandeharizadeh and others, Middleware '14). With one worth for all it is one list.
class NodeQueue {
 public:
  struct Held {
    uint64_t copies = 0;
    uint64_t bytes = 0;
    uint64_t worth = 0;  // Each byte times what it is worth.
  };

  // `number` is 1, 2 or 3.
  NodeQueue(uint8_t number, EvictionPolicy::Describe describe);
  NodeQueue(const NodeQueue&) = delete;
  NodeQueue& operator=(const NodeQueue&) = delete;

  // Of an empty queue: what it holds from now on is counted there too, beside what others hold.
  void CountIn(Held* held_by_all) { held_by_all_ = held_by_all; }

  bool Has(const EvictionNode& node) const { return node.queue() == number_; }
  // To the warm end, but on the colder side of what has a later time. Times go round: what is more
  // than half of them ahead is behind.
  void Push(EvictionNode* node, ChainClock::Use use);
  // The same of one that was in a queue before: it is worth what it was.
  void PushAgain(EvictionNode* node, uint32_t time) { Push(node, {time, node->worth()}); }
  void Remove(EvictionNode* node);
  // The next to leave, no longer in the queue; null when it is empty.
  EvictionNode* Pop(const ChainClock& clock);
  // Of a copy that is the same under another node: takes the node's place, with all that is known
  // of it.
  void Replace(EvictionNode* node, EvictionNode* successor);
  // From the coldest to the warmest of all lists, until `visit` says false. Changes nothing, a walk
  // neither.
  void Visit(const ChainClock& clock, absl::FunctionRef<bool(const EvictionNode&)> visit) const;

  // A walk from the coldest to the warmest of all lists, one at a time, that goes on whatever
  // happens between its steps: who moves to the warm end meanwhile is met there, be it once more;
  // only who comes in on the colder side of it is not.
  void BeginWalk();
  // The next; null at the end.
  EvictionNode* Walk(const ChainClock& clock);

  static uint8_t Uses(const EvictionNode& node) { return node.uses(); }
  static void SetUses(EvictionNode* node, uint8_t uses) { node->set_uses(uses); }
  static void AddUse(EvictionNode* node) {
    if (node->uses() < EvictionNode::kUsesMax) node->set_uses(node->uses() + 1);
  }
  // What it counted as when it came: in a chain not what it is worth by itself.
  static uint8_t Worth(const EvictionNode& node) { return node.worth(); }

  uint64_t KeyHash(const EvictionNode& node) const { return describe_(node).key_hash; }
  TensorClass ClassOf(const EvictionNode& node) const { return describe_(node).tensor_class; }
  uint8_t WorthOf(const EvictionNode& node) const { return describe_(node).worth; }
  uint64_t size() const { return size_; }
  uint64_t bytes() const { return bytes_; }

 private:
  bool IsEnd(const EvictionNode* node) const {
    return node >= ends_.data() && node < ends_.data() + ends_.size();
  }

  const uint8_t number_;
  const EvictionPolicy::Describe describe_;
  // Each list is a ring through one of these, whose warmer neighbour is the coldest and whose
  // colder the warmest.
  std::array<EvictionNode, kWorths> ends_;
  uint32_t lists_ = 0;  // Those that are not empty, a bit each.
  // What was pushed last, or was next to it: a chain comes first to last, so its next block's place
  // is beside it. Null when that was the warm end.
  EvictionNode* last_ = nullptr;
  bool walking_ = false;
  std::array<EvictionNode*, kWorths> walk_;  // The next of each list, or its end.
  uint64_t size_ = 0;
  uint64_t bytes_ = 0;
  Held* held_by_all_ = nullptr;
};

}  // namespace cairn
