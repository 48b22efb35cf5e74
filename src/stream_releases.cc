#include "src/stream_releases.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>
#include <vector>

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

absl::Status StreamReleases::Add(StreamRef stream, Pin pin) {
  CAIRN_RETURN_IF_ERROR(StartOnce());
  CAIRN_ASSIGN_OR_RETURN(std::shared_ptr<StreamPoint> point, points_.Next(stream));
  const bool is_in_its_l1 = pin.l1 != nullptr && pin.l1->gpu == gpu_;
  if (is_in_its_l1) directory_->Unpin(pin, point);
  MutexLock lock(mutex_);
  if (!is_in_its_l1) pending_.push_back({std::move(point), pin});
  changed_.NotifyAll();
  return absl::OkStatus();
}

absl::Status StreamReleases::StartOnce() {
  MutexLock lock(mutex_);
  if (started_) return absl::OkStatus();
  const absl::Status status = thread_.Start("cairn-releases", [this] { Run(); });
  started_ = status.ok();
  return status;
}

void StreamReleases::ForgetStreams() {
  points_.RecordAtOnce();
  // What the device refuses is waited for by the thread.
  points_.RecordAll().IgnoreError();
}

void StreamReleases::Run() {
  while (true) {
    {
      MutexLock lock(mutex_);
      while (!stop_ && pending_.empty() && points_.idle()) changed_.Wait(mutex_);
      if (pending_.empty() && points_.idle()) return;
    }
    if (points_.Look()) directory_->ReadersPassed(gpu_);
    UnpinPassed();
    if (!points_.idle()) SleepFor(kLookEvery);
  }
}

void StreamReleases::UnpinPassed() {
  std::vector<Pending> passed;
  {
    MutexLock lock(mutex_);
    const auto first = std::stable_partition(
        pending_.begin(), pending_.end(), [](const Pending& one) { return !one.point->reached(); });
    passed.assign(std::make_move_iterator(first), std::make_move_iterator(pending_.end()));
    pending_.erase(first, pending_.end());
  }
  for (const Pending& one : passed) directory_->Unpin(one.pin);
}

}  // namespace cairn
