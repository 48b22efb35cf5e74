#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cairn::bench {

// Times in nanoseconds, counted in fio's buckets: 64 to a power of two, an error of 0.8 % at most.
// Thread-compatible.
class Latency {
 public:
  struct Bin {
    uint64_t ns = 0;
    uint64_t count = 0;
  };

  void Record(uint64_t ns);
  void Add(const Latency& other);

  uint64_t count() const { return count_; }
  uint64_t min_ns() const { return count_ == 0 ? 0 : min_ns_; }
  uint64_t max_ns() const { return max_ns_; }
  double mean_ns() const { return mean_ns_; }
  double stddev_ns() const;
  // The middle of the bucket in which `percent` of the times have been seen; 0 of nothing.
  uint64_t PercentileNs(double percent) const;
  std::vector<Bin> Bins() const;  // Those that are not empty.

  static constexpr std::array<double, 17> kPercentiles = {
      1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99};

 private:
  static constexpr uint32_t kBits = 6;
  static constexpr uint32_t kGroups = 29;
  static constexpr size_t kBins = size_t{kGroups} << kBits;

  static size_t BinOf(uint64_t ns);
  static uint64_t MiddleOf(size_t bin);

  std::array<uint64_t, kBins> bins_ = {};
  uint64_t count_ = 0;
  uint64_t min_ns_ = UINT64_MAX;
  uint64_t max_ns_ = 0;
  double mean_ns_ = 0;
  double squares_ = 0;  // Sum of the squared distances from the mean.
};

}  // namespace cairn::bench
