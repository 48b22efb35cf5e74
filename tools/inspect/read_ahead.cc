#include "tools/inspect/read_ahead.h"

#include <algorithm>

#include "io/pack.h"
#include "src/base/check.h"
#include "src/base/start_thread.h"

namespace cairn::inspect {
namespace {

// What is cheaper to read than to skip.
constexpr uint64_t kGapBytesMax = uint64_t{64} << 10;

// Neighbours in one request, as far as a buffer reaches.
std::vector<Run> Merge(std::vector<Run> runs, uint64_t data_file_bytes) {
  std::sort(runs.begin(), runs.end(),
            [](const Run& a, const Run& b) { return a.offset < b.offset; });
  std::vector<Run> merged;
  for (const Run& run : runs) {
    if (!merged.empty()) {
      Run& last = merged.back();
      const uint64_t end = std::max(last.end(), run.end());
      if (run.offset <= last.end() + kGapBytesMax && end - last.offset <= ReadBuffer::kBytes &&
          run.offset / data_file_bytes == last.offset / data_file_bytes) {
        last.bytes = end - last.offset;
        continue;
      }
    }
    if (run.bytes <= ReadBuffer::kBytes) merged.push_back(run);
  }
  return merged;
}

}  // namespace

ReadAhead::ReadAhead(const StoreFiles* files, std::vector<Run> runs)
    : files_(files), requests_(Merge(std::move(runs), files->data_file_bytes())) {
  for (std::jthread& thread : threads_) {
    const absl::Status started = StartThread(
        thread, "read-ahead", [this](const std::stop_token& stop) { ReadRequests(stop); });
    // With fewer threads it is slower; with none, every read is an own one.
    if (!started.ok()) break;
    running_ = true;
  }
}

ReadAhead::~ReadAhead() {
  for (std::jthread& thread : threads_) thread.request_stop();
  MutexLock lock(mutex_);
  free_.NotifyAll();
}

void ReadAhead::ReadRequests(const std::stop_token& stop) {
  for (;;) {
    size_t number = 0;
    {
      MutexLock lock(mutex_);
      while (!stop.stop_requested() && next_ < requests_.size() && next_ >= first_ + kWindows) {
        free_.Wait(mutex_);
      }
      if (stop.stop_requested() || next_ >= requests_.size()) return;
      number = next_++;
    }
    // Nobody else touches it until it has its number.
    Window& window = windows_[number % kWindows];
    const Run& run = requests_[number];
    window.status = files_->ReadBlocks(run.offset, window.buffer.span().first(run.bytes));
    MutexLock lock(mutex_);
    window.number = number;
    read_.NotifyAll();
  }
}

const ReadAhead::Window& ReadAhead::WaitFor(size_t number) {
  Window& window = windows_[number % kWindows];
  MutexLock lock(mutex_);
  while (window.number != number) read_.Wait(mutex_);
  return window;
}

// Waits also for what nobody asked for: its window must not be read into twice at once.
void ReadAhead::PassFirst() {
  WaitFor(position_);
  ++position_;
  MutexLock lock(mutex_);
  first_ = position_;
  free_.NotifyAll();
}

absl::StatusOr<absl::Span<const std::byte>> ReadAhead::Read(uint64_t offset, uint64_t bytes) {
  CAIRN_CHECK(bytes <= ReadBuffer::kBytes);
  if (!running_) return ReadNow(offset, bytes);
  while (position_ < requests_.size() && requests_[position_].end() + kPackBytesMax <= offset) {
    PassFirst();
  }
  for (size_t number = position_; number < requests_.size() && requests_[number].offset <= offset;
       ++number) {
    const Run& run = requests_[number];
    if (offset + bytes > run.end()) continue;
    while (number >= position_ + kWindows) PassFirst();
    const Window& window = WaitFor(number);
    if (!window.status.ok()) break;
    return window.buffer.span().subspan(offset - run.offset, bytes);
  }
  return ReadNow(offset, bytes);
}

absl::StatusOr<absl::Span<const std::byte>> ReadAhead::ReadNow(uint64_t offset, uint64_t bytes) {
  const absl::Status read = files_->ReadBlocks(offset, own_.span().first(bytes));
  if (!read.ok()) return read;
  return own_.span().first(bytes);
}

}  // namespace cairn::inspect
