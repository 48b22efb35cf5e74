#include "src/stream_releases.h"

#include <chrono>
#include <iterator>
#include <utility>

#include "src/base/clock.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

constexpr std::chrono::microseconds kLookEvery{500};

}  // namespace

StreamReleases::~StreamReleases() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  thread_.Join();
}

absl::Status StreamReleases::Add(StreamRef stream, Entry* entry, Level level) {
  CAIRN_ASSIGN_OR_RETURN(std::shared_ptr<DeviceEvent> event, device_->Record(stream));
  MutexLock lock(mutex_);
  pending_.push_back({std::move(event), entry, level});
  if (!std::exchange(started_, true)) thread_.Start([this] { Run(); });
  changed_.NotifyAll();
  return absl::OkStatus();
}

void StreamReleases::Run() {
  while (true) {
    std::deque<Pending> looked_at;
    {
      MutexLock lock(mutex_);
      while (!stop_ && pending_.empty()) changed_.Wait(mutex_);
      if (pending_.empty()) return;
      looked_at = std::exchange(pending_, {});
    }
    std::deque<Pending> left;
    for (Pending& one : looked_at) {
      const absl::StatusOr<bool> reached = one.event->Reached();
      // A device that has failed runs nothing that could still read.
      if (reached.ok() && !*reached) {
        left.push_back(std::move(one));
      } else {
        directory_->Unpin(one.entry, one.level);
      }
    }
    if (left.empty()) continue;
    {
      MutexLock lock(mutex_);
      pending_.insert(pending_.begin(), std::make_move_iterator(left.begin()),
                      std::make_move_iterator(left.end()));
    }
    SleepFor(kLookEvery);
  }
}

}  // namespace cairn
