#include "src/pressure_monitor.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPollEvery{100};
// From medium on, or while it falls: another process may take what is left within a fifth of a
// second.
constexpr milliseconds kPollSoon{25};
// A section where something stays (pinned, or not written yet) is waited for so long before others
// are chosen besides,
constexpr uint32_t kTurnsAlone = 4;
// and kept after a second: it may be chosen again.
constexpr uint32_t kTurnsMax = 40;
// Where only waiting tells that memory is short, it is given back so slowly, and taken at any time.
constexpr milliseconds kOneSectionEvery{250};
constexpr std::chrono::seconds kSayEvery{60};
// From here on the system may soon end a process for want of memory, and with it all that L2 holds:
// what is only on its way to L3 is given up before.
constexpr uint32_t kLastPercent = 90;

void CountRise(PressureLevel before, PressureLevel level, PressureStats& stats) {
  if (level <= before) return;
  ++(level == PressureLevel::kHigh ? stats.times_high : stats.times_medium);
}

}  // namespace

absl::Status PressureMonitor::Start() {
  return turns_.Start("cairn-pressure", milliseconds(0), [this] {
    Turn();
    const bool falls = trend_.BytesGoing() > 0;
    return gauge_.level() == PressureLevel::kLow && !falls ? kPollEvery : kPollSoon;
  });
}

void PressureMonitor::Turn() {
  const PressureReadings readings = parts_.read();
  uint32_t percent = HostPercent(readings);
  const PressureLevel before = gauge_.level();
  trend_.Note(HostBytesUntil(readings, 100), SteadyNow());
  const int64_t bytes_going = trend_.BytesGoing();
  // Not before the reserve is touched: a process may take much at a time where there is plenty.
  if (HostBytesUntil(readings, 0) < 0 && HostBytesUntil(readings, kHighPercent) < bytes_going) {
    percent = std::max(percent, kHighPercent);
  }
  const PressureLevel level = gauge_.Update(percent);
  const bool may_give_back = parts_.sections->kept_because().empty();
  // What is dirty cannot be given back before it is written: no more of it than others may take
  // until memory is short.
  if (may_give_back) {
    const int64_t spare = std::max<int64_t>(HostBytesUntil(readings, kHighPercent), 0);
    parts_.evictor->SetDirtyBytesMax(static_cast<uint64_t>(spare));
  }
  parts_.prefetches->SetPressure(level);
  parts_.predictions->SetPressure(level);
  Note(readings, before);
  Say(before, percent);
  if (!may_give_back) return;
  for (Leaving& leaving : leaving_) ++leaving.turns;
  if (level == PressureLevel::kHigh) {
    const int64_t spare = HostBytesUntil(readings, kMediumLeftPercent) - bytes_going;
    if (spare < 0) {
      GiveBack(static_cast<uint64_t>(-spare), HostBytesUntil(readings, kLastPercent) < 0);
    } else if (IsTimeForOneSection()) {
      GiveBack(parts_.sections->section_bytes(), /*now=*/false);
    }
    return KeepLeaving(kTurnsMax);
  }
  KeepLeaving(0);
  if (level == PressureLevel::kLow && IsTimeForOneSection()) Grow(readings);
}

bool PressureMonitor::IsTimeForOneSection() {
  const Deadline now = SteadyNow();
  if (now < one_section_at_ + kOneSectionEvery) return false;
  one_section_at_ = now;
  return true;
}

void PressureMonitor::GiveBack(uint64_t bytes_wanted, bool now) {
  const auto fresh = std::count_if(leaving_.begin(), leaving_.end(), [](const Leaving& leaving) {
    return leaving.turns <= kTurnsAlone;
  });
  const uint64_t bytes_leaving = static_cast<uint64_t>(fresh) * parts_.sections->section_bytes();
  if (bytes_leaving < bytes_wanted) Choose(bytes_wanted - bytes_leaving);
  if (leaving_.empty()) return;
  const auto leaves = [this](Extent extent) {
    for (size_t i = parts_.sections->FirstOf(extent); i <= parts_.sections->LastOf(extent); ++i) {
      if (parts_.sections->state(i) == L2Sections::State::kLeaving) return true;
    }
    return false;
  };
  const uint64_t wanted = bytes_wanted / parts_.sections->section_bytes() + 1;
  const size_t count_now = now ? std::min<size_t>(wanted, leaving_.size()) : 0;
  const auto leaves_now = [this, count_now](Extent extent) {
    const size_t first = parts_.sections->FirstOf(extent);
    const size_t last = parts_.sections->LastOf(extent);
    return std::any_of(leaving_.begin(), leaving_.begin() + static_cast<ptrdiff_t>(count_now),
                       [first, last](const Leaving& leaving) {
                         return first <= leaving.section && leaving.section <= last;
                       });
  };
  const uint64_t evicted = parts_.directory->EvictFromL2In(leaves, leaves_now);
  uint64_t bytes = 0;
  std::erase_if(leaving_, [&](const Leaving& leaving) {
    if (!parts_.sections->TryGiveBack(leaving.section)) return false;
    bytes += parts_.sections->extent(leaving.section).bytes;
    return true;
  });
  MutexLock lock(mutex_);
  stats_.l2_evictions += evicted;
  stats_.l2_bytes_given_back += bytes;
}

// Those where least is held, and of these where least leaves.
void PressureMonitor::Choose(uint64_t bytes) {
  L2Sections& sections = *parts_.sections;
  struct Use {
    uint64_t bytes_held = 0;
    uint64_t bytes_clean = 0;
    size_t section = 0;
  };
  std::vector<Use> uses(sections.count());
  for (size_t i = 0; i < uses.size(); ++i) uses[i].section = i;
  parts_.directory->ForEachInL2([&](Extent extent, bool may_leave) {
    for (size_t i = sections.FirstOf(extent); i <= sections.LastOf(extent); ++i) {
      (may_leave ? uses[i].bytes_clean : uses[i].bytes_held) += extent.bytes;
    }
  });
  std::erase_if(uses, [&](const Use& use) {
    return sections.state(use.section) != L2Sections::State::kInUse;
  });
  std::sort(uses.begin(), uses.end(), [](const Use& a, const Use& b) {
    return std::pair(a.bytes_held, a.bytes_clean) < std::pair(b.bytes_held, b.bytes_clean);
  });
  uint64_t chosen = 0;
  for (const Use& use : uses) {
    const uint64_t section_bytes = sections.extent(use.section).bytes;
    if (chosen >= bytes || sections.bytes_usable() < parts_.l2_bytes_min + section_bytes) return;
    if (!sections.Leave(use.section)) continue;
    leaving_.push_back({.section = use.section});
    chosen += section_bytes;
  }
}

void PressureMonitor::KeepLeaving(uint32_t turns_min) {
  const size_t kept = std::erase_if(leaving_, [&](const Leaving& leaving) {
    if (leaving.turns < turns_min) return false;
    parts_.sections->Stay(leaving.section);
    return true;
  });
  if (kept > 0) parts_.evictor->RoomMade();
}

// Only where the whole reserve stays free, so that it is not given back at once.
void PressureMonitor::Grow(const PressureReadings& readings) {
  const int64_t spare = HostBytesUntil(readings, 0);
  if (spare < static_cast<int64_t>(parts_.sections->section_bytes())) return;
  const uint64_t before = parts_.sections->bytes_usable();
  if (!parts_.sections->TakeOne()) return;
  trend_.Clear();  // What fell now was taken by the store itself.
  parts_.evictor->RoomMade();
  MutexLock lock(mutex_);
  stats_.l2_bytes_taken_back += parts_.sections->bytes_usable() - before;
}

void PressureMonitor::Note(const PressureReadings& readings, PressureLevel before) {
  const MemoryAmount gpu = readings.gpu.value_or(MemoryAmount());
  const MemoryAmount host = readings.host.value_or(MemoryAmount());
  const MemoryAmount* const tightest = TightestGroup(readings);
  const MemoryAmount group = tightest == nullptr ? MemoryAmount() : *tightest;
  gpu_gauge_.Update(PressurePercent(gpu));
  MutexLock lock(mutex_);
  CountRise(before, gauge_.level(), stats_);
  ++stats_.readings;
  stats_.level = gauge_.level();
  stats_.percent = HostPercent(readings);
  stats_.percent_max = std::max(stats_.percent_max, stats_.percent);
  stats_.host_bytes = host.bytes_max;
  stats_.host_bytes_free = host.bytes_free;
  stats_.group_bytes = group.bytes_max;
  stats_.group_bytes_free = group.bytes_free;
  stats_.stall_percent = readings.stall_percent.value_or(0);
  stats_.stall_percent_host = readings.stall_percent_host.value_or(0);
  stats_.gpu_level = gpu_gauge_.level();
  stats_.gpu_bytes = gpu.bytes_max;
  stats_.gpu_bytes_free = gpu.bytes_free;
}

void PressureMonitor::Say(PressureLevel before, uint32_t percent) {
  if (gauge_.level() != PressureLevel::kHigh || before == PressureLevel::kHigh) return;
  const Deadline now = SteadyNow();
  if (now < said_at_ + kSayEvery) return;
  said_at_ = now;
  const std::string kept = parts_.sections->kept_because();
  parts_.log(absl::StrCat(
      "memory is short, ", percent, " % of what is to stay free is gone: ",
      kept.empty() ? "L2 gives some back" : absl::StrCat("L2 cannot give any back, as ", kept)));
}

PressureStats PressureMonitor::Stats() const {
  PressureStats stats;
  {
    MutexLock lock(mutex_);
    stats = stats_;
  }
  stats.l2_kept_because = parts_.sections->kept_because();
  return stats;
}

}  // namespace cairn
