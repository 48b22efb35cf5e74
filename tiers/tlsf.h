#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "tiers/reserved_array.h"

namespace cairn {

// Two-level segregated fit over a space of units, with all bookkeeping outside of it. Free runs
// are kept in bins, 32 to each doubling of the size; two bit scans find one, and a run that is
// freed joins its free neighbours: both take a time that depends on nothing. Checks nothing: its
// HybridAllocator knows what is allocated. Thread-compatible.
class Tlsf {
 public:
  // A run of units, free or used. Blocks are named by their index; no run has the index 0.
  struct Block {
    uint32_t begin;
    uint32_t units;
    uint32_t before;  // The neighbours in the space.
    uint32_t behind;
    uint32_t previous_free;  // The neighbours in the bin.
    uint32_t next_free;      // Of an unused index: the next unused one.
    uint32_t is_free;
  };
  static constexpr uint32_t kNone = 0;
  static constexpr uint32_t kUnitsMax = (uint32_t{1} << 31) - 2;

  // A free space of 0 to kUnitsMax units.
  static absl::StatusOr<Tlsf> Create(uint32_t units);

  // A used run, or kNone. Its size is rounded up to that of a bin, by 1/32 at most, so that the
  // hole that it leaves is in the bin where the next request of its size looks.
  uint32_t Allocate(uint32_t units) { return Allocate(units, BinFloor(RoundUpToBin(units))); }
  // A used run of exactly so many units, or kNone. For few and long ones, whose holes join.
  uint32_t AllocateExactly(uint32_t units) { return Allocate(units, units); }
  void Free(uint32_t block);

  const Block& block(uint32_t index) const { return blocks_[index]; }
  // No more than the longest free run has, and 31/32 of it at least.
  uint32_t LongestFreeAtLeast() const;
  // The length of the longest free run; looks at all runs of one bin.
  uint32_t LongestFree() const;

 private:
  static constexpr int kBinBits = 5;
  static constexpr uint32_t kBinsARow = 1 << kBinBits;
  static constexpr uint32_t kRows = 32 - kBinBits;
  // How many runs of the last bin are tried that may be long enough.
  static constexpr int kTriesMax = 32;

  explicit Tlsf(ReservedArray<Block> blocks) : blocks_(std::move(blocks)) {}

  static uint32_t BinOf(uint32_t units);
  static uint32_t BinFloor(uint32_t bin);
  // The first bin whose runs all have so many.
  static uint32_t RoundUpToBin(uint32_t units);
  uint32_t FirstBinFrom(uint32_t bin) const;

  uint32_t Allocate(uint32_t units, uint32_t units_wanted);
  uint32_t FindIn(uint32_t bin, uint32_t units) const;
  uint32_t Carve(uint32_t block, uint32_t units);
  uint32_t NewBlock();
  void DropBlock(uint32_t block);
  void Insert(uint32_t block);
  void Remove(uint32_t block);

  ReservedArray<Block> blocks_;
  uint32_t blocks_made_ = 1;       // Indices below it have been used.
  uint32_t unused_block_ = kNone;  // The first of those that are unused again.
  uint32_t rows_ = 0;              // A bit for each row that has a run.
  std::array<uint32_t, kRows> bins_of_rows_ = {};
  std::array<uint32_t, kRows* kBinsARow> first_of_bins_ = {};
};

}  // namespace cairn
