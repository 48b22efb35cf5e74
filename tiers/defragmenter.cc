#include "tiers/defragmenter.h"

#include <algorithm>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

using std::chrono::milliseconds;

// Of the thread: long enough for the largest tensors that are common, and to be worth a look.
constexpr uint64_t kWindowBytesMax = uint64_t{64} << 20;
// Of the space: what the thread withholds at a time is missed by those who put meanwhile.
constexpr uint64_t kWindowShare = 8;
// Of a window of the thread, which has time: what may have to move, or be of use before.
constexpr uint64_t kLivePart = 2;
// Where windows may begin: sixteen places in each, and no more than this in the whole space.
constexpr uint64_t kPlacesAWindow = 16;
constexpr uint64_t kPlacesMax = 8192;
// How many windows are looked at closely, and tried.
constexpr size_t kWindowsMax = 32;
constexpr int kWindowsTriedMax = 3;
// Somebody who holds an extent for a moment is met again in the next round.
constexpr int kRounds = 3;
// A search that found nothing is not repeated before.
constexpr milliseconds kRefusedFor{100};
// What gained nothing is tried again after up to so many times as long.
constexpr int kRestMax = 64;

// Of extents in order that do not overlap.
uint64_t BytesIn(Extent range, const std::vector<Extent>& extents) {
  auto extent = std::partition_point(extents.begin(), extents.end(), [&](const Extent& one) {
    return one.offset + one.bytes <= range.offset;
  });
  uint64_t bytes = 0;
  for (; extent != extents.end() && extent->offset < range.offset + range.bytes; ++extent) {
    bytes += Intersect(*extent, range).bytes;
  }
  return bytes;
}

}  // namespace

Defragmenter::Defragmenter(MovableSpace* space, const SizeMix* mix, Mover* mover,
                           const Options& options)
    : space_(space), mix_(mix), mover_(mover), options_(options) {}

Defragmenter::~Defragmenter() { Stop(); }

absl::Status Defragmenter::Start() {
  if (options_.unusable_share_max >= 1) return absl::OkStatus();
  return thread_.Start("cairn-mover", [this] { Run(); });
}

void Defragmenter::Stop() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  thread_.Join();
}

Fragmentation Defragmenter::Measure() const {
  return MeasureFragmentation(space_->end(), *mix_, [this](Extent part, VisitRun visit) {
    space_->ForEachFree(part, visit);
  });
}

Defragmenter::Figures Defragmenter::figures() const {
  return {.windows = windows_.load(std::memory_order_relaxed),
          .bytes_moved = bytes_moved_.load(std::memory_order_relaxed),
          .bytes_freed = bytes_freed_.load(std::memory_order_relaxed)};
}

absl::StatusOr<Extent> Defragmenter::MakeRoom(uint64_t bytes, Deadline deadline) {
  const absl::Status refused = absl::ResourceExhaustedError(
      absl::StrCat("no window of ", bytes, " bytes can be emptied by moving less than that"));
  if (options_.unusable_share_max >= 1 || bytes == 0 || bytes > space_->end()) return refused;
  if (!Begin(/*demand=*/true, deadline)) return refused;
  const absl::Cleanup end = [this] { End(); };
  {
    MutexLock lock(mutex_);
    if (bytes >= bytes_refused_ && SteadyNow() < refused_until_) return refused;
  }
  // Who was waited for may have made the room.
  absl::StatusOr<Extent> extent = space_->Allocate(bytes);
  if (extent.ok() || !absl::IsResourceExhausted(extent.status())) return extent;
  if (const Extent range = EmptyOne(Windows(bytes, bytes, bytes), /*paced=*/false, deadline);
      range.bytes > 0) {
    extent = space_->RestoreAndAllocate(range, bytes);
    if (extent.ok()) return extent;
  }
  MutexLock lock(mutex_);
  bytes_refused_ = bytes;
  refused_until_ = SteadyNow() + kRefusedFor;
  return refused;
}

bool Defragmenter::Tidy() {
  const Fragmentation before = Measure();
  const uint64_t wanted = before.bytes_most_unusable;
  const double unusable = before.unusable_share * static_cast<double>(before.bytes_free);
  if (before.unusable_share <= options_.unusable_share_max || wanted == 0 ||
      unusable < static_cast<double>(wanted)) {
    return true;
  }
  if (!Begin(/*demand=*/false, Deadline::max())) return false;
  const absl::Cleanup end = [this] { End(); };
  uint64_t bytes = std::max(wanted, std::min(kWindowBytesMax, space_->end() / kWindowShare));
  while (true) {
    const Extent range =
        EmptyOne(Windows(bytes, wanted, bytes / kLivePart), /*paced=*/true, Deadline::max());
    if (range.bytes > 0) {
      space_->Restore(range);
      return Measure().unusable_share < before.unusable_share;
    }
    if (bytes == wanted || !MayGoOn(/*paced=*/true, 0)) return false;
    bytes = std::max(wanted, bytes / 2);
  }
}

// By how much lies in each part of the space first, then, where that is little, by what must move.
std::vector<Defragmenter::Window> Defragmenter::Windows(uint64_t bytes, uint64_t run_bytes,
                                                        uint64_t bytes_cost_max) const {
  const uint64_t space_bytes = space_->end();
  const uint64_t unit = space_->unit_bytes();
  const auto round_up = [unit](uint64_t value) { return (value + unit - 1) & ~(unit - 1); };
  const uint64_t part = round_up(std::max(bytes / kPlacesAWindow, space_bytes / kPlacesMax) + 1);
  std::vector<uint64_t> live((space_bytes + part - 1) / part);
  const auto range_of = [&](size_t i) {
    return Extent{i * part, std::min(part, space_bytes - i * part)};
  };
  // Another's, and what is of use; they do not overlap.
  std::vector<Extent> gainless = space_->withheld_ranges();
  for (size_t i = 0; i < live.size(); ++i) {
    const Extent range = range_of(i);
    space_->ForEachAllocated(range,
                             [&](Extent extent) { live[i] += Intersect(extent, range).bytes; });
    space_->ForEachFree(range, [&](Extent run) {
      if (run.bytes >= run_bytes) gainless.push_back(run);
    });
  }
  std::sort(gainless.begin(), gainless.end(),
            [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
  for (size_t i = 0; i < live.size(); ++i) live[i] += BytesIn(range_of(i), gainless);

  const uint64_t parts = std::min<uint64_t>((bytes + part - 1) / part, live.size());
  std::vector<std::pair<uint64_t, uint64_t>> places;  // How much lies there, offset.
  uint64_t sum = 0;
  for (size_t i = 0; i < live.size(); ++i) {
    sum += live[i];
    if (i + 1 < parts) continue;
    const size_t first = i + 1 - parts;
    places.emplace_back(sum, first * part);
    sum -= live[first];
  }
  std::sort(places.begin(), places.end());

  std::vector<Window> windows;
  for (const auto& [estimate, offset] : places) {
    if (windows.size() == kWindowsMax || estimate > bytes_cost_max) break;
    Window window = WindowAt(bytes, offset);
    window.bytes_cost = window.bytes_live + BytesIn(window.range, gainless);
    const bool known = std::any_of(windows.begin(), windows.end(), [&](const Window& other) {
      return other.range == window.range;
    });
    if (!known && window.bytes_cost <= bytes_cost_max) windows.push_back(window);
  }
  std::stable_sort(windows.begin(), windows.end(),
                   [](const Window& a, const Window& b) { return a.bytes_cost < b.bytes_cost; });
  return windows;
}

Defragmenter::Window Defragmenter::WindowAt(uint64_t bytes, uint64_t offset) const {
  const uint64_t space_bytes = space_->end();
  Extent range = space_->WindowFor(bytes, offset);
  if (range.bytes > space_bytes) return {.range = {}, .bytes_live = UINT64_MAX};
  range.offset = std::min(range.offset, space_bytes - range.bytes);
  Window window = {space_->Widen(range)};
  space_->ForEachAllocated(window.range, [&](Extent extent) { window.bytes_live += extent.bytes; });
  return window;
}

std::vector<Extent> Defragmenter::AllocatedIn(Extent range) const {
  std::vector<Extent> extents;
  space_->ForEachAllocated(range, [&](Extent extent) { extents.push_back(extent); });
  return extents;
}

bool Defragmenter::AllCanMove(Extent range) {
  for (const Extent& extent : AllocatedIn(range)) {
    if (!mover_->CanMove(extent)) return false;
  }
  return true;
}

Extent Defragmenter::EmptyOne(const std::vector<Window>& windows, bool paced, Deadline deadline) {
  if (windows.empty()) return {};
  std::vector<Extent> ranges;
  ranges.reserve(windows.size());
  for (const Window& window : windows) ranges.push_back(window.range);
  mover_->LookAt(ranges, windows.back().bytes_cost, deadline);
  int tries = 0;
  for (const Window& window : windows) {
    if (tries == kWindowsTriedMax || !MayGoOn(paced, 0)) return {};
    if (!AllCanMove(window.range) || !space_->Withhold(window.range)) continue;
    ++tries;
    mover_->Begin(window.bytes_live);
    if (Empty(window.range, paced)) {
      windows_.fetch_add(1, std::memory_order_relaxed);
      bytes_freed_.fetch_add(window.range.bytes, std::memory_order_relaxed);
      return window.range;
    }
    space_->Restore(window.range);
  }
  return {};
}

bool Defragmenter::Empty(Extent range, bool paced) {
  for (int round = 0; round < kRounds; ++round) {
    for (const Extent& extent : AllocatedIn(range)) {
      if (!MayGoOn(paced, 0)) return false;
      if (!mover_->Move(extent)) {
        // Not for somebody who holds it: there is no room for it.
        if (mover_->CanMove(extent)) return false;
        continue;
      }
      bytes_moved_.fetch_add(extent.bytes, std::memory_order_relaxed);
      if (!MayGoOn(paced, extent.bytes)) return false;
    }
    if (space_->withheld_bytes(range) == range.bytes) return true;
  }
  return false;
}

bool Defragmenter::Begin(bool demand, Deadline deadline) {
  MutexLock lock(mutex_);
  if (!demand && demands_ > 0) return false;
  if (demand) {
    ++demands_;
    changed_.NotifyAll();
  }
  bool waited = true;
  while (!stop_ && busy_ && waited) {
    waited = changed_.WaitUntil(mutex_, std::min(deadline, SteadyNow() + std::chrono::hours(1)));
  }
  if (demand) --demands_;
  if (stop_ || busy_) return false;
  busy_ = true;
  return true;
}

void Defragmenter::End() {
  MutexLock lock(mutex_);
  busy_ = false;
  changed_.NotifyAll();
}

bool Defragmenter::MayGoOn(bool paced, uint64_t bytes_moved) {
  MutexLock lock(mutex_);
  if (!paced) return !stop_;
  const auto nanoseconds =
      1e9 * static_cast<double>(bytes_moved) / static_cast<double>(options_.bytes_per_second);
  const Deadline until =
      SteadyNow() + std::chrono::nanoseconds(static_cast<int64_t>(std::min(nanoseconds, 1e18)));
  while (!stop_ && demands_ == 0 && SteadyNow() < until) changed_.WaitUntil(mutex_, until);
  return !stop_ && demands_ == 0;
}

void Defragmenter::Run() {
  int rest = 1;
  while (true) {
    {
      MutexLock lock(mutex_);
      const Deadline next = SteadyNow() + options_.measure_every * rest;
      while (!stop_ && SteadyNow() < next) changed_.WaitUntil(mutex_, next);
      if (stop_) return;
    }
    rest = Tidy() ? 1 : std::min(kRestMax, rest * 2);
  }
}

}  // namespace cairn
