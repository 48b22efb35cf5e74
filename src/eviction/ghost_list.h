#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace cairn {

// The keys of copies that have left, the oldest forgotten first. 16 bytes a place, in twice as many
// places at most as there are keys: 128 MiB for kSizeMax. None before the first.
class GhostList {
 public:
  static constexpr uint64_t kSizeMax = uint64_t{1} << 22;

  // Remembers the key as the newest, and no more than `size_max` (at least 1) in all.
  void Add(uint64_t key_hash, uint64_t size_max);
  // Forgets the key; whether it was there.
  bool Take(uint64_t key_hash);
  // Forgets the oldest; nothing when there is none.
  void DropOldest();

  // A walk from the oldest to the newest, as NodeQueue's, that leaves the first `skipped` out.
  void BeginWalk(uint64_t skipped);
  // The hash of the next key; none at the end.
  std::optional<uint64_t> Walk();

  uint64_t size() const { return size_; }
  uint64_t bytes() const { return ring_.capacity() * 8 + slots_.capacity() * 4; }

 private:
  static constexpr uint32_t kEmpty = UINT32_MAX;
  static constexpr int kPlaceBits = 23;
  static constexpr uint32_t kTags = 511;  // So that no slot is kEmpty.

  // 0 stands for nothing, so a key of hash 0 is taken for that of 1.
  static uint64_t Identity(uint64_t key_hash) { return key_hash == 0 ? 1 : key_hash; }
  uint32_t Home(uint64_t identity) const {
    return static_cast<uint32_t>((identity * 0x9e3779b97f4a7c15U) >> slot_shift_);
  }
  // A slot has its place in the ring and a little of the key, so that a key that is not there is
  // mostly known without a look at the ring.
  static uint32_t SlotFor(uint64_t identity, uint32_t place) {
    return (static_cast<uint32_t>(identity % kTags) << kPlaceBits) | place;
  }
  static uint32_t PlaceIn(uint32_t slot) { return slot & ((uint32_t{1} << kPlaceBits) - 1); }
  uint32_t SlotOf(uint64_t identity) const;
  void Insert(uint32_t place);
  void Erase(uint32_t slot);
  void Grow();

  // The keys in their order, from begin_ to end_, both counted without end; 0: taken out.
  std::vector<uint64_t> ring_;
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
  uint64_t walk_ = 0;  // The next of the walk, from begin_ to end_, or one that is forgotten.
  uint64_t size_ = 0;
  // By hash; linear probing, at most half full.
  std::vector<uint32_t> slots_;
  int slot_shift_ = 64;
};

}  // namespace cairn
