#include "src/prediction/successors.h"

#include <algorithm>
#include <bit>

namespace cairn {

Successors::Successors(size_t keys_max)
    : mask_(std::bit_ceil(std::max<size_t>(keys_max / kLineKeys, 1)) - 1),
      lines_(std::make_unique<Line[]>(mask_ + 1)) {}

void Successors::Learn(uint64_t key, uint64_t next) {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  const uint64_t sure = key | kSure;
  std::array<Slot, kLineKeys>& slots = LineOf(key).slots;
  for (Slot& slot : slots) {
    const uint64_t found = slot.key.load(kRelaxed);
    if ((found | kSure) != sure || found == 0) continue;
    // What is known already is not written: readers of one chain share the line.
    if (slot.next.load(kRelaxed) == next) {
      if (found != sure) slot.key.store(sure, kRelaxed);
      return;
    }
    slot.next.store(next, kRelaxed);
    slot.key.store(sure & ~kSure, kRelaxed);
    return;
  }
  for (size_t i = kLineKeys - 1; i > 0; --i) {
    slots[i].key.store(slots[i - 1].key.load(kRelaxed), kRelaxed);
    slots[i].next.store(slots[i - 1].next.load(kRelaxed), kRelaxed);
  }
  slots[0].key.store(sure, kRelaxed);
  slots[0].next.store(next, kRelaxed);
}

uint64_t Successors::After(uint64_t key) const {
  for (const Slot& slot : LineOf(key).slots) {
    if (slot.key.load(std::memory_order_relaxed) == (key | kSure)) {
      return slot.next.load(std::memory_order_relaxed);
    }
  }
  return 0;
}

}  // namespace cairn
