#pragma once

#include <cstdint>

namespace cairn {

inline constexpr double kMillisecondsADay = 24 * 60 * 60 * 1e3;

// How many bytes may be written by now: a bucket that fills at a steady rate and holds no more than
// a burst. It can be overdrawn, for what is written whatever it says, and then has to fill up from
// there. So what is written in any time is at most the rate's share of it, what was in hand at its
// beginning, and what is owed at its end. Not thread-safe.
class WriteBudget {
 public:
  struct Options {
    uint64_t bytes_per_day = 0;
    uint64_t burst_bytes = 0;   // In hand at most.
    int64_t in_hand_bytes = 0;  // At `now_ms`.
    int64_t now_ms = 0;
  };
  explicit WriteBudget(const Options& options);

  // Time has come so far. A clock that goes back gives nothing until it has caught up.
  void AdvanceTo(int64_t now_ms);
  void Spend(uint64_t bytes) { in_hand_bytes_ -= static_cast<double>(bytes); }
  // What was spent and then not written.
  void Return(uint64_t bytes) { in_hand_bytes_ += static_cast<double>(bytes); }

  double in_hand_bytes() const { return in_hand_bytes_; }  // Under 0: owed.
  // Since the beginning, with what was in hand then; what did not fit the bucket is not in it.
  double granted_bytes() const { return granted_bytes_; }
  double BytesIn(double seconds) const { return bytes_per_ms_ * 1e3 * seconds; }

 private:
  const double bytes_per_ms_;
  const double burst_bytes_;
  double in_hand_bytes_;
  double granted_bytes_;
  int64_t now_ms_;
};

}  // namespace cairn
