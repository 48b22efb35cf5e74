#include "tiers/tlsf.h"

#include <algorithm>
#include <bit>

#include "src/base/status_macros.h"

namespace cairn {

absl::StatusOr<Tlsf> Tlsf::Create(uint32_t units) {
  // As many runs as units, and the index 0.
  CAIRN_ASSIGN_OR_RETURN(ReservedArray<Block> blocks,
                         ReservedArray<Block>::Create(uint64_t{units} + 1));
  CAIRN_ASSIGN_OR_RETURN(ReservedArray<Links> links,
                         ReservedArray<Links>::Create(uint64_t{units} + 1));
  CAIRN_ASSIGN_OR_RETURN(ReservedArray<uint32_t> first_of_pages,
                         ReservedArray<uint32_t>::Create((units >> kPageBits) + 1));
  Tlsf tlsf(std::move(blocks), std::move(links), std::move(first_of_pages));
  tlsf.blocks_[kNone] = {.begin = kBehindAll};
  if (units > 0) {
    const uint32_t block = tlsf.NewBlock();
    tlsf.blocks_[block] = {.units = units};
    tlsf.AddToPage(block);
    tlsf.Insert(block);
  }
  return tlsf;
}

// Row 0 has the sizes below 32, one to a bin; row r those from 32 << (r - 1) on. Sizes are of all
// kinds: without branches, which would be guessed wrong.
int Tlsf::ShiftOf(uint32_t units) { return 31 - kBinBits - std::countl_zero(units | kBinsARow); }

uint32_t Tlsf::BinOf(uint32_t units) {
  const int shift = ShiftOf(units);
  return (static_cast<uint32_t>(shift) << kBinBits) + (units >> shift);
}

uint32_t Tlsf::BinFloor(uint32_t bin) {
  const uint32_t shift = std::max(bin >> kBinBits, uint32_t{1}) - 1;
  return (bin - (shift << kBinBits)) << shift;
}

uint32_t Tlsf::RoundUp(uint32_t units) {
  const uint32_t step = uint32_t{1} << ShiftOf(units);
  return (units + step - 1) & ~(step - 1);
}

uint32_t Tlsf::FirstBinFrom(uint32_t bin) const {
  uint32_t row = bin >> kBinBits;
  if (row >= kRows) return kNone;
  uint32_t bins = bins_of_rows_[row] & (~uint32_t{0} << (bin & (kBinsARow - 1)));
  if (bins == 0) {
    const uint32_t rows = rows_ & (~uint32_t{0} << (row + 1));
    if (rows == 0) return kNone;
    row = static_cast<uint32_t>(std::countr_zero(rows));
    bins = bins_of_rows_[row];
  }
  return (row << kBinBits) + static_cast<uint32_t>(std::countr_zero(bins));
}

Tlsf::Run Tlsf::Allocate(uint32_t units, uint32_t units_wanted) {
  if (const uint32_t bin = FirstBinFrom(BinOf(RoundUp(units))); bin != kNone) {
    return Carve(first_of_bins_[bin], units_wanted);
  }
  // Nothing is left but what may lie between two bins.
  const uint32_t block = FindIn(BinOf(units), units);
  return block == kNone ? Run() : Carve(block, units);
}

uint32_t Tlsf::FindIn(uint32_t bin, uint32_t units) const {
  uint32_t block = first_of_bins_[bin];
  for (int tries = 0; block != kNone && tries < kTriesMax; ++tries) {
    if (blocks_[block].units >= units) return block;
    block = links_[block].next_free;
  }
  return kNone;
}

Tlsf::Run Tlsf::Carve(uint32_t block, uint32_t units) {
  Remove(block);
  const uint32_t found_units = blocks_[block].units;
  if (found_units <= units) return {block, found_units};
  Cut(block, units);
  return {block, units};
}

uint32_t Tlsf::CutOff(uint32_t block, uint32_t units) {
  Block& cut = blocks_[block];
  const uint32_t rest = NewBlock();
  blocks_[rest] = {.begin = cut.begin + units,
                   .units = cut.units - units,
                   .before = block & kUnitsMask,
                   .behind = cut.behind};
  SetBefore(cut.behind, rest);
  cut.behind = rest;
  cut.units = units;
  return rest;
}

uint32_t Tlsf::Cut(uint32_t block, uint32_t units) {
  const uint32_t rest = CutOff(block, units);
  AddToPage(rest);
  Insert(rest);
  return rest;
}

uint32_t Tlsf::Split(uint32_t block, uint32_t units, uint32_t owner) {
  const uint32_t rest = CutOff(block, units);
  // A page whose first unit this is was the other owner's.
  const uint32_t begin = blocks_[rest].begin;
  if ((begin & ((uint32_t{1} << kPageBits) - 1)) == 0) first_of_pages_[begin >> kPageBits] = rest;
  AddToPage(rest);
  SetOwner(rest, owner);
  return rest;
}

uint32_t Tlsf::AllocateWithin(uint32_t block, uint32_t begin, uint32_t end) {
  if (const uint32_t in_front = begin - blocks_[block].begin; in_front > 0) {
    Remove(block);
    const uint32_t rest = Cut(block, in_front);
    Insert(block);
    block = rest;
  }
  return Carve(block, end - begin).block;
}

void Tlsf::Free(uint32_t block) {
  if (links_[block].owner != 0) Uncover(block);
  const uint32_t behind = blocks_[block].behind;
  if (blocks_[behind].is_free != 0) {
    Remove(behind);
    blocks_[block].units += blocks_[behind].units;
    DropBlock(behind);
  }
  const uint32_t before = blocks_[block].before;
  if (blocks_[before].is_free != 0) {
    Remove(before);
    blocks_[before].units += blocks_[block].units;
    DropBlock(block);
    block = before;
  }
  Insert(block);
}

uint32_t Tlsf::LongestFreeAtLeast() const {
  if (rows_ == 0) return 0;
  const uint32_t row = 31 - static_cast<uint32_t>(std::countl_zero(rows_));
  const uint32_t bin = 31 - static_cast<uint32_t>(std::countl_zero(bins_of_rows_[row]));
  return BinFloor((row << kBinBits) + bin);
}

uint32_t Tlsf::LongestFree() const {
  const uint32_t at_least = LongestFreeAtLeast();
  uint32_t longest = at_least;
  if (at_least == 0) return 0;
  for (uint32_t block = first_of_bins_[BinOf(at_least)]; block != kNone;
       block = links_[block].next_free) {
    longest = std::max(longest, blocks_[block].units);
  }
  return longest;
}

uint32_t Tlsf::NewBlock() {
  if (unused_block_ == kNone) return blocks_made_++;
  const uint32_t block = unused_block_;
  unused_block_ = links_[block].next_free;
  return block;
}

// Takes it out of the order of the space, and its index out of use.
void Tlsf::DropBlock(uint32_t block) {
  RemoveFromPage(block);
  const Block& dropped = blocks_[block];
  if (dropped.before != kNone) blocks_[dropped.before].behind = dropped.behind;
  SetBefore(dropped.behind, dropped.before);
  links_[block].next_free = unused_block_;
  unused_block_ = block;
}

// Whether something begins in a page, and where, nobody can guess: these two do without branches.
void Tlsf::AddToPage(uint32_t block) {
  const uint32_t begin = blocks_[block].begin;
  uint32_t& first = first_of_pages_[begin >> kPageBits];
  if ((first & kOwned) != 0) return;
  first = blocks_[first].begin > begin ? block : first;
}

void Tlsf::RemoveFromPage(uint32_t block) {
  const uint32_t page = blocks_[block].begin >> kPageBits;
  const uint32_t behind = blocks_[block].behind;
  const uint32_t next = blocks_[behind].begin >> kPageBits == page ? behind : kNone;
  uint32_t& first = first_of_pages_[page];
  first = first == block ? next : first;
}

void Tlsf::SetOwner(uint32_t block, uint32_t owner) {
  const Block& owned = blocks_[block];
  links_[block].owner = owner;
  const uint32_t last_page = (owned.begin + owned.units - 1) >> kPageBits;
  for (uint32_t page = (owned.begin >> kPageBits) + 1; page <= last_page; ++page) {
    first_of_pages_[page] = kOwned + owner;
  }
}

void Tlsf::Uncover(uint32_t block) {
  const Block& owned = blocks_[block];
  const uint32_t last_page = (owned.begin + owned.units - 1) >> kPageBits;
  for (uint32_t page = (owned.begin >> kPageBits) + 1; page <= last_page; ++page) {
    first_of_pages_[page] = kNone;
  }
  if (owned.behind != kNone) AddToPage(owned.behind);
}

uint32_t Tlsf::FindCovering(uint32_t unit) const {
  uint32_t page = unit >> kPageBits;
  const auto begins_behind = [&](uint32_t first) {
    return first > kOwned || blocks_[first].begin > unit;
  };
  // The first run begins with the space.
  while (begins_behind(first_of_pages_[page])) --page;
  return FindFrom(first_of_pages_[page], unit);
}

void Tlsf::Insert(uint32_t block) {
  const uint32_t bin = BinOf(blocks_[block].units);
  const uint32_t next = first_of_bins_[bin];
  blocks_[block].is_free = 1;
  links_[block] = {.previous_free = kNone, .next_free = next};
  if (next != kNone) links_[next].previous_free = block;
  first_of_bins_[bin] = block;
  bins_of_rows_[bin >> kBinBits] |= uint32_t{1} << (bin & (kBinsARow - 1));
  rows_ |= uint32_t{1} << (bin >> kBinBits);
}

void Tlsf::Remove(uint32_t block) {
  blocks_[block].is_free = 0;
  const auto [previous, next] = std::pair(links_[block].previous_free, links_[block].next_free);
  links_[block].owner = 0;
  if (next != kNone) links_[next].previous_free = previous;
  if (previous != kNone) {
    links_[previous].next_free = next;
    return;
  }
  const uint32_t bin = BinOf(blocks_[block].units);
  first_of_bins_[bin] = next;
  if (next != kNone) return;
  bins_of_rows_[bin >> kBinBits] &= ~(uint32_t{1} << (bin & (kBinsARow - 1)));
  if (bins_of_rows_[bin >> kBinBits] == 0) rows_ &= ~(uint32_t{1} << (bin >> kBinBits));
}

}  // namespace cairn
