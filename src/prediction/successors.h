#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace cairn {

// Which key was asked for after each, the last time: hash by hash.
//
// Of a chain's blocks nearly all have one successor, and of those with several the last is the best
// guess; where it was another each time, there is none. So a key has its last successor and
// whether the one before was the same, which spares most of the wrong guesses (bench/RESULTS.md).
//
// 16 bytes a key, in lines of the cache with four each, of which the oldest makes room. Bookkeeping
// only. Thread-safe without a lock: what threads learn of one key at one moment may be mixed up,
// and is a wrong guess at worst.
class Successors {
 public:
  explicit Successors(size_t keys_max);

  void Learn(uint64_t key, uint64_t next);
  // 0: nobody can say.
  uint64_t After(uint64_t key) const;
  size_t memory_bytes() const { return (mask_ + 1) * sizeof(Line); }

 private:
  static constexpr size_t kLineKeys = 4;
  // The lowest bit of a key says that its successor was the same the last two times, or is the
  // first. 0: no key.
  static constexpr uint64_t kSure = 1;
  struct Slot {
    std::atomic<uint64_t> key = 0;
    std::atomic<uint64_t> next = 0;
  };
  struct alignas(64) Line {
    std::array<Slot, kLineKeys> slots;
  };
  Line& LineOf(uint64_t key) const { return lines_[(key >> 1) & mask_]; }

  const size_t mask_;
  const std::unique_ptr<Line[]> lines_;
};

}  // namespace cairn
