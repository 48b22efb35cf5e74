#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"

namespace cairn {

// Who is next of several that take something in proportion to their weights, each as evenly as can
// be (smooth weighted round robin): of the weights 3 and 1 the first takes 1, 2 and 4 of four,
// not three in a row; where all are alike they take turns. What each has had is never as much as
// one turn more than its share. A pure function of what it was asked: where data files lie depends
// on it (FORMAT.md). Thread-compatible.
class WeightedTurns {
 public:
  // One or more, none of them 0.
  explicit WeightedTurns(std::vector<uint32_t> weights);

  // Whose turn it is to take `amount`, among those that take part: one at least. Who does not now
  // neither gains nor loses by it, and has nothing to make up for later.
  size_t Next(uint64_t amount, absl::FunctionRef<bool(size_t)> takes_part);
  size_t Next() {
    return Next(1, [](size_t) { return true; });
  }

 private:
  const std::vector<uint32_t> weights_;
  // What each is short of its share, times the sum of the weights. Their sum is 0.
  std::vector<int64_t> short_of_;
};

}  // namespace cairn
