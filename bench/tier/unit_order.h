#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "bench/tier/job.h"

namespace cairn::bench {

// Which block a job touches next. Sequential jobs go through them in order, random ones touch each
// once in an order of their own before any comes again, as fio's do. Thread-compatible.
class UnitOrder {
 public:
  struct Step {
    uint64_t unit = 0;
    bool write = false;
  };

  // `units` is not 0. Each clone of a random job has another order.
  UnitOrder(const Job& job, uint32_t clone, uint64_t units);

  Step Next();

 private:
  const bool mixed_;
  const bool writes_;
  const uint32_t read_percent_;
  const uint64_t units_;
  std::mt19937_64 random_;
  std::vector<uint32_t> shuffled_;  // Empty for a sequential job.
  uint64_t next_ = 0;
};

}  // namespace cairn::bench
