#pragma once

#include <array>
#include <cstddef>
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
    const Expected* const expected = Find(key_hash);
    return expected == nullptr ? 0 : expected->request;
  }
  uint32_t requests() const { return requests_; }
  // Of a tensor that comes now, or is used: when that was, which is when it was requested, if that
  // was lately, else now; and what it is worth, which in a chain is what the first of it that comes
  // is worth: a block that is dearer than those it depends on is still of no use without them.
  struct Use {
    uint32_t time = 0;
    uint8_t worth = 0;
  };
  Use UseOf(uint64_t key_hash, uint8_t worth);
  // Whether it was requested lately.
  bool Expects(uint64_t key_hash) const { return Find(key_hash) != nullptr; }
  uint32_t Now() {
    now_ = (now_ + 1) & kTimeMax;
    return now_;
  }
  uint32_t last() const { return now_; }
  // How long ago that was.
  uint32_t AgeOf(uint32_t time) const { return (now_ - time) & kTimeMax; }

  // The search in hand for what may leave began then: what stays since is picked after the rest.
  void SetSearchBegun(uint32_t time) { search_begun_ = time; }
  bool BeforeSearch(uint32_t time) const { return AgeOf(time) >= AgeOf(search_begun_); }

 private:
  static constexpr uint32_t kTimeMax = (uint32_t{1} << kTimeBits) - 1;

  struct Expected {
    uint32_t tag = 0;
    uint32_t time = 0;
    uint32_t request = 0;
  };
  struct RequestWorth {
    uint32_t request = 0;
    uint8_t worth = 0;
  };
  static constexpr size_t kRequestsMax = 64;    // Under way at a time.
  static constexpr size_t kExpectedMax = 8192;  // Of all chains under way.
  static uint32_t Tag(uint64_t key_hash) { return static_cast<uint32_t>(key_hash >> 32) | 1; }
  // Null when it is not expected. A request that is too long ago is of no chain that is under way.
  const Expected* Find(uint64_t key_hash) const {
    if (expected_.empty()) return nullptr;
    const Expected& expected = expected_[key_hash % kExpectedMax];
    const bool found = expected.tag == Tag(key_hash) && AgeOf(expected.time) <= kExpectedMax;
    return found ? &expected : nullptr;
  }

  uint32_t now_ = 0;
  uint32_t search_begun_ = 0;
  uint32_t requests_ = 0;
  // By their hashes; a later one takes an earlier one's place. Empty until the first chain.
  std::vector<Expected> expected_;
  std::array<RequestWorth, kRequestsMax> worths_;
};

}  // namespace cairn
