// What RingIo sets up on its thread: the rings and what they poll, files, registered memory.

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "io/io_refusal.h"
#include "io/ring_io.h"
#include "src/base/strings.h"

namespace cairn {

absl::Status RingIo::OpenRings() {
  Ring::Setup setup = {.depth = options_.depth_max, .wake_fd = inbox_.wake_fd()};
  if (options_.submission_polling > absl::ZeroDuration()) {
    // Never 0, which would be none.
    const absl::Duration idle = absl::Ceil(options_.submission_polling, absl::Milliseconds(1));
    setup.submission_idle_ms = static_cast<uint32_t>(absl::ToInt64Milliseconds(idle));
  }
  if (absl::Status status = OpenOrdinary(setup); !status.ok()) return status;
  if (polled_ != nullptr) OpenPolled(setup);
  const uint32_t depth = lane_.ring().depth();
  slots_.Resize(polled_ == nullptr ? depth : std::min(depth, polled_->ring().depth()));
  MakeTables();
  return absl::OkStatus();
}

// Without what of the setup is refused, which is then taken from it.
absl::Status RingIo::OpenOrdinary(Ring::Setup& setup) {
  absl::Status status = lane_.ring().Open(setup);
  if (setup.submission_idle_ms == 0) return status;
  if (status.ok()) {
    MutexLock lock(mutex_);
    polling_.submissions = true;
    return status;
  }
  setup.submission_idle_ms = 0;
  const absl::Status ordinary = lane_.ring().Open(setup);
  if (ordinary.ok()) RefusePolling(std::string(status.message()));
  return ordinary;
}

void RingIo::OpenPolled(Ring::Setup setup) {
  setup.polls_completions = true;
  const absl::Status status = polled_->ring().Open(setup);
  if (status.ok()) return;
  polled_.reset();
  RefusePolling(std::string(status.message()));
}

void RingIo::MakeTables() {
  int result = lane_.MakeFileTable(options_.files_max);
  if (result != 0) {
    Log(absl::StrCat("io_uring without registered files, at some more CPU per request: ",
                     ErrnoText(-result)));
  }
  if (polled_ != nullptr) polled_->MakeFileTable(options_.files_max);
  if (options_.memory_regions_max == 0) return;
  result = lane_.MakeBufferTable(options_.memory_regions_max);
  if (result != 0) {
    Log(absl::StrCat("io_uring without fixed buffers, at some more CPU per byte: ",
                     ErrnoText(-result)));
  }
  if (polled_ != nullptr) polled_->MakeBufferTable(options_.memory_regions_max);
}

absl::StatusOr<int> RingIo::AddFileToRings(int fd) {
  absl::StatusOr<int> file = files_.Add(fd);
  if (!file.ok()) return file;
  lane_.SetFile(*file, fd);
  if (polled_ == nullptr) return file;
  polled_->SetFile(*file, fd);
  // What goes through the page cache has no device to ask.
  const bool is_direct = files_.Find(*file)->direct;
  SetPolling(*file, is_direct ? FilePolling::kUntried : FilePolling::kNo);
  if (!is_direct) RefusePolling(CompletionPollingRefusal(EOPNOTSUPP));
  return file;
}

RingIo::FilePolling RingIo::PollingOf(int file) const {
  return polled_ == nullptr ? FilePolling::kNo : file_polling_[static_cast<size_t>(file)];
}

void RingIo::SetPolling(int file, FilePolling polling) {
  if (polled_ == nullptr) return;
  const size_t id = static_cast<size_t>(file);
  if (file_polling_.size() <= id) file_polling_.resize(id + 1, FilePolling::kNo);
  if (file_polling_[id] == polling) return;
  file_polling_[id] = polling;
  MutexLock lock(mutex_);
  polling_.completions = std::find(file_polling_.begin(), file_polling_.end(), FilePolling::kYes) !=
                         file_polling_.end();
}

// What a request on the polled ring says of its file. False: it was refused, and has transferred
// nothing.
bool RingIo::TakesPolling(int file, int result) {
  if (result != -EOPNOTSUPP && result != -EINVAL) {
    if (result >= 0 && PollingOf(file) == FilePolling::kUntried)
      SetPolling(file, FilePolling::kYes);
    return true;
  }
  if (!broken_.ok()) return true;  // There is no other ring any more.
  SetPolling(file, FilePolling::kNo);
  RefusePolling(CompletionPollingRefusal(-result));
  return false;
}

// Each refusal is counted, and the first of its kind named.
void RingIo::RefusePolling(const std::string& why) {
  counters_.CountPollingRefusal();
  {
    MutexLock lock(mutex_);
    if (absl::StrContains(polling_.refusal, why)) return;
    absl::StrAppend(&polling_.refusal, polling_.refusal.empty() ? "" : "; ", why);
  }
  Log(absl::StrCat("io_uring: ", why));
}

absl::Status RingIo::RegisterParts(absl::Span<std::byte> memory) {
  if (!lane_.has_buffer_table()) return absl::OkStatus();
  const absl::StatusOr<std::vector<FixedMemory::Part>> parts = fixed_memory_.Add(memory);
  if (!parts.ok()) return parts.status();
  for (const FixedMemory::Part& part : *parts) {
    const int result =
        lane_.ring().SetBuffer(part.slot, {.iov_base = part.begin, .iov_len = part.size});
    if (result == 0) continue;
    UnregisterParts(memory).IgnoreError();
    const std::string message = absl::StrCat("io_uring cannot pin ", FormatBytes(memory.size()),
                                             " of memory: ", ErrnoText(-result));
    if (result != -ENOMEM) return absl::UnavailableError(message);
    return absl::UnavailableError(absl::StrCat(message, ": ", MemlockAdvice()));
  }
  RegisterPartsPolled(*parts);
  return absl::OkStatus();
}

// The kernel counts memory that two rings pin twice: where a limit lets it do so only once, the
// polled ring works without fixed buffers.
void RingIo::RegisterPartsPolled(absl::Span<const FixedMemory::Part> parts) {
  if (polled_ == nullptr || !polled_->has_buffer_table()) return;
  for (const FixedMemory::Part& part : parts) {
    const iovec memory = {.iov_base = part.begin, .iov_len = part.size};
    const int result = polled_->ring().SetBuffer(part.slot, memory);
    if (result == 0) continue;
    polled_->ForgetBufferTable();
    return Log(
        absl::StrCat("io_uring polls for completions without fixed buffers: ", ErrnoText(-result)));
  }
}

absl::Status RingIo::UnregisterParts(absl::Span<std::byte> memory) {
  if (!lane_.has_buffer_table()) return absl::OkStatus();
  const std::vector<FixedMemory::Part> parts = fixed_memory_.Remove(memory);
  if (parts.empty()) return absl::NotFoundError("UnregisterMemory: not a registered region");
  for (const FixedMemory::Part& part : parts) {
    lane_.ring().SetBuffer(part.slot, {});
    // Whatever it has of it, though it uses none: the memory is to be free.
    if (polled_ != nullptr) polled_->ring().SetBuffer(part.slot, {});
  }
  return absl::OkStatus();
}

}  // namespace cairn
