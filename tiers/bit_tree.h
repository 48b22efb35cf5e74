#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "src/base/status_macros.h"
#include "tiers/reserved_array.h"

namespace cairn {

// A set of numbers below a bound, as bits under summaries of 64 each: in, out and the least one
// take as many steps as the bound has digits to the base of 64.
class BitTree {
 public:
  static absl::StatusOr<BitTree> Create(uint64_t bound) {
    std::array<uint64_t, kLevelsMax + 1> level_starts = {};
    int levels = 0;
    uint64_t words = bound;
    do {
      words = (words + 63) / 64;
      level_starts[levels + 1] = level_starts[levels] + words;
      ++levels;
    } while (words > 1);
    CAIRN_ASSIGN_OR_RETURN(ReservedArray<uint64_t> all,
                           ReservedArray<uint64_t>::Create(level_starts[levels]));
    return BitTree(std::move(all), level_starts, levels);
  }

  bool Contains(uint64_t number) const { return (words_[number / 64] >> (number % 64) & 1) != 0; }
  bool empty() const { return words_[level_starts_[levels_ - 1]] == 0; }

  void Insert(uint64_t number) {
    for (int level = 0; level < levels_; ++level, number /= 64) {
      uint64_t& word = words_[level_starts_[level] + number / 64];
      const bool known_above = word != 0;
      word |= uint64_t{1} << (number % 64);
      if (known_above) return;
    }
  }
  void Remove(uint64_t number) {
    for (int level = 0; level < levels_; ++level, number /= 64) {
      uint64_t& word = words_[level_starts_[level] + number / 64];
      word &= ~(uint64_t{1} << (number % 64));
      if (word != 0) return;
    }
  }
  // The least one. Not of an empty set.
  uint64_t First() const {
    uint64_t number = 0;
    for (int level = levels_ - 1; level >= 0; --level) {
      const uint64_t word = words_[level_starts_[level] + number];
      number = number * 64 + static_cast<uint64_t>(std::countr_zero(word));
    }
    return number;
  }

 private:
  static constexpr int kLevelsMax = 11;  // 64^11 > 2^64.

  BitTree(ReservedArray<uint64_t> words, const std::array<uint64_t, kLevelsMax + 1>& level_starts,
          int levels)
      : words_(std::move(words)), level_starts_(level_starts), levels_(levels) {}

  ReservedArray<uint64_t> words_;  // The numbers' own bits first, one word of the whole last.
  std::array<uint64_t, kLevelsMax + 1> level_starts_;
  int levels_;
};

}  // namespace cairn
