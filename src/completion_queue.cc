#include "cairn/completion_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "src/base/wake_scope.h"

namespace cairn {

struct CompletionQueue::State : Wakeable {
  explicit State(size_t capacity_max, int fd) : capacity(capacity_max), event_fd(fd) {}
  ~State() override { close(event_fd); }

  void Wake() override { pushed.NotifyAll(); }

  const size_t capacity;
  const int event_fd;

  mutable Mutex mutex;
  CondVar pushed;
  std::deque<Completion> ready ABSL_GUARDED_BY(mutex);
  size_t outstanding ABSL_GUARDED_BY(mutex) = 0;
  // Somebody has asked for the eventfd: from there on it is readable exactly while `ready` is not
  // empty. Who only waits and drains does not pay for it.
  bool is_polled ABSL_GUARDED_BY(mutex) = false;

  void SetReadable() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    CAIRN_CHECK(eventfd_write(event_fd, 1) == 0);
  }

  size_t Take(absl::Span<Completion> done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const size_t count = std::min(done.size(), ready.size());
    for (size_t i = 0; i < count; ++i) {
      done[i] = std::move(ready.front());
      ready.pop_front();
    }
    outstanding -= count;
    if (count > 0 && ready.empty() && is_polled) {
      eventfd_t ignored = 0;
      CAIRN_CHECK(eventfd_read(event_fd, &ignored) == 0);
    }
    return count;
  }
};

absl::StatusOr<std::unique_ptr<CompletionQueue>> CompletionQueue::Create(size_t capacity) {
  if (capacity == 0) return absl::InvalidArgumentError("completion queue of capacity 0");
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no eventfd: ", absl::ErrnoToStatus(errno, "").ToString()));
  }
  return std::unique_ptr<CompletionQueue>(
      new CompletionQueue(std::make_shared<State>(capacity, fd)));
}

CompletionQueue::CompletionQueue(std::shared_ptr<State> state) : state_(std::move(state)) {}
CompletionQueue::~CompletionQueue() = default;

int CompletionQueue::event_fd() const {
  State& state = *state_;
  MutexLock lock(state.mutex);
  if (!std::exchange(state.is_polled, true) && !state.ready.empty()) state.SetReadable();
  return state.event_fd;
}

size_t CompletionQueue::Drain(absl::Span<Completion> done) {
  State& state = *state_;
  MutexLock lock(state.mutex);
  return state.Take(done);
}

size_t CompletionQueue::Wait(absl::Span<Completion> done, absl::Duration timeout) {
  State& state = *state_;
  const auto start = SteadyNow();
  const auto wait = std::min(absl::ToChronoNanoseconds(timeout),
                             std::chrono::nanoseconds(std::chrono::hours(24 * 365)));
  MutexLock lock(state.mutex);
  while (state.ready.empty() && !done.empty()) {
    if (!state.pushed.WaitUntil(state.mutex, start + wait)) break;
  }
  return state.Take(done);
}

size_t CompletionQueue::outstanding() const {
  MutexLock lock(state_->mutex);
  return state_->outstanding;
}

absl::Status CompletionQueue::Reserve(size_t count) {
  State& state = *state_;
  MutexLock lock(state.mutex);
  if (count > state.capacity - state.outstanding) {
    return absl::ResourceExhaustedError(
        absl::StrCat("completion queue is full: ", state.outstanding, " of ", state.capacity,
                     " outstanding, ", count, " more asked for"));
  }
  state.outstanding += count;
  return absl::OkStatus();
}

void CompletionQueue::Unreserve(size_t count) {
  MutexLock lock(state_->mutex);
  CAIRN_CHECK(count <= state_->outstanding);
  state_->outstanding -= count;
}

void CompletionQueue::Push(Completion completion) {
  // Kept: the last completion may be drained, and this queue gone, before its sleeper is woken.
  std::shared_ptr<State> state = state_;
  {
    MutexLock lock(state->mutex);
    CAIRN_CHECK(state->ready.size() < state->outstanding);
    state->ready.push_back(std::move(completion));
    if (state->ready.size() == 1 && state->is_polled) state->SetReadable();
  }
  WakeScope::Wake(std::move(state));
}

}  // namespace cairn
