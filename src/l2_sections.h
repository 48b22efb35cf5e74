#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "io/async_io.h"
#include "tiers/pinned_tier.h"

namespace cairn {

// Which parts of L2 are in use: sections, each registered with the I/O engine by itself, so that
// one can be given back to the system while the store runs. The arena keeps its place: what is
// given back are pages.
//
//   kInUse -> kLeaving -> kGivenBack -> kInUse,  and kLeaving -> kInUse
//
// Of a section that leaves nothing is given out any more. It can be given back when nothing lies
// there and so no transfer is under way. What is taken has its pages at once, so that a burst of
// puts never meets a system without memory. Thread-compatible; the figures are for any thread.
class L2Sections {
 public:
  L2Sections(PinnedTier* l2, AsyncIo* io);

  // Once, before L2 is used: takes it section by section, `bytes_min` at least, as long as another
  // fits what is spare by then; null: all of it, without its pages. Not OK where the engine
  // registers none of it, which costs CPU time and nothing else.
  absl::Status Begin(const std::function<int64_t()>& bytes_spare, uint64_t bytes_min);

  enum class State : uint8_t { kInUse, kLeaving, kGivenBack };
  size_t count() const { return sections_.size(); }
  State state(size_t section) const { return sections_[section].state; }
  Extent extent(size_t section) const;
  // Those that the extent lies in, first and last.
  size_t FirstOf(Extent extent) const { return extent.offset / section_bytes_; }
  size_t LastOf(Extent extent) const { return (extent.offset + extent.bytes - 1) / section_bytes_; }

  // False: not now, someone else has withheld a part of it.
  bool Leave(size_t section);
  void Stay(size_t section);
  // Whether nothing lay there, and it is given back now.
  bool TryGiveBack(size_t section);
  // The first that was given back is in use again. False: there is none.
  bool TakeOne();

  uint64_t section_bytes() const { return section_bytes_; }
  uint64_t bytes_usable() const { return bytes_usable_.load(std::memory_order_relaxed); }
  // All that is in use is registered.
  bool registered() const { return registered_.load(std::memory_order_relaxed); }
  // Why nothing can be given back; empty: it can, and from then on it always can. For any thread.
  std::string kept_because() const;

 private:
  struct Section {
    State state = State::kInUse;
    bool registered = false;
  };
  absl::Span<std::byte> MemoryOf(size_t section) const;
  absl::Status Register(size_t section);
  void Unregister(size_t section);

  PinnedTier* const l2_;
  AsyncIo* const io_;
  const uint64_t section_bytes_;
  std::vector<Section> sections_;
  std::atomic<uint64_t> bytes_usable_;
  std::atomic<bool> registered_ = false;
};

}  // namespace cairn
