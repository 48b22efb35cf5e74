#include "tiers/read_rate.h"

#include <algorithm>
#include <cmath>

namespace cairn {
namespace {

// Of the last reads in the latency: an eighth each.
constexpr int64_t kLatencyShare = 8;

double Seconds(std::chrono::duration<double> duration) { return duration.count(); }

}  // namespace

ReadRate::ReadRate(size_t drives)
    : bytes_per_second_(kPriorBytesPerSecond * drives),
      seconds_(Seconds(kPriorWeight)),
      bytes_(static_cast<double>(kPriorBytesPerSecond * drives) * Seconds(kPriorWeight)) {}

void ReadRate::Begin(uint64_t bytes, Deadline now) {
  const uint64_t before = under_way_.fetch_add(bytes, std::memory_order_relaxed);
  if (before < kBusyBytes && before + bytes >= kBusyBytes) Turn(now);
}

void ReadRate::End(const Read& read, Deadline now) {
  const uint64_t before = under_way_.fetch_sub(read.bytes, std::memory_order_relaxed);
  if (before < kBusyBytes) {
    if (!read.ok || read.service_us <= 0) return;
    // Two at once: one is not counted, which a mean bears.
    const int64_t latency_us = latency_us_.load(std::memory_order_relaxed);
    latency_us_.store(latency_us + (read.service_us - latency_us) / kLatencyShare,
                      std::memory_order_relaxed);
    return;
  }
  if (read.ok) read_bytes_.fetch_add(read.bytes, std::memory_order_relaxed);
  const bool ends = before - read.bytes < kBusyBytes;
  if (ends || Nanoseconds(now) >= turn_due_ns_.load(std::memory_order_relaxed)) Turn(now);
}

void ReadRate::Turn(Deadline now) {
  MutexLock lock(mutex_);
  if (busy_ && now > span_begin_) {
    const double seconds = Seconds(now - span_begin_);
    const double kept = std::exp(-seconds / Seconds(kMemory));
    seconds_ = seconds_ * kept + seconds;
    bytes_ =
        bytes_ * kept + static_cast<double>(read_bytes_.exchange(0, std::memory_order_relaxed));
    bytes_per_second_.store(std::max<uint64_t>(static_cast<uint64_t>(bytes_ / seconds_), 1),
                            std::memory_order_relaxed);
  }
  busy_ = under_way_.load(std::memory_order_relaxed) >= kBusyBytes;
  // Who turns at the same time may have looked at the clock before.
  span_begin_ = std::max(span_begin_, now);
  turn_due_ns_.store(busy_ ? Nanoseconds(span_begin_ + kSpan) : INT64_MAX,
                     std::memory_order_relaxed);
}

uint64_t ReadRate::bytes_per_second(Deadline now) {
  // A device that answers no more is slow, though nothing ends that would say so.
  if (Nanoseconds(now) >= turn_due_ns_.load(std::memory_order_relaxed)) Turn(now);
  return bytes_per_second_.load(std::memory_order_relaxed);
}

absl::Duration ReadRate::Arrival(uint64_t bytes, Deadline now) {
  const auto to_read = static_cast<double>(bytes_under_way() + bytes);
  return absl::Microseconds(latency_us()) +
         absl::Seconds(to_read / static_cast<double>(bytes_per_second(now)));
}

}  // namespace cairn
