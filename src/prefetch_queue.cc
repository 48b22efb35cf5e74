#include "src/prefetch_queue.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"

namespace cairn {
namespace {

// Below an accuracy of a half, judged by no fewer than kRecentMin, or where memory is short,
// prefetches do more harm than good: then they may be ahead by this share of what they may else.
constexpr uint64_t kThrottledShare = 8;
constexpr uint64_t kRecentMin = 32;
constexpr uint64_t kRecentMax = 256;

// What nobody asked for is written off after a minute, counted by tenths.
constexpr std::chrono::seconds kSpan{6};
constexpr uint32_t kSpansMax = 10;

uint32_t SpanOf(Deadline now) { return static_cast<uint32_t>(now.time_since_epoch() / kSpan) + 1; }

}  // namespace

absl::StatusOr<PrefetchToken> PrefetchQueue::Add(absl::Span<const TensorKey> keys,
                                                 const WillNeedOptions& options, Deadline now) {
  const Deadline due = now + absl::ToChronoNanoseconds(std::clamp(options.due, absl::ZeroDuration(),
                                                                  absl::Hours(24 * 365)));
  Group group = {.to = options.to, .gpu = options.gpu, .keys = {}};
  group.keys.reserve(keys.size());
  for (const TensorKey key : keys) group.keys.emplace_back(key.bytes());
  MutexLock lock(mutex_);
  const PrefetchToken token = ++last_token_;
  if (closed_ || keys.empty()) return token;
  if (waiting_.load() + keys.size() > limits_.keys_max) {
    return absl::ResourceExhaustedError(absl::StrCat(waiting_.load(), " prefetches wait, and ",
                                                     keys.size(), " more would pass the limit of ",
                                                     limits_.keys_max));
  }
  const Order order = {due, -int64_t{options.priority}, token};
  waiting_.fetch_add(keys.size());
  groups_.emplace(order, std::move(group));
  orders_.emplace(token, order);
  return token;
}

size_t PrefetchQueue::Cancel(PrefetchToken token) {
  MutexLock lock(mutex_);
  const auto order = orders_.find(token);
  if (order == orders_.end()) return 0;
  const auto group = groups_.find(order->second);
  CAIRN_CHECK(group != groups_.end());
  const size_t count = group->second.keys.size() - group->second.next;
  waiting_.fetch_sub(count);
  figures_.cancelled += count;
  groups_.erase(group);
  orders_.erase(order);
  return count;
}

void PrefetchQueue::WriteOff(Deadline now) {
  while (!ahead_bytes_.empty() && ahead_bytes_.begin()->first + kSpansMax < SpanOf(now)) {
    figures_.ahead_bytes -= ahead_bytes_.begin()->second;
    ahead_bytes_.erase(ahead_bytes_.begin());
  }
}

void PrefetchQueue::SetPressure(PressureLevel level) {
  MutexLock lock(mutex_);
  pressure_ = level;
}

bool PrefetchQueue::Refuses(Deadline now) {
  MutexLock lock(mutex_);
  if (pressure_ != PressureLevel::kMedium) return pressure_ == PressureLevel::kHigh;
  WriteOff(now);
  return figures_.ahead_bytes >= limits_.ahead_bytes_max / kThrottledShare;
}

bool PrefetchQueue::MayBegin(Deadline now) {
  if (pressure_ == PressureLevel::kHigh) return false;
  WriteOff(now);
  const bool throttled =
      pressure_ == PressureLevel::kMedium || (recent_ >= kRecentMin && 2 * recent_used_ < recent_);
  const uint64_t ahead_bytes_max =
      throttled ? limits_.ahead_bytes_max / kThrottledShare : limits_.ahead_bytes_max;
  return figures_.ahead_bytes < ahead_bytes_max && in_flight_bytes_ < limits_.in_flight_bytes_max;
}

std::optional<PrefetchQueue::Want> PrefetchQueue::Pop(Deadline now) {
  MutexLock lock(mutex_);
  if (groups_.empty() || !MayBegin(now)) return std::nullopt;
  const auto first = groups_.begin();
  Group& group = first->second;
  Want want = {.key = std::move(group.keys[group.next]),
               .to = group.to,
               .gpu = group.gpu,
               .due = std::get<Deadline>(first->first) <= now};
  waiting_.fetch_sub(1);
  if (++group.next == group.keys.size()) {
    orders_.erase(std::get<PrefetchToken>(first->first));
    groups_.erase(first);
  }
  return want;
}

void PrefetchQueue::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
  groups_.clear();
  orders_.clear();
  waiting_.store(0);
}

uint32_t PrefetchQueue::Began(uint64_t bytes, Deadline now) {
  const uint32_t span = SpanOf(now);
  MutexLock lock(mutex_);
  figures_.ahead_bytes += bytes;
  ahead_bytes_[span] += bytes;
  return span;
}

void PrefetchQueue::Departed(uint64_t bytes) {
  MutexLock lock(mutex_);
  in_flight_bytes_ += bytes;
}

void PrefetchQueue::Arrived(uint64_t bytes) {
  MutexLock lock(mutex_);
  CAIRN_CHECK(in_flight_bytes_ >= bytes);
  in_flight_bytes_ -= bytes;
}

void PrefetchQueue::Ended(uint32_t began, uint64_t bytes, End end) {
  MutexLock lock(mutex_);
  if (const auto ahead = ahead_bytes_.find(began); ahead != ahead_bytes_.end()) {
    CAIRN_CHECK(ahead->second >= bytes);
    ahead->second -= bytes;
    figures_.ahead_bytes -= bytes;
  }
  switch (end) {
    case End::kUsed:
      ++figures_.used;
      break;
    case End::kLate:
      ++figures_.late;
      break;
    case End::kUnused:
      ++figures_.unused;
      break;
    case End::kFailed:
      return;
  }
  ++recent_;
  if (end != End::kUnused) ++recent_used_;
  if (recent_ < kRecentMax) return;
  recent_ /= 2;
  recent_used_ /= 2;
}

PrefetchQueue::Figures PrefetchQueue::figures() const {
  MutexLock lock(mutex_);
  Figures figures = figures_;
  figures.waiting = waiting_.load();
  return figures;
}

}  // namespace cairn
