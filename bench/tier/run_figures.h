#pragma once

#include <array>

#include "absl/types/span.h"

namespace cairn::bench {

// What fio and tier-bench both know of one run of a job, so that one can stand beside the other.
struct RunFigures {
  static constexpr std::array<double, 3> kPercentiles = {50, 99, 99.9};

  struct Direction {
    double bytes_per_s = 0;
    double ios_per_s = 0;
    std::array<double, kPercentiles.size()> clat_ns = {};  // At kPercentiles.
  };
  Direction read;
  Direction write;
  double cores = 0;  // Seconds of CPU a second.

  double bytes_per_s() const { return read.bytes_per_s + write.bytes_per_s; }
  double percent_of_core_per_gibps() const;
};

// Of each figure by itself.
RunFigures MedianFigures(absl::Span<const RunFigures> runs);

}  // namespace cairn::bench
