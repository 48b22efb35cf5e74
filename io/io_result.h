#pragma once

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "io/async_io.h"
#include "io/io_files.h"

namespace cairn {

// Microseconds of the steady clock.
int64_t SteadyNowUs();

// The rules by which every engine treats an op: what is wrong with it before, what the kernel's
// answer means after. Knows no engine and does no I/O.
class IoTransfer {
 public:
  // How long a busy kernel is asked again before that is an error.
  static constexpr int64_t kRetryUsMax = 2'000'000;

  enum class Next : uint8_t {
    kDone,      // With `status`.
    kContinue,  // The rest, at once.
    kRetry,     // The rest, after `delay_us`.
  };
  struct Verdict {
    Next next = Next::kDone;
    absl::Status status = absl::OkStatus();
    int64_t delay_us = 0;
  };

  // Once per Submit, before the engine does anything else with the op.
  static void Begin(IoOp& op, uint8_t epoch);

  // Makes Check fail: the engine is closing.
  static void Refuse(IoOp& op) { op.refused_ = true; }

  // What forbids handing the op to the kernel; `file` is nullptr for an unknown id.
  // kInvalidArgument, or kUnavailable where a closing engine refused it.
  static absl::Status Check(const IoOp& op, const IoFiles::File* file);

  // What is still to be transferred, and where in the file it starts.
  static absl::Span<const iovec> Rest(const IoOp& op);
  static uint64_t RestOffset(const IoOp& op);

  // Takes the kernel's answer to a request for Rest(): bytes, or minus an errno.
  static Verdict Apply(IoOp& op, const IoFiles::File& file, int64_t result, int64_t now_us);

 private:
  static Verdict ApplyError(IoOp& op, int error, int64_t now_us);
};

// What stats() returns, counted from any thread. Relaxed: the counts order nothing.
class IoCounters {
 public:
  void CountDone(IoOp::Kind kind, uint64_t bytes);
  void CountRetry() { retries_.fetch_add(1, std::memory_order_relaxed); }
  void CountPollingRefusal() { polling_refusals_.fetch_add(1, std::memory_order_relaxed); }
  void CountUnknown() { unknown_completions_.fetch_add(1, std::memory_order_relaxed); }
  IoStats Read() const;

 private:
  std::atomic<uint64_t> reads_ = 0;
  std::atomic<uint64_t> writes_ = 0;
  std::atomic<uint64_t> syncs_ = 0;
  std::atomic<uint64_t> bytes_read_ = 0;
  std::atomic<uint64_t> bytes_written_ = 0;
  std::atomic<uint64_t> retries_ = 0;
  std::atomic<uint64_t> unknown_completions_ = 0;
  std::atomic<uint64_t> polling_refusals_ = 0;
};

}  // namespace cairn
