#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "tests/simulation/random.h"

namespace cairn {

// A disk with a volatile cache, in memory: what was written is read at once, and is on the medium
// when it was flushed, or when chance had it so. Untouched parts take no memory.
//
// Of a run on fibers: nothing here gives way to another, so that every call is one moment.
class SimulatedDisk {
 public:
  static constexpr uint64_t kBlockBytes = 4096;
  static constexpr uint64_t kFileBytesMax = uint64_t{16} << 20;
  static constexpr uint64_t kFilesMax = 2;
  static constexpr uint64_t kBlockCount = kFilesMax * kFileBytesMax / kBlockBytes;

  SimulatedDisk();
  ~SimulatedDisk();
  SimulatedDisk(const SimulatedDisk&) = delete;
  SimulatedDisk& operator=(const SimulatedDisk&) = delete;

  // All zeros again.
  void Reset();

  static uint64_t BlockAt(int file, uint64_t offset) {
    return (static_cast<uint64_t>(file) * kFileBytesMax + offset) / kBlockBytes;
  }
  void Write(uint64_t block, const std::byte* bytes, Random& random);
  void Read(uint64_t block, std::byte* bytes) const;
  void FlipBit(uint64_t block, uint64_t bit);

  // A flush in two moments: what was written before the first is on the medium after the second.
  struct Flush {
    uint64_t first = 0;  // The blocks it is about.
    uint64_t end = 0;
    std::vector<std::pair<uint64_t, uint32_t>> blocks;  // With the number of their write.
  };
  Flush BeginFlush(int file);
  void EndFlush(const Flush& flush);

  // One that failed: what it was about is no longer known to need one. It is read on, no later
  // flush takes it along, and loss of power loses it.
  void FailFlush(const Flush& flush);
  // One whose disk is gone.
  void AbandonFlush() { --flushes_under_way_; }
  // Of the flushes under way none will end.
  void AbandonFlushes() { flushes_under_way_ = 0; }

  // What was not flushed is on the medium or not, block by block.
  void PowerCut(Random& random);

  uint64_t dirty_blocks() const { return dirty_.size(); }
  // Not on the medium, and not to come there by any flush.
  uint64_t lost_blocks() const { return lost_.size(); }

 private:
  std::byte* CacheAt(uint64_t block) const { return cache_ + block * kBlockBytes; }
  std::byte* MediumAt(uint64_t block) const { return medium_ + block * kBlockBytes; }
  void Persist(uint64_t block);

  std::byte* const cache_;
  std::byte* const medium_;
  std::vector<uint32_t> writes_;  // Of each block, so far.
  uint64_t flushes_under_way_ = 0;
  std::vector<bool> is_dirty_;
  std::vector<uint64_t> dirty_;  // In the order in which they became so.
  std::set<uint64_t> lost_;
};

}  // namespace cairn
