#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/store_files.h"
#include "src/base/mutex.h"
#include "tools/inspect/read_buffer.h"
#include "tools/inspect/run_set.h"

namespace cairn::inspect {

// Reads runs of L3 before they are asked for: neighbours together, a few reads at a time, in order
// of offset, in 28 MiB of memory. To be asked in order of offset, but for the table of a pack
// before its members. Who asks otherwise, or for what was not planned, is served by a read of its
// own: what one gets never depends on the plan. For one thread at a time.
class ReadAhead {
 public:
  ReadAhead(const StoreFiles* files, std::vector<Run> runs);
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  // Whole blocks, ReadBuffer::kBytes at most; valid until the next call.
  absl::StatusOr<absl::Span<const std::byte>> Read(uint64_t offset, uint64_t bytes)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  static constexpr size_t kWindows = 6;
  static constexpr size_t kThreads = 4;

  struct Window {
    ReadBuffer buffer;
    size_t number = SIZE_MAX;  // Of the request whose bytes it has.
    absl::Status status;
  };

  void ReadRequests(const std::stop_token& stop) ABSL_LOCKS_EXCLUDED(mutex_);
  // The window of that request, when it is read.
  const Window& WaitFor(size_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  void PassFirst() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<absl::Span<const std::byte>> ReadNow(uint64_t offset, uint64_t bytes);

  const StoreFiles* const files_;
  std::vector<Run> requests_;  // Constant after construction; what one read reads.
  ReadBuffer own_;

  Mutex mutex_;
  CondVar free_;
  CondVar read_;
  std::array<Window, kWindows> windows_;  // Request n is in window n % kWindows.
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t first_ ABSL_GUARDED_BY(mutex_) = 0;  // The first request that is still held.
  // Only on the caller's thread.
  size_t position_ = 0;  // As first_.
  bool running_ = false;

  std::array<std::jthread, kThreads> threads_;
};

}  // namespace cairn::inspect
