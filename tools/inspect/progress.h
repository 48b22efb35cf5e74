#pragma once

#include <chrono>
#include <cstdint>

namespace cairn::inspect {

// "45 %  2310 MiB/s" on a terminal, nothing elsewhere.
class Progress {
 public:
  explicit Progress(uint64_t bytes_total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Add(uint64_t bytes);
  double Seconds() const;
  double MibPerSecond() const;

 private:
  using Clock = std::chrono::steady_clock;

  const bool terminal_;
  const uint64_t bytes_total_;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point drawn_at_ = begin_;
  bool drawn_ = false;
  uint64_t bytes_ = 0;
};

}  // namespace cairn::inspect
