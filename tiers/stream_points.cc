#include "tiers/stream_points.h"

#include <algorithm>
#include <climits>
#include <utility>

#include "src/base/status_macros.h"

namespace cairn {

absl::Status StreamPoint::LetWait(StreamRef waiting) {
  if (reached()) return absl::OkStatus();
  // Acquire: the event.
  if (!recorded_.load(std::memory_order_acquire)) points_->Record(stream_).IgnoreError();
  if (event_ == nullptr) return absl::UnavailableError("the device recorded no event");
  return points_->device_->WaitFor(waiting, event_);
}

void StreamReaders::Add(std::shared_ptr<StreamPoint> point) {
  std::erase_if(points_, [&](const auto& one) { return one == point || one->reached(); });
  points_.push_back(std::move(point));
}

bool StreamReaders::any() const {
  return !std::all_of(points_.begin(), points_.end(),
                      [](const auto& one) { return one->reached(); });
}

absl::Status StreamReaders::LetWait(StreamRef waiting) const {
  for (const auto& point : points_) CAIRN_RETURN_IF_ERROR(point->LetWait(waiting));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<StreamPoint>> StreamPoints::Next(StreamRef stream) {
  CAIRN_RETURN_IF_ERROR(ValidateStream(stream, device_->ordinal()));
  const bool is_of_thread = device_->IsOfCallingThread(stream);
  {
    MutexLock lock(mutex_);
    if (!record_at_once_ && !is_of_thread) {
      std::shared_ptr<StreamPoint>& open = open_[stream.stream];
      if (open == nullptr) open = std::make_shared<StreamPoint>(this, stream);
      return open;
    }
  }
  auto alone = std::make_shared<StreamPoint>(this, stream);
  CAIRN_RETURN_IF_ERROR(RecordOne(*alone));
  MutexLock lock(mutex_);
  recorded_.push_back(alone);
  return alone;
}

absl::Status StreamPoints::Record(StreamRef stream) {
  CAIRN_RETURN_IF_ERROR(ValidateStream(stream, device_->ordinal()));
  return RecordOpen(stream, INT_MAX);
}

absl::Status StreamPoints::RecordAll() { return RecordOpen(std::nullopt, INT_MAX); }

void StreamPoints::RecordAtOnce() {
  MutexLock lock(mutex_);
  record_at_once_ = true;
}

StreamPoints::Points StreamPoints::TakeOpen(std::optional<StreamRef> stream, int events_ahead) {
  Points taken;
  for (auto it = open_.begin(); it != open_.end();) {
    const auto ahead = std::count_if(recorded_.begin(), recorded_.end(), [&](const auto& one) {
      return one->stream_.stream == it->first;
    });
    if ((stream.has_value() && stream->stream != it->first) || ahead >= events_ahead) {
      ++it;
      continue;
    }
    taken.push_back(std::move(it->second));
    open_.erase(it++);
  }
  return taken;
}

absl::Status StreamPoints::RecordOpen(std::optional<StreamRef> stream, int events_ahead) {
  Points taken;
  {
    MutexLock lock(mutex_);
    while (recording_) changed_.Wait(mutex_);
    // From here on a new point is for who comes now: what these had to be behind is given already.
    taken = TakeOpen(stream, events_ahead);
    if (taken.empty()) return absl::OkStatus();
    recording_ = true;
  }
  absl::Status status;
  for (const std::shared_ptr<StreamPoint>& point : taken) status.Update(RecordOne(*point));
  MutexLock lock(mutex_);
  recorded_.insert(recorded_.end(), taken.begin(), taken.end());
  recording_ = false;
  changed_.NotifyAll();
  return status;
}

absl::Status StreamPoints::RecordOne(StreamPoint& point) {
  const absl::StatusOr<std::shared_ptr<DeviceEvent>> event = device_->Record(point.stream_);
  if (event.ok()) point.event_ = *event;
  point.recorded_.store(true, std::memory_order_release);
  return event.status();
}

bool StreamPoints::Passed(const StreamPoint& point) {
  if (point.event_ == nullptr) {
    device_->Synchronize().IgnoreError();
    return true;
  }
  const absl::StatusOr<bool> reached = point.event_->Reached();
  return !reached.ok() || *reached;
}

bool StreamPoints::Look() {
  RecordOpen(std::nullopt, kEventsAheadMax).IgnoreError();
  Points looked_at;
  {
    MutexLock lock(mutex_);
    looked_at = recorded_;
  }
  bool any = false;
  for (const std::shared_ptr<StreamPoint>& point : looked_at) {
    if (!Passed(*point)) continue;
    any = true;
    // Release: what is done to the memory from here on is behind what was read.
    point->reached_.store(true, std::memory_order_release);
  }
  if (!any) return false;
  MutexLock lock(mutex_);
  std::erase_if(recorded_, [](const auto& one) { return one->reached(); });
  return true;
}

bool StreamPoints::idle() const {
  MutexLock lock(mutex_);
  return open_.empty() && recorded_.empty() && !recording_;
}

}  // namespace cairn
