#include "src/machine/memory_pressure.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

namespace cairn {
namespace {

constexpr uint64_t kReservePart = 8;
constexpr uint64_t kReserveBytesMax = uint64_t{8} << 30;
// Shorter ones say little: a single wait fills them.
constexpr std::chrono::milliseconds kStallWindow{500};
// Of the trend. The longest one is that of a thread that was held up.
constexpr std::chrono::milliseconds kWindow{400};
constexpr std::chrono::milliseconds kWindowMin{70};

uint64_t ReserveBytes(const MemoryAmount& memory) {
  return std::min(memory.bytes_max / kReservePart, kReserveBytesMax);
}

}  // namespace

uint32_t PressurePercent(const MemoryAmount& memory) {
  const uint64_t reserve = ReserveBytes(memory);
  if (reserve == 0 || memory.bytes_free >= reserve) return 0;
  return static_cast<uint32_t>((reserve - memory.bytes_free) * 100 / reserve);
}

int64_t BytesUntil(const MemoryAmount& memory, uint32_t percent) {
  const uint64_t left = ReserveBytes(memory) / 100 * (100 - std::min<uint32_t>(percent, 100));
  return static_cast<int64_t>(memory.bytes_free) - static_cast<int64_t>(left);
}

uint32_t HostPercent(const PressureReadings& readings) {
  uint32_t percent = std::max(readings.stall_percent.value_or(0),
                              std::min(readings.stall_percent_host.value_or(0), kHighPercent - 1));
  if (readings.host.has_value()) percent = std::max(percent, PressurePercent(*readings.host));
  for (const MemoryAmount& group : readings.groups) {
    percent = std::max(percent, PressurePercent(group));
  }
  return std::min<uint32_t>(percent, 100);
}

int64_t HostBytesUntil(const PressureReadings& readings, uint32_t percent) {
  int64_t bytes = std::numeric_limits<int64_t>::max();
  if (readings.host.has_value()) bytes = BytesUntil(*readings.host, percent);
  for (const MemoryAmount& group : readings.groups) {
    bytes = std::min(bytes, BytesUntil(group, percent));
  }
  return bytes;
}

const MemoryAmount* TightestGroup(const PressureReadings& readings) {
  const auto looser = [](const MemoryAmount& a, const MemoryAmount& b) {
    return BytesUntil(a, 0) > BytesUntil(b, 0);
  };
  const auto tightest = std::max_element(readings.groups.begin(), readings.groups.end(), looser);
  return tightest == readings.groups.end() ? nullptr : &*tightest;
}

void MemoryTrend::Note(int64_t bytes_left, Deadline now) {
  readings_[count_++ % kReadings] = {bytes_left, now};
}

// The slower of the two halves: what was taken at a stroke is not going on.
int64_t MemoryTrend::BytesGoing() const {
  if (count_ == 0) return 0;
  const auto reading = [this](size_t number) { return readings_[number % kReadings]; };
  const size_t last = count_ - 1;
  size_t first = count_ - std::min(count_, kReadings);
  while (reading(last).at - reading(first).at > kWindow) ++first;
  if (last - first < 2 || reading(last).at - reading(first).at < kWindowMin) return 0;
  const auto going = [&](size_t from, size_t to) {
    const auto bytes = static_cast<double>(reading(from).bytes_left - reading(to).bytes_left);
    const auto elapsed = reading(to).at - reading(from).at;
    if (elapsed.count() <= 0) return 0LL;
    return std::llround(bytes * (std::chrono::duration<double>(kAhead) / elapsed));
  };
  const size_t middle = first + (last - first) / 2;
  return std::max<int64_t>(0, std::min(going(first, middle), going(middle, last)));
}

PressureLevel PressureGauge::Update(uint32_t percent) {
  const bool was_high = level_ == PressureLevel::kHigh;
  const bool was_low = level_ == PressureLevel::kLow;
  if (percent >= (was_high ? kHighLeftPercent : kHighPercent)) {
    level_ = PressureLevel::kHigh;
  } else if (percent >= (was_low ? kMediumPercent : kMediumLeftPercent)) {
    level_ = PressureLevel::kMedium;
  } else {
    level_ = PressureLevel::kLow;
  }
  return level_;
}

std::optional<uint32_t> PressureReader::Stalls::Percent(std::optional<uint64_t> total_us,
                                                        Deadline now) {
  const bool goes_on = total_us.has_value() && total_us_.has_value() && *total_us >= *total_us_;
  if (goes_on && now < at_ + kStallWindow) return percent_;
  const std::optional<uint64_t> before = std::exchange(total_us_, total_us);
  const Deadline from = std::exchange(at_, now);
  percent_ = std::nullopt;
  if (!goes_on) return percent_;
  const int64_t elapsed_us =
      std::chrono::duration_cast<std::chrono::microseconds>(now - from).count();
  const uint64_t percent = (*total_us - *before) * 100 / static_cast<uint64_t>(elapsed_us);
  percent_ = static_cast<uint32_t>(std::min<uint64_t>(percent, 100));
  return percent_;
}

PressureReadings PressureReader::Read(Deadline now) {
  PressureReadings read;
  const std::optional<uint64_t> total = readings_.Field("/proc/meminfo", "MemTotal");
  const std::optional<uint64_t> available = readings_.Field("/proc/meminfo", "MemAvailable");
  if (total.has_value() && available.has_value()) read.host = MemoryAmount{*total, *available};
  for (const MemoryLimit& limit : ReadMemoryLimits(readings_)) {
    read.groups.push_back(
        {limit.bytes_max, limit.bytes_max - std::min(limit.bytes_max, limit.bytes_used)});
  }
  read.stall_percent = group_stalls_.Percent(ReadGroupStallUs(readings_), now);
  read.stall_percent_host =
      host_stalls_.Percent(ReadStallUs(readings_, "/proc/pressure/memory"), now);
  return read;
}

}  // namespace cairn
