#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cairn/stats.h"
#include "src/base/clock.h"
#include "src/machine/readings.h"

namespace cairn {

// How short memory is, in per cent of a reserve. Of each memory (the host's, a control group's, the
// GPU's) an eighth is to stay free, 8 GiB at most: that is its reserve. While all of it is free the
// pressure is 0 %, when nothing is free it is 100 %. So 30 %, where it becomes medium, is a memory
// of 64 GiB with less than 5.6 GiB left, and 80 %, high, one with less than 1.6 GiB; in a control
// group of 1 GiB it is 90 MiB and 26 MiB. Waiting for memory (PSI) is pressure too: the per cent of
// the time in which some task did.
struct MemoryAmount {
  uint64_t bytes_max = 0;
  uint64_t bytes_free = 0;  // With what the kernel could drop.
};
uint32_t PressurePercent(const MemoryAmount& memory);
// What may be taken of it until its pressure is `percent`; negative: what is to be given back.
int64_t BytesUntil(const MemoryAmount& memory, uint32_t percent);

inline constexpr uint32_t kMediumPercent = 30;
inline constexpr uint32_t kHighPercent = 80;
// A level is left only below these, so that a figure at its bound does not toggle it.
inline constexpr uint32_t kMediumLeftPercent = 25;
inline constexpr uint32_t kHighLeftPercent = 70;

// Of one moment. What could not be read is absent, and is no pressure.
struct PressureReadings {
  std::optional<MemoryAmount> host;
  std::vector<MemoryAmount> groups;  // Control groups around this process that limit memory.
  std::optional<MemoryAmount> gpu;
  std::optional<uint32_t> stall_percent;       // Of the process's own control group.
  std::optional<uint32_t> stall_percent_host;  // Of all processes.
};

// Of the memory that L2 is made of. Waiting on the host counts as medium at most: it may be that of
// a control group that is none of ours.
uint32_t HostPercent(const PressureReadings& readings);
// As BytesUntil, of the memory of L2 that has least; nothing known: more than there is.
int64_t HostBytesUntil(const PressureReadings& readings, uint32_t percent);
// The control group with the highest pressure; null without any.
const MemoryAmount* TightestGroup(const PressureReadings& readings);

// How fast memory goes. A process that takes 100 MB/s has taken the fifth of a small reserve that
// is left at high before L2 has found and emptied as much: so what will be gone soon counts as
// gone. Thread-compatible.
class MemoryTrend {
 public:
  static constexpr std::chrono::milliseconds kAhead{500};

  // The reading of a moment. The last eight are looked at, those of 0.4 s.
  void Note(int64_t bytes_left, Deadline now);
  void Clear() { count_ = 0; }
  // What will be gone in kAhead if it goes on so; 0 where it does not fall, fell at one stroke, or
  // has fewer than three readings, or less than 70 ms of them.
  int64_t BytesGoing() const;

 private:
  struct Reading {
    int64_t bytes_left = 0;
    Deadline at;
  };
  static constexpr size_t kReadings = 8;

  std::array<Reading, kReadings> readings_;  // By their number modulo theirs.
  size_t count_ = 0;
};

// The level by the percentages read one after the other. Thread-compatible.
class PressureGauge {
 public:
  PressureLevel Update(uint32_t percent);
  PressureLevel level() const { return level_; }

 private:
  PressureLevel level_ = PressureLevel::kLow;
};

// Reads them of the system, below a root that tests make. Some ten small files a reading.
// Thread-compatible.
class PressureReader {
 public:
  explicit PressureReader(std::string root) : readings_(std::move(root)) {}

  // But for the GPU. What tasks waited is of the last half second or more.
  PressureReadings Read(Deadline now);

 private:
  class Stalls {
   public:
    std::optional<uint32_t> Percent(std::optional<uint64_t> total_us, Deadline now);

   private:
    std::optional<uint64_t> total_us_;
    Deadline at_;
    std::optional<uint32_t> percent_;
  };

  const Readings readings_;
  Stalls group_stalls_;
  Stalls host_stalls_;
};

}  // namespace cairn
