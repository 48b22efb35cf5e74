#include "src/eviction/node_queue.h"

#include <array>
#include <bit>
#include <cstddef>
#include <utility>

#include "src/base/check.h"

namespace cairn {
namespace {

// Blocks of a chain come nearly in order: what is out of it by more is not worth the search.
constexpr int kStepsMax = 128;

static_assert(kWorths <= 16);  // EvictionNode has four bits for it.

// How much of an age counts, by worth: the worth to the power of 3/4, upside down. In proportion to
// the worth it would be right if a copy were used again half as likely at twice its age. It falls
// faster than that, so what is cheap was let go too soon (bench/RESULTS.md has what was measured).
constexpr double kStayOfTwiceTheWorth = 1.681792830507429;
constexpr std::array<uint64_t, kWorths> kAgeWeights = [] {
  std::array<uint64_t, kWorths> weights = {};
  double weight = 64;
  for (size_t worth = kWorths; worth-- > 0; weight *= kStayOfTwiceTheWorth) {
    weights[worth] = static_cast<uint64_t>(weight);
  }
  return weights;
}();

}  // namespace

NodeQueue::NodeQueue(uint8_t number, EvictionPolicy::Describe describe)
    : number_(number), describe_(describe) {
  for (size_t i = 0; i < kWorths; ++i) {
    ends_[i].set_colder(&ends_[i]);
    ends_[i].set_warmer(&ends_[i]);
    walk_[i] = &ends_[i];
  }
}

void NodeQueue::Push(EvictionNode* node, ChainClock::Use use) {
  CAIRN_CHECK(!node->tracked() && use.worth < kWorths);
  EvictionNode* const end = &ends_[use.worth];
  EvictionNode* colder = end->colder();
  if (last_ != nullptr && last_->worth() == use.worth &&
      ChainClock::Later(last_->time(), use.time)) {
    colder = last_;
  }
  for (int step = 0; step < kStepsMax && colder != end; ++step) {
    if (!ChainClock::Later(colder->time(), use.time)) break;
    colder = colder->colder();
  }
  EvictionNode* const warmer = colder->warmer();
  node->set_colder(colder);
  node->set_warmer(warmer);
  colder->set_warmer(node);
  warmer->set_colder(node);
  node->set_time(use.time);
  node->set_worth(use.worth);
  node->set_queue(number_);
  last_ = node;
  lists_ |= uint32_t{1} << use.worth;
  ++size_;
  const uint64_t bytes = describe_(*node).bytes;
  bytes_ += bytes;
  if (held_by_all_ == nullptr) return;
  ++held_by_all_->copies;
  held_by_all_->bytes += bytes;
  held_by_all_->worth += bytes << use.worth;
}

void NodeQueue::Remove(EvictionNode* node) {
  CAIRN_CHECK(Has(*node));
  EvictionNode* const colder = node->colder();
  EvictionNode* const warmer = node->warmer();
  colder->set_warmer(warmer);
  warmer->set_colder(colder);
  if (colder == warmer && IsEnd(colder)) lists_ &= ~(uint32_t{1} << node->worth());
  node->set_queue(0);
  if (walking_ && walk_[node->worth()] == node) walk_[node->worth()] = warmer;
  if (last_ == node) last_ = IsEnd(warmer) ? nullptr : warmer;
  --size_;
  const uint64_t bytes = describe_(*node).bytes;
  bytes_ -= bytes;
  if (held_by_all_ == nullptr) return;
  --held_by_all_->copies;
  held_by_all_->bytes -= bytes;
  held_by_all_->worth -= bytes << node->worth();
}

void NodeQueue::Replace(EvictionNode* node, EvictionNode* successor) {
  CAIRN_CHECK(Has(*node) && !successor->tracked());
  successor->set_colder(node->colder());
  successor->set_warmer(node->warmer());
  successor->set_worth(node->worth());
  successor->set_uses(node->uses());
  successor->set_time(node->time());
  successor->set_queue(number_);
  node->colder()->set_warmer(successor);
  node->warmer()->set_colder(successor);
  node->set_queue(0);
  if (walking_ && walk_[successor->worth()] == node) walk_[successor->worth()] = successor;
  if (last_ == node) last_ = successor;
}

void NodeQueue::Visit(const ChainClock& clock,
                      absl::FunctionRef<bool(const EvictionNode&)> visit) const {
  std::array<const EvictionNode*, kWorths> next;
  for (size_t i = 0; i < kWorths; ++i) next[i] = ends_[i].warmer();
  for (uint64_t left = size_; left > 0; --left) {
    const EvictionNode** coldest = nullptr;
    for (size_t i = 0; i < kWorths; ++i) {
      if (next[i] == &ends_[i]) continue;
      if (coldest == nullptr || clock.AgeOf(next[i]->time()) > clock.AgeOf((*coldest)->time())) {
        coldest = &next[i];
      }
    }
    if (coldest == nullptr || !visit(**coldest)) return;
    *coldest = (*coldest)->warmer();
  }
}

void NodeQueue::BeginWalk() {
  walking_ = true;
  for (size_t i = 0; i < kWorths; ++i) walk_[i] = ends_[i].warmer();
}

EvictionNode* NodeQueue::Walk(const ChainClock& clock) {
  EvictionNode** next = nullptr;
  for (size_t i = 0; i < kWorths; ++i) {
    if (walk_[i] == &ends_[i]) continue;
    if (next == nullptr || clock.AgeOf(walk_[i]->time()) > clock.AgeOf((*next)->time())) {
      next = &walk_[i];
    }
  }
  walking_ = next != nullptr;
  if (!walking_) return nullptr;
  EvictionNode* const node = *next;
  *next = node->warmer();
  return node;
}

EvictionNode* NodeQueue::Pop(const ChainClock& clock) {
  EvictionNode* leaving = nullptr;
  std::pair<bool, uint64_t> most;  // The age is for its worth.
  for (uint32_t lists = lists_; lists != 0; lists &= lists - 1) {
    const auto worth = static_cast<size_t>(std::countr_zero(lists));
    EvictionNode* const coldest = ends_[worth].warmer();
    const std::pair age(clock.BeforeSearch(coldest->time()),
                        clock.AgeOf(coldest->time()) * kAgeWeights[worth]);
    if (leaving != nullptr && age <= most) continue;
    leaving = coldest;
    most = age;
  }
  if (leaving == nullptr) return nullptr;
  // The next to leave but one, whose neighbour the next will be: it lies anywhere in memory.
  __builtin_prefetch(leaving->warmer()->warmer());
  Remove(leaving);
  return leaving;
}

}  // namespace cairn
