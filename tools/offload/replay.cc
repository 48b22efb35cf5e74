#include "tools/offload/replay.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "src/base/mutex.h"
#include "src/base/status_macros.h"
#include "tools/offload/hints.h"
#include "tools/offload/worker.h"

namespace cairn::offload {
namespace {

using Clock = std::chrono::steady_clock;

// Below this many bytes in flight a fast device idles between two windows.
constexpr uint64_t kWindowBytes = uint64_t{64} << 20;
constexpr uint64_t kWindowBlocksMin = 4;
constexpr uint64_t kWindowBlocksMax = 1024;

// What the workers share: who takes which request, and whether to go on.
class Schedule {
 public:
  Schedule(absl::Span<const Request> requests, double speed, const std::function<bool()>& stop)
      : requests_(requests), speed_(speed), stop_(stop), begin_(Clock::now()) {}

  // The next request once its time has come; none when there is none or the run is to end.
  std::optional<size_t> Take() {
    const size_t index = next_.fetch_add(1);
    if (index >= requests_.size()) return std::nullopt;
    if (speed_ > 0) WaitFor(requests_[index]);
    if (Ended()) return std::nullopt;
    return index;
  }
  const Request& request(size_t index) const { return requests_[index]; }

  size_t next() const { return std::min(next_.load(), requests_.size()); }
  // How many requests have come by now, from `begin` on in order.
  size_t ArrivedFrom(size_t begin) const {
    if (speed_ <= 0) return requests_.size();
    const std::chrono::duration<double> elapsed = Clock::now() - begin_;
    size_t end = begin;
    while (end < requests_.size() && DueSeconds(requests_[end]) <= elapsed.count()) ++end;
    return end;
  }

  // What the host computes for a request, its own time by the trace's clock.
  void Compute(const Request& request, uint64_t tokens_restored, const ReplayOptions& options) {
    if (options.decode_tokens_per_s <= 0) return;
    const auto prefill = static_cast<double>(request.input_tokens - tokens_restored);
    const double seconds =
        (prefill / options.prefill_tokens_per_s +
         static_cast<double>(request.output_tokens) / options.decode_tokens_per_s) /
        (speed_ > 0 ? speed_ : 1);
    SleepUntil(Clock::now() +
               std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
  }

  void Fail(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    if (status_.ok()) status_ = std::move(status);
    failed_ = true;
  }

  absl::Status status() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return status_;
  }

 private:
  bool Ended() const { return failed_ || stop_(); }

  double DueSeconds(const Request& request) const {
    return (request.timestamp_s - requests_.front().timestamp_s) / speed_;
  }

  void WaitFor(const Request& request) const {
    SleepUntil(begin_ + std::chrono::duration_cast<Clock::duration>(
                            std::chrono::duration<double>(DueSeconds(request))));
  }

  // In short sleeps, so that an interrupt is noticed.
  void SleepUntil(Clock::time_point end) const {
    constexpr Clock::duration kNap = std::chrono::milliseconds(50);
    while (!Ended()) {
      const Clock::duration left = end - Clock::now();
      if (left <= Clock::duration::zero()) return;
      std::this_thread::sleep_for(std::min(left, kNap));
    }
  }

  const absl::Span<const Request> requests_;
  const double speed_;
  const std::function<bool()>& stop_;
  const Clock::time_point begin_;
  std::atomic<size_t> next_{0};
  std::atomic<bool> failed_{false};

  Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

void Work(Schedule& schedule, const ReplayOptions& options, Hints& hints, Worker& worker,
          Progress& progress) {
  while (const std::optional<size_t> index = schedule.Take()) {
    const size_t next = schedule.next();
    hints.Announce(next, schedule.ArrivedFrom(next));
    const uint64_t restored = worker.tally().tokens_saved;
    absl::Status served =
        worker.Serve(schedule.request(*index), options.gpus[*index % options.gpus.size()]);
    if (!served.ok()) return schedule.Fail(std::move(served));
    hints.Served(*index);
    schedule.Compute(schedule.request(*index), worker.tally().tokens_saved - restored, options);
    progress.RequestDone();
  }
}

// A host's queue knows of a request when it comes, whatever the host does then.
void Announce(const Schedule& schedule, Hints& hints, const std::atomic<bool>& served) {
  while (!served) {
    const size_t next = schedule.next();
    hints.Announce(next, schedule.ArrivedFrom(next));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

std::string BlockKey(uint64_t block_id) { return absl::StrFormat("block/%016x", block_id); }

size_t WindowBlocks(const ReplayOptions& options) {
  const uint64_t block_bytes = options.block.bytes_max();
  const uint64_t memory_bytes =
      options.l1_bytes == 0 ? options.l2_bytes : std::min(options.l1_bytes, options.l2_bytes);
  const uint64_t pinned_max = memory_bytes / 4 / options.concurrency / block_bytes;
  const uint64_t wanted =
      std::clamp(kWindowBytes / block_bytes, kWindowBlocksMin, kWindowBlocksMax);
  const uint64_t asked = options.window > 0 ? options.window : wanted;
  return std::max<uint64_t>(1, std::min(pinned_max, asked));
}

ReplayResult Replay(Store& store, absl::Span<const Request> requests, const ReplayOptions& options,
                    Progress& progress, const std::function<bool()>& stop) {
  ReplayResult result;
  const size_t window_blocks = WindowBlocks(options);
  std::vector<std::unique_ptr<Worker>> workers;
  for (uint32_t i = 0; i < options.concurrency; ++i) {
    auto queue = CompletionQueue::Create(window_blocks);
    if (!queue.ok()) {
      result.status = queue.status();
      return result;
    }
    workers.push_back(
        std::make_unique<Worker>(store, *std::move(queue), options, window_blocks, progress));
  }
  Schedule schedule(requests, options.speed, stop);
  Hints hints(store, requests, options.hints);
  std::vector<std::thread> threads;
  threads.reserve(workers.size());
  for (const auto& worker : workers) {
    threads.emplace_back([&schedule, &options, &hints, &worker, &progress] {
      Work(schedule, options, hints, *worker, progress);
    });
  }
  std::atomic<bool> served = false;
  std::thread announcer;
  if (options.hints > 0) announcer = std::thread([&] { Announce(schedule, hints, served); });
  for (std::thread& thread : threads) thread.join();
  served = true;
  if (announcer.joinable()) announcer.join();
  for (const auto& worker : workers) result.tally.Add(worker->tally());
  result.status = schedule.status();
  return result;
}

}  // namespace cairn::offload
