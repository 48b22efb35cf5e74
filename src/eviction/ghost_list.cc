#include "src/eviction/ghost_list.h"

#include <algorithm>
#include <bit>

#include "src/base/check.h"

namespace cairn {
namespace {

constexpr size_t kRingMin = 64;

}  // namespace

uint32_t GhostList::SlotOf(uint64_t identity) const {
  const auto mask = static_cast<uint32_t>(slots_.size() - 1);
  uint32_t slot = Home(identity);
  const uint32_t tag = SlotFor(identity, 0);
  for (; slots_[slot] != kEmpty; slot = (slot + 1) & mask) {
    const uint32_t place = PlaceIn(slots_[slot]);
    if (slots_[slot] - place == tag && ring_[place] == identity) break;
  }
  return slot;
}

void GhostList::Insert(uint32_t place) {
  slots_[SlotOf(ring_[place])] = SlotFor(ring_[place], place);
}

// Moves back what would no longer be found past the hole.
void GhostList::Erase(uint32_t slot) {
  const auto mask = static_cast<uint32_t>(slots_.size() - 1);
  uint32_t hole = slot;
  for (uint32_t next = (slot + 1) & mask; slots_[next] != kEmpty; next = (next + 1) & mask) {
    const uint32_t home = Home(ring_[PlaceIn(slots_[next])]);
    if (((next - home) & mask) < ((next - hole) & mask)) continue;
    slots_[hole] = slots_[next];
    hole = next;
  }
  slots_[hole] = kEmpty;
}

// What was taken out leaves its place; more room only where that is not enough.
void GhostList::Grow() {
  const size_t room = std::max(kRingMin, std::bit_ceil(size_ + size_ / 2 + 1));
  CAIRN_CHECK(room <= size_t{1} << kPlaceBits);
  std::vector<uint64_t> ring(room);
  uint64_t count = 0;
  uint64_t walk = 0;
  for (uint64_t at = begin_; at != end_; ++at) {
    if (at == walk_) walk = count;
    const uint64_t identity = ring_[at & (ring_.size() - 1)];
    if (identity != 0) ring[count++] = identity;
  }
  CAIRN_CHECK(count == size_);
  walk_ = walk_ == end_ ? count : walk;
  ring_ = std::move(ring);
  begin_ = 0;
  end_ = count;
  slots_.assign(room * 2, kEmpty);
  slot_shift_ = 64 - std::countr_zero(slots_.size());
  for (uint32_t place = 0; place < count; ++place) Insert(place);
}

void GhostList::Add(uint64_t key_hash, uint64_t size_max) {
  Take(key_hash);
  while (size_ >= std::min(size_max, kSizeMax)) DropOldest();
  if (end_ - begin_ == ring_.size()) Grow();
  const auto place = static_cast<uint32_t>(end_ & (ring_.size() - 1));
  ring_[place] = Identity(key_hash);
  ++end_;
  ++size_;
  Insert(place);
}

bool GhostList::Take(uint64_t key_hash) {
  if (size_ == 0) return false;
  const uint32_t slot = SlotOf(Identity(key_hash));
  if (slots_[slot] == kEmpty) return false;
  const uint32_t place = PlaceIn(slots_[slot]);
  Erase(slot);
  ring_[place] = 0;
  --size_;
  return true;
}

void GhostList::DropOldest() {
  while (begin_ != end_) {
    const uint64_t identity = ring_[begin_ & (ring_.size() - 1)];
    ++begin_;
    if (identity == 0) continue;
    Take(identity);
    // The next to be forgotten lies anywhere in the slots: it is on its way until then.
    if (begin_ != end_) {
      __builtin_prefetch(&slots_[Home(ring_[begin_ & (ring_.size() - 1)])]);
    }
    return;
  }
}

void GhostList::BeginWalk(uint64_t skipped) {
  walk_ = begin_;
  for (uint64_t i = 0; i < skipped && Walk().has_value(); ++i) {
  }
}

std::optional<uint64_t> GhostList::Walk() {
  for (walk_ = std::max(walk_, begin_); walk_ < end_;) {
    const uint64_t identity = ring_[walk_++ & (ring_.size() - 1)];
    if (identity != 0) return identity;
  }
  return std::nullopt;
}

}  // namespace cairn
