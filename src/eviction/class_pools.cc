#include "src/eviction/class_pools.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "src/eviction/node_queue.h"
#include "src/eviction/policies.h"

namespace cairn {
namespace {

// In each time that as much is used as the tier holds.
constexpr uint64_t kRebalancesPerTurn = 16;
constexpr double kUseDecay = 0.9;
// Of the way to what the shadows say, at a time: they follow a sample, and it is noisy.
constexpr double kStep = 0.25;

}  // namespace

ClassPools::ClassPools(EvictionKind kind, Describe describe, const PoolOptions& options)
    : describe_(describe), pools_(options.by_class ? kTensorClasses : 1) {
  for (size_t i = 0; i < pools_.size(); ++i) {
    pools_[i].policy = NewPolicyOfOnePool(kind, describe, &clock_);
    pools_[i].parts = pools_[i].policy->parts();
    for (NodeQueue* const queue : pools_[i].parts.queues) queue->CountIn(&held_[i]);
    if (options.by_class) pools_[i].share = options.shares.of(static_cast<TensorClass>(i));
  }
}

uint64_t ClassPools::size() const {
  uint64_t size = 0;
  for (const NodeQueue::Held& held : held_) size += held.copies;
  return size;
}

std::array<uint64_t, kTensorClasses> ClassPools::sizes() const {
  std::array<uint64_t, kTensorClasses> sizes = {};
  for (size_t i = 0; i < sizes.size(); ++i) sizes[i] = held_[i].copies;
  return sizes;
}

void ClassPools::Request(absl::Span<const uint64_t> key_hashes) {
  clock_.Request(key_hashes);
  if (pools_seen_ == 1) {
    for (Pool& pool : pools_) {
      if (pool.seen) return Count(pool, key_hashes);
    }
  }
  OpenRequest& open = open_requests_[clock_.requests() % kOpenRequests];
  open.number = clock_.requests();
  open.key_hashes.assign(key_hashes.begin(), key_hashes.end());
}

void ClassPools::Count(Pool& pool, absl::Span<const uint64_t> key_hashes) {
  pool.policy->Request(key_hashes);
  if (pools_seen_ > 1) pool.sizes.Request(key_hashes);
}

// What no chain has requested is a request by itself.
ClassPools::Pool& ClassPools::Use(const Copy& copy) {
  Pool& pool = PoolOf(copy.tensor_class);
  if (!std::exchange(pool.seen, true)) ++pools_seen_;
  const uint32_t number = clock_.RequestOf(copy.key_hash);
  OpenRequest& open = open_requests_[number % kOpenRequests];
  if (number == 0) {
    Count(pool, {&copy.key_hash, 1});
  } else if (open.number == number) {
    open.number = 0;
    Count(pool, open.key_hashes);
  }
  bytes_used_ += copy.bytes;
  if (full_ && bytes_max_ > 0 && bytes_used_ >= bytes_max_ / kRebalancesPerTurn) Rebalance();
  return pool;
}

void ClassPools::Track(EvictionNode* node) { Use(describe_(*node)).policy->Track(node); }

void ClassPools::Touch(EvictionNode* node) {
  if (node->tracked()) Use(describe_(*node)).policy->Touch(node);
}

void ClassPools::Keep(EvictionNode* node) {
  PoolOf(describe_(*node).tensor_class).policy->Keep(node);
}

void ClassPools::Forget(EvictionNode* node) {
  if (node->tracked()) PoolOf(describe_(*node).tensor_class).policy->Forget(node);
}

void ClassPools::Replace(EvictionNode* node, EvictionNode* successor) {
  for (NodeQueue* const queue : PoolOf(describe_(*node).tensor_class).parts.queues) {
    if (queue->Has(*node)) return queue->Replace(node, successor);
  }
}

EvictionNode* ClassPools::Pick(const PickOptions& options) {
  Pool* const victim = Victim(options);
  if (victim == nullptr) return nullptr;
  if (!std::exchange(full_, true)) {
    for (size_t i = 0; i < pools_.size(); ++i) {
      pools_[i].bytes_wanted = static_cast<double>(held_[i].bytes);
    }
  }
  clock_.SetSearchBegun(options.begun.value_or(now()));
  return victim->policy->Pick();
}

ClassPools::Pool* ClassPools::Victim(const PickOptions& options) {
  std::optional<size_t> victim;
  for (size_t i = 0; i < pools_.size(); ++i) {
    if (!MayLeave(i, options)) continue;
    if (!victim.has_value() || Excess(i, options) > Excess(*victim, options)) victim = i;
  }
  return victim.has_value() ? &pools_[*victim] : nullptr;
}

// Whether anything of the pool may.
bool ClassPools::MayLeave(size_t number, const PickOptions& options) const {
  const NodeQueue::Held& held = held_[number];
  if (held.copies == 0 || (options.without >> number & 1) != 0) return false;
  const double share_min = pools_[number].share.min;
  if (share_min == 0 || options.of_any) return true;
  const auto bytes = static_cast<double>(std::max(held.bytes, options.bytes[number]));
  const double copy_bytes = static_cast<double>(held.bytes) / static_cast<double>(held.copies);
  return bytes - copy_bytes >= share_min * static_cast<double>(bytes_max_);
}

// Bytes over what the pool is to have. Who has more than it may is before who has more than it is
// worth.
double ClassPools::Excess(size_t number, const PickOptions& options) const {
  const Pool& pool = pools_[number];
  const auto bytes_max = static_cast<double>(bytes_max_);
  const auto bytes = static_cast<double>(std::max(held_[number].bytes, options.bytes[number]));
  const double excess = bytes - std::clamp(pool.bytes_wanted, pool.share.min * bytes_max,
                                           std::max(pool.share.max * bytes_max, 0.));
  return bytes > pool.share.max * bytes_max ? excess + bytes_max : excess;
}

// The tier is given away from the largest gain on. A class that gains less at first than later is
// looked at as a whole, so gains only fall (the upper hull of its hits by size).
void ClassPools::Rebalance() {
  bytes_used_ = 0;
  if (pools_seen_ < 2) return;
  std::vector<Gain> gains;
  for (size_t i = 0; i < pools_.size(); ++i) {
    Pool& pool = pools_[i];
    if (!pool.seen) continue;
    if (const NodeQueue::Held& held = held_[i]; held.copies > 0) {
      const auto copies = static_cast<double>(held.copies);
      pool.copy_bytes = static_cast<double>(held.bytes) / copies;
      pool.copy_worth = static_cast<double>(held.worth) / copies;
    }
    pool.sizes.SetCapacity(
        static_cast<uint64_t>(static_cast<double>(bytes_max_) / std::max(1., pool.copy_bytes)));
    pool.sizes.SetProbationShare(pool.policy->probation_share());
    AddGains(i, gains);
    pool.sizes.Decay(kUseDecay);
  }
  // The shadows are filled by then.
  if (++rebalances_ < kRebalancesPerTurn) return;
  std::stable_sort(gains.begin(), gains.end(),
                   [](const Gain& a, const Gain& b) { return a.hit_worth > b.hit_worth; });
  std::array<double, kTensorClasses> shares = {};
  double left = 1;
  for (const Gain& gain : gains) {
    const double taken = std::min(left, gain.share);
    shares[gain.pool] += taken;
    left -= taken;
  }
  for (size_t i = 0; i < pools_.size(); ++i) {
    const double share = shares[i] + left / static_cast<double>(pools_seen_);
    pools_[i].bytes_wanted +=
        kStep * (share * static_cast<double>(bytes_max_) - pools_[i].bytes_wanted);
  }
}

void ClassPools::AddGains(size_t number, std::vector<Gain>& gains) const {
  struct Point {
    double share = 0;
    double hit_worth = 0;
  };
  const std::array<double, 5> hits = pools_[number].sizes.Hits();
  std::vector<Point> hull = {{}};
  const auto gain = [](const Point& from, const Point& to) {
    return (to.hit_worth - from.hit_worth) / (to.share - from.share);
  };
  for (size_t i = 0; i < hits.size(); ++i) {
    const Point point = {ShadowCaches::kSizes[i], hits[i] * pools_[number].copy_worth};
    if (point.hit_worth <= hull.back().hit_worth) continue;
    while (hull.size() > 1 &&
           gain(hull[hull.size() - 2], hull.back()) <= gain(hull.back(), point)) {
      hull.pop_back();
    }
    hull.push_back(point);
  }
  for (size_t i = 1; i < hull.size(); ++i) {
    gains.push_back({gain(hull[i - 1], hull[i]), hull[i].share - hull[i - 1].share, number});
  }
}

EvictionPolicy::Parts ClassPools::parts() {
  Parts parts = {.clock = &clock_, .queues = {}, .ghosts = {}, .pools = pools_.size()};
  for (const Pool& pool : pools_) {
    parts.queues.insert(parts.queues.end(), pool.parts.queues.begin(), pool.parts.queues.end());
    parts.ghosts.insert(parts.ghosts.end(), pool.parts.ghosts.begin(), pool.parts.ghosts.end());
  }
  const Pool* const victim = Victim({.of_any = true});
  parts.next = victim == nullptr ? parts.queues.front() : victim->parts.queues.front();
  return parts;
}

// What the pools want, then what each pool's policy has found out, behind how much that is. The
// sizes' shadows begin anew.
std::vector<uint64_t> ClassPools::Findings(size_t words_max) const {
  constexpr size_t kWordsMinOfPolicy = 32;
  std::vector<uint64_t> findings = {full_ ? uint64_t{1} : 0};
  for (const Pool& pool : pools_) findings.push_back(std::bit_cast<uint64_t>(pool.bytes_wanted));
  size_t pools_left = pools_.size();
  for (const Pool& pool : pools_) {
    --pools_left;
    const size_t reserved = findings.size() + 1 + pools_left * (kWordsMinOfPolicy + 1);
    const std::vector<uint64_t> of_pool = pool.policy->Findings(
        words_max > reserved + kWordsMinOfPolicy ? words_max - reserved : kWordsMinOfPolicy);
    findings.push_back(of_pool.size());
    findings.insert(findings.end(), of_pool.begin(), of_pool.end());
  }
  return findings;
}

void ClassPools::TakeFindings(absl::Span<const uint64_t> findings) {
  if (findings.size() < 1 + pools_.size()) return;
  full_ = findings[0] != 0;
  for (size_t i = 0; i < pools_.size(); ++i) {
    const auto wanted = std::bit_cast<double>(findings[1 + i]);
    pools_[i].bytes_wanted = wanted >= 0 ? wanted : 0;  // And not of a NaN.
  }
  findings.remove_prefix(1 + pools_.size());
  for (Pool& pool : pools_) {
    if (findings.empty()) return;
    const size_t words = std::min<uint64_t>(findings[0], findings.size() - 1);
    pool.policy->TakeFindings(findings.subspan(1, words));
    findings.remove_prefix(1 + words);
  }
}

std::unique_ptr<EvictionPolicy> NewEvictionPolicy(EvictionKind kind,
                                                  EvictionPolicy::Describe describe,
                                                  const PoolOptions& options) {
  return std::make_unique<ClassPools>(kind, describe, options);
}

}  // namespace cairn
