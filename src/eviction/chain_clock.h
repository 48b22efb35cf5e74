#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace cairn {

// The time of uses, counted in uses. A chain that is requested takes as many ticks as it has
// blocks, the last block the first of them: so a queue that is ordered by time lets a block go
// before the one that it depends on, in whatever order the blocks come.
class ChainClock {
 public:
  // Times have so many bits and go round.
  static constexpr int kTimeBits = 28;

  // Whether `a` is after `b`.
  static bool Later(uint32_t a, uint32_t b) {
    constexpr uint32_t kHalf = uint32_t{1} << (kTimeBits - 1);
    return ((b - a) & kTimeMax) > kHalf;
  }

  void Request(absl::Span<const uint64_t> key_hashes);
  // Which of the requests it was, counted from 1; 0 when it was not requested lately.
  uint32_t RequestOf(uint64_t key_hash) const {
    return Expects(key_hash) ? Slot(key_hash).request : 0;
  }
  uint32_t requests() const { return requests_; }
  // When a tensor that comes now was used: when it was requested, if that was lately, else now.
  uint32_t TimeOf(uint64_t key_hash) { return Expects(key_hash) ? Slot(key_hash).time : Now(); }
  // Whether it was requested lately.
  bool Expects(uint64_t key_hash) const;
  uint32_t Now() {
    now_ = (now_ + 1) & kTimeMax;
    return now_;
  }

 private:
  static constexpr uint32_t kTimeMax = (uint32_t{1} << kTimeBits) - 1;

  struct Expected {
    uint32_t tag = 0;
    uint32_t time = 0;
    uint32_t request = 0;
  };
  static uint32_t Tag(uint64_t key_hash) { return static_cast<uint32_t>(key_hash >> 32) | 1; }
  Expected& Slot(uint64_t key_hash) { return expected_[key_hash % expected_.size()]; }
  const Expected& Slot(uint64_t key_hash) const { return expected_[key_hash % expected_.size()]; }

  uint32_t now_ = 0;
  uint32_t requests_ = 0;
  // By their hashes; a later one takes an earlier one's place. Empty until the first chain.
  std::vector<Expected> expected_;
};

}  // namespace cairn
