#include "io/weighted_turns.h"

#include <utility>

#include "src/base/check.h"

namespace cairn {

WeightedTurns::WeightedTurns(std::vector<uint32_t> weights)
    : weights_(std::move(weights)), short_of_(weights_.size()) {}

size_t WeightedTurns::Next(uint64_t amount, absl::FunctionRef<bool(size_t)> takes_part) {
  size_t next = weights_.size();
  int64_t taken = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (!takes_part(i)) continue;
    const auto due = static_cast<int64_t>(weights_[i] * amount);
    taken += due;
    short_of_[i] += due;
    if (next == weights_.size() || short_of_[i] > short_of_[next]) next = i;
  }
  CAIRN_CHECK(next < weights_.size());
  short_of_[next] -= taken;
  return next;
}

}  // namespace cairn
