#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "cairn/options.h"

namespace cairn {

// Who goes first where requests wait for the device.
enum class IoPriority : uint8_t { kDemandRead = 0, kWrite = 1, kPrefetch = 2, kBackground = 3 };
inline constexpr size_t kIoPriorityCount = 4;

// One request to a file. Owned by the caller, untouched by it from Submit to OnDone. The memory
// it names belongs to the kernel for as long.
class IoOp {
 public:
  // Bytes of one request: a larger transfer is several ops, so that checking the first overlaps
  // reading the next. A write may add its record's header.
  static constexpr uint64_t kBytesMax = (uint64_t{1} << 20) + (uint64_t{64} << 10);

  enum class Kind : uint8_t {
    kRead,
    kWrite,
    kSync,  // Device flush (fdatasync) of the writes whose OnDone came before; pieces are empty.
            // Queued with the writes, whatever its priority.
  };

  Kind kind = Kind::kRead;
  IoPriority priority = IoPriority::kDemandRead;
  int file = -1;        // From AsyncIo::AddFile.
  uint64_t offset = 0;  // In that file.
  // Scattered memory of one contiguous run of the file. Not empty for reads and writes; on a
  // direct file the offset and every address and size is a multiple of 4096.
  absl::InlinedVector<iovec, 2> pieces;

  IoOp() = default;
  IoOp(const IoOp&) = delete;
  IoOp& operator=(const IoOp&) = delete;
  virtual ~IoOp() = default;

  // Once per Submit, on a thread of the engine, after the engine has handed its next requests to
  // the device. Short transfers were continued: OK means every byte. kDataLoss: the medium failed
  // a read, or the file ended; kUnavailable: a write or flush failed, the kernel refused (busy for
  // 2 s, a descriptor not open for this), or the engine is closing; kResourceExhausted: no space;
  // kInvalidArgument: the op is not as described here; kCancelled: it was not needed() any more,
  // and nothing was transferred.
  // May submit further ops, and may destroy this one. May not call Drain, nor block on an op:
  // every other op may be waiting for this thread.
  virtual void OnDone(absl::Status status) = 0;

  // Asked when its turn for the device comes, by a thread of the engine: must not wait.
  virtual bool needed() const { return true; }

  uint64_t byte_count() const {
    uint64_t bytes = 0;
    for (const iovec& piece : pieces) bytes += piece.iov_len;
    return bytes;
  }
  // Somebody waits for it now: where it is a read that waits for its turn it becomes a demand read,
  // once AsyncIo::RegardRaised is called. On any thread until OnDone.
  void Raise() { raised_.store(true, std::memory_order_relaxed); }
  bool raised() const { return raised_.load(std::memory_order_relaxed); }

  // In OnDone: how long the device had it, without the time that it waited for its turn.
  int64_t service_us() const { return service_us_; }

 private:
  friend class IoQueue;
  friend class IoTransfer;
  friend class IoWindow;
  friend class PosixIo;
  friend class RingIo;

  // The engine's own, from Submit to OnDone.
  IoOp* next_ = nullptr;
  uint64_t bytes_total_ = 0;
  uint64_t bytes_done_ = 0;     // Transferred for good; on a direct file a multiple of 4096.
  uint64_t bytes_seen_ = 0;     // The furthest that any attempt came.
  int64_t retry_until_us_ = 0;  // Steady clock; 0: no retry yet.
  int64_t service_us_ = 0;
  uint8_t epoch_ = 0;                   // Of IoDrain.
  bool refused_ = false;                // Submitted to an engine that is closing.
  std::atomic<bool> raised_ = false;    // The caller's: never reset.
  absl::InlinedVector<iovec, 2> rest_;  // What is left of `pieces` after a short transfer.
};

// Of ops that ended with OK, except where said.
struct IoStats {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t syncs = 0;
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
  uint64_t retries = 0;              // Short, interrupted or busy requests continued, of any op.
  uint64_t unknown_completions = 0;  // Answers of the kernel to no request; ignored.
  // Rings that could not poll, and requests that could not be polled for, of any op: they were
  // carried out without.
  uint64_t polling_refusals = 0;
};

// What an engine polls, of what its options ask for.
struct IoPolling {
  bool submissions = false;
  bool completions = false;  // Of one file at least, which a request has shown.
  std::string refusal;       // Why not of all, and what would help; empty: nothing is missing.
};

// Moves bytes between memory and files, many requests at once. Thread-safe.
//
// RingIo: one thread owns one ring; whatever was submitted meanwhile goes to the kernel in one
// system call. PosixIo: a pool of threads, for hosts where io_uring is forbidden. Both pass the
// same contract suite (tests/async_io_contract.h).
class AsyncIo {
 public:
  struct Options {
    IoEngineKind kind = IoEngineKind::kAuto;
    // One op more than this may be in flight; all but demand reads take half of it.
    uint64_t bytes_in_flight_max = uint64_t{8} << 20;
    uint32_t depth_max = 256;  // Requests in the kernel.
    uint32_t threads = 4;      // PosixIo.
    uint32_t files_max = 8192;
    uint32_t memory_regions_max = 1024;
    // As in StoreOptions, of io_uring. What is refused is done without, for good, and said once.
    absl::Duration submission_polling = absl::ZeroDuration();
    bool completion_polling = false;
    std::function<void(std::string_view line)> log = nullptr;  // May be empty.
  };

  // kAuto takes io_uring if a ring can be made and a request completes on it, else says once in
  // the log why not and takes posix. kUring fails with kUnavailable and that reason.
  static absl::StatusOr<std::unique_ptr<AsyncIo>> Open(const Options& options);

  // Completes what was submitted, then ends the threads. What OnDone submits meanwhile ends with
  // kUnavailable; no other thread may call anything by now.
  virtual ~AsyncIo() = default;

  // The id for IoOp::file. The descriptor stays the caller's and must outlive RemoveFile.
  // kInvalidArgument: not a descriptor; kResourceExhausted: files_max.
  virtual absl::StatusOr<int> AddFile(int fd) = 0;
  virtual void RemoveFile(int file) = 0;  // No op on it may be in flight.

  // Makes memory a fixed buffer where the engine has such a thing (OK and nothing to do where
  // not). Regions over 1 GiB are registered in parts. kUnavailable: the kernel refused; the
  // message says which limit. kResourceExhausted: memory_regions_max, which counts the parts.
  // kInvalidArgument: empty, or overlaps a registered region. After any of these the engine works
  // as before, and ops work on any memory.
  virtual absl::Status RegisterMemory(absl::Span<std::byte> memory) = 0;
  // Of a whole region as it was registered (else kNotFound); no op on it may be in flight.
  virtual absl::Status UnregisterMemory(absl::Span<std::byte> memory) = 0;

  // Takes all of the ops; never blocks on the device. Failures come by OnDone.
  virtual void Submit(absl::Span<IoOp* const> ops) = 0;

  // Ops that were submitted have been raised. Not waited for.
  virtual void RegardRaised() {}

  // Returns when every op submitted before the call has had its OnDone.
  virtual void Drain() = 0;

  virtual IoStats stats() const = 0;
  virtual IoPolling polling() const { return {}; }
  virtual const char* name() const = 0;  // "uring" or "posix".
};

}  // namespace cairn
