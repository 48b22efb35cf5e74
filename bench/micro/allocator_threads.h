#pragma once

#include <array>
#include <string>
#include <vector>

#include "tiers/allocator.h"

namespace cairn::micro {

struct ThreadsOptions {
  int windows = 7;  // Of which the median counts.
  double window_seconds = 0.1;
};

constexpr std::array<int, 4> kThreadCounts = {1, 2, 4, 8};

struct ThreadsRow {
  std::string name;
  Allocator* allocator;  // Thread-safe.
  // Millions of allocations of a KV block and its free a second, by so many threads together.
  std::array<double, kThreadCounts.size()> pairs_a_microsecond = {};
  double two_over_one = 0;
  // With what other processes took of the CPUs left out: pairs by the threads' own CPU time. Says
  // nothing of threads that sleep while they wait for a lock, which costs them none.
  double two_over_one_by_cpu = 0;
  double eight_over_two = 0;
};

// Fills the rows' figures in. All rows and numbers of threads turn about, and ratios are of windows
// of one turn: others on the machine take from all alike.
void MeasureThreads(std::vector<ThreadsRow>& rows, const ThreadsOptions& options);

}  // namespace cairn::micro
