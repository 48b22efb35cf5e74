#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "io/async_io.h"
#include "io/io_files.h"
#include "io/ring_lane.h"

namespace cairn {

// The ops that the rings have in flight, and which completion belongs to which. An op keeps its
// slot from its first request to its last completion; a request is named by slot and generation, so
// that a completion that comes twice or too late is told from that of the slot's next user.
// Thread-compatible.
class RingSlots {
 public:
  struct Slot {
    IoOp* op = nullptr;  // nullptr: free.
    IoFiles::File file;
    uint32_t generation = 0;
    uint32_t sequence = 0;     // Of its request, by Ring::Prepare.
    RingLane* lane = nullptr;  // That has a request for it; nullptr: none has.
  };

  void Resize(size_t count) {
    slots_.resize(count);
    for (size_t index = count; index > 0; --index) {
      free_.push_back(static_cast<uint32_t>(index - 1));
    }
  }

  size_t size() const { return slots_.size(); }
  bool all_free() const { return free_.size() == slots_.size(); }
  Slot& operator[](uint32_t index) { return slots_[index]; }

  bool has_free() const { return !free_.empty(); }

  uint32_t Take(IoOp* op, const IoFiles::File& file) {
    const uint32_t index = free_.back();
    free_.pop_back();
    Slot& slot = slots_[index];
    slot.op = op;
    slot.file = file;
    return index;
  }

  IoOp* Release(uint32_t index) {
    Slot& slot = slots_[index];
    free_.push_back(index);
    return std::exchange(slot.op, nullptr);
  }

  // The name of the slot's next request.
  uint64_t NextName(uint32_t index) const {
    return uint64_t{slots_[index].generation} << 32 | index;
  }
  void Submitted(uint32_t index, uint32_t sequence, RingLane* lane) {
    slots_[index].sequence = sequence;
    slots_[index].lane = lane;
    lane->Began();
  }

  // The slot whose request the lane has completed; nothing for a name of no request.
  std::optional<uint32_t> Completed(uint64_t name, const RingLane* lane) {
    const uint32_t index = static_cast<uint32_t>(name);
    if (index >= slots_.size()) return std::nullopt;
    Slot& slot = slots_[index];
    if (slot.lane != lane || slot.generation != name >> 32) return std::nullopt;
    Retract(index);
    return index;
  }

  // Forgets the slot's request, if any: the ring never took it, or has completed it.
  void Retract(uint32_t index) {
    if (RingLane* const lane = std::exchange(slots_[index].lane, nullptr)) lane->Ended();
    ++slots_[index].generation;
  }

 private:
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
};

}  // namespace cairn
