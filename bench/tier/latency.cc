#include "bench/tier/latency.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace cairn::bench {

size_t Latency::BinOf(uint64_t ns) {
  constexpr uint64_t kExact = uint64_t{2} << kBits;  // One bucket a nanosecond up to here.
  if (ns < kExact) return static_cast<size_t>(ns);
  const uint32_t error_bits = static_cast<uint32_t>(std::bit_width(ns)) - 1 - kBits;
  const size_t bin = (size_t{error_bits + 1} << kBits) +
                     static_cast<size_t>((ns >> error_bits) & ((uint64_t{1} << kBits) - 1));
  return std::min(bin, kBins - 1);
}

uint64_t Latency::MiddleOf(size_t bin) {
  if (bin < (size_t{2} << kBits)) return bin;
  const uint32_t error_bits = static_cast<uint32_t>(bin >> kBits) - 1;
  const uint64_t base = uint64_t{1} << (error_bits + kBits);
  const uint64_t step = bin & ((size_t{1} << kBits) - 1);
  return base + (step << error_bits) + (uint64_t{1} << error_bits) / 2;
}

void Latency::Record(uint64_t ns) {
  ++bins_[BinOf(ns)];
  ++count_;
  min_ns_ = std::min(min_ns_, ns);
  max_ns_ = std::max(max_ns_, ns);
  const double distance = static_cast<double>(ns) - mean_ns_;
  mean_ns_ += distance / static_cast<double>(count_);
  squares_ += distance * (static_cast<double>(ns) - mean_ns_);
}

void Latency::Add(const Latency& other) {
  if (other.count_ == 0) return;
  for (size_t i = 0; i < kBins; ++i) bins_[i] += other.bins_[i];
  const double mine = static_cast<double>(count_);
  const double theirs = static_cast<double>(other.count_);
  const double distance = other.mean_ns_ - mean_ns_;
  mean_ns_ += distance * theirs / (mine + theirs);
  squares_ += other.squares_ + distance * distance * mine * theirs / (mine + theirs);
  count_ += other.count_;
  min_ns_ = std::min(min_ns_, other.min_ns_);
  max_ns_ = std::max(max_ns_, other.max_ns_);
}

double Latency::stddev_ns() const {
  return count_ < 2 ? 0 : std::sqrt(squares_ / static_cast<double>(count_ - 1));
}

uint64_t Latency::PercentileNs(double percent) const {
  if (count_ == 0) return 0;
  const double wanted = std::ceil(percent / 100 * static_cast<double>(count_) - 1e-9);
  uint64_t seen = 0;
  for (size_t i = 0; i < kBins; ++i) {
    seen += bins_[i];
    if (static_cast<double>(seen) >= wanted && seen > 0) return MiddleOf(i);
  }
  return max_ns_;
}

std::vector<Latency::Bin> Latency::Bins() const {
  std::vector<Bin> bins;
  for (size_t i = 0; i < kBins; ++i) {
    if (bins_[i] > 0) bins.push_back({.ns = MiddleOf(i), .count = bins_[i]});
  }
  return bins;
}

}  // namespace cairn::bench
