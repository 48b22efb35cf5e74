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
  // A run of units, free or used. Blocks are named by their index; no run has the index 0, where
  // one begins and ends behind all units. Only
  // what a free looks at in its neighbours, too: four to a line of the processor's cache.
  struct Block {
    uint32_t begin;
    uint32_t units;
    uint32_t before : 31;  // The neighbours in the space.
    uint32_t is_free : 1;
    uint32_t behind;
  };
  static constexpr uint32_t kNone = 0;
  static constexpr uint32_t kUnitsMax = (uint32_t{1} << 31) - 2;

  // A free space of 0 to kUnitsMax units.
  static absl::StatusOr<Tlsf> Create(uint32_t units);

  // What was allocated: kNone of no units where there was no room.
  struct Run {
    uint32_t block = kNone;
    uint32_t units = 0;
  };
  // A used run. Its size is rounded up to that of a bin, by 1/32 at most, so that the hole that it
  // leaves is in the bin where the next request of its size looks.
  Run Allocate(uint32_t units) { return Allocate(units, RoundUp(units)); }
  static uint32_t RoundUp(uint32_t units);
  // A used run of exactly so many units. For few and long ones, whose holes join.
  Run AllocateExactly(uint32_t units) { return Allocate(units, units); }
  void Free(uint32_t block);
  // Marks a used run that is cut further: it is found by all of its units and has this number,
  // below 2^31 and not 0, until it is freed. Takes a step for each page that it is long.
  void SetOwner(uint32_t block, uint32_t owner);

  // Cuts a run with an owner: leaves so many units, and returns the rest, of another owner.
  uint32_t Split(uint32_t block, uint32_t units, uint32_t owner);

  const Block& block(uint32_t index) const { return blocks_[index]; }
  // What SetOwner said of a used run, or 0.
  uint32_t owner(uint32_t index) const {
    return blocks_[index].is_free != 0 ? 0 : links_[index].owner;
  }
  // The owner of the run where the first unit of this one's page is, when it has one and begins
  // before the page; else 0. So units of what is cut further are mostly found at once.
  uint32_t OwnerOfPage(uint32_t unit) const {
    const uint32_t first = first_of_pages_[unit >> kPageBits];
    return (first & kOwned) != 0 ? first - kOwned : 0;
  }
  // The run where this unit is, or another or kNone: surely found by its first unit, and by all if
  // it has an owner. Looks at what begins in one page, which is of no owner.
  uint32_t Find(uint32_t unit) const { return FindFrom(first_of_pages_[unit >> kPageBits], unit); }
  // The same, looking from this run on.
  uint32_t FindFrom(uint32_t block, uint32_t unit) const {
    while (blocks_[block].begin + blocks_[block].units <= unit) block = blocks_[block].behind;
    return block;
  }
  // The run where this unit of the space is. Takes a step for each page in front of it where
  // nothing begins.
  uint32_t FindCovering(uint32_t unit) const;
  // Makes a used run of exactly [begin, end), which is within this free one.
  uint32_t AllocateWithin(uint32_t block, uint32_t begin, uint32_t end);
  // No more than the longest free run has, and 31/32 of it at least.
  uint32_t LongestFreeAtLeast() const;
  // The length of the longest free run; looks at all runs of one bin.
  uint32_t LongestFree() const;

 private:
  static constexpr int kBinBits = 5;
  static constexpr uint32_t kBinsARow = 1 << kBinBits;
  static constexpr uint32_t kRows = 32 - kBinBits;
  // A map of the space has one entry for so many units, so that it stays in the processor's cache:
  // 256 KiB for 64 GiB of pages of 4 KiB. One for each would miss it for every block.
  static constexpr int kPageBits = 8;
  static constexpr uint32_t kUnitsMask = (uint32_t{1} << 31) - 1;
  static constexpr uint32_t kBehindAll = ~uint32_t{0};
  // In that map, with an owner's number.
  static constexpr uint32_t kOwned = uint32_t{1} << 31;
  // How many runs of the last bin are tried that may be long enough.
  static constexpr int kTriesMax = 32;

  // What else there is of a block.
  struct Links {
    union {
      uint32_t previous_free;  // The neighbours in the bin, of a free run.
      uint32_t owner;          // Of a used one.
    };
    uint32_t next_free;  // Of an unused index: the next unused one.
  };

  Tlsf(ReservedArray<Block> blocks, ReservedArray<Links> links,
       ReservedArray<uint32_t> first_of_pages)
      : blocks_(std::move(blocks)),
        links_(std::move(links)),
        first_of_pages_(std::move(first_of_pages)) {}

  static int ShiftOf(uint32_t units);
  static uint32_t BinOf(uint32_t units);
  static uint32_t BinFloor(uint32_t bin);
  uint32_t FirstBinFrom(uint32_t bin) const;

  Run Allocate(uint32_t units, uint32_t units_wanted);
  uint32_t FindIn(uint32_t bin, uint32_t units) const;
  Run Carve(uint32_t block, uint32_t units);
  // Leaves so many units in a run that is in no bin; the rest is a free run behind it.
  uint32_t Cut(uint32_t block, uint32_t units);
  // The same, but the rest is in no bin and no page yet.
  uint32_t CutOff(uint32_t block, uint32_t units);
  uint32_t NewBlock();
  void DropBlock(uint32_t block);
  void AddToPage(uint32_t block);
  void RemoveFromPage(uint32_t block);
  void Uncover(uint32_t block);
  void Insert(uint32_t block);
  void Remove(uint32_t block);
  void SetBefore(uint32_t block, uint32_t before) { blocks_[block].before = before & kUnitsMask; }

  ReservedArray<Block> blocks_;
  ReservedArray<Links> links_;
  // By page: kOwned and the owner of the run that has its first unit and begins before it, else the
  // first run that begins in it.
  ReservedArray<uint32_t> first_of_pages_;
  uint32_t blocks_made_ = 1;       // Indices below it have been used.
  uint32_t unused_block_ = kNone;  // The first of those that are unused again.
  uint32_t rows_ = 0;              // A bit for each row that has a run.
  std::array<uint32_t, kRows> bins_of_rows_ = {};
  std::array<uint32_t, kRows* kBinsARow> first_of_bins_ = {};
};

}  // namespace cairn
