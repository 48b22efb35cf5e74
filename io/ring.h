#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "io/async_io.h"

namespace cairn {

// A pair of rings shared with whoever carries out requests: the kernel's io_uring, or a test. Only
// what RingIo needs of it, with the kernel's own return codes: minus an errno. Used by one thread,
// from Open to Close.
class Ring {
 public:
  struct Request {
    IoOp::Kind kind = IoOp::Kind::kRead;
    int fd = -1;  // Or the index in the file table.
    bool is_fixed_file = false;
    int fixed_buffer = -1;  // Index in the buffer table, -1: none. Then there is one piece.
    uint64_t offset = 0;
    absl::Span<const iovec> pieces;  // Stay as they are until the completion.
    uint64_t name = 0;
  };
  struct Completion {
    uint64_t name = 0;
    int result = 0;
  };

  struct Setup {
    uint32_t depth = 0;  // Requests at once; where the kernel takes no more, fewer: depth().
    int wake_fd = -1;    // Of PrepareWake.
    // Not 0: a thread of the kernel's takes requests over (SQPOLL), and sleeps after so long
    // without any.
    uint32_t submission_idle_ms = 0;
    // Reads and writes of direct files only, no wake request, and completions come by Submit, which
    // looks for them at the device (IOPOLL). What the file or its device has not learnt completes
    // with EOPNOTSUPP or EINVAL.
    bool polls_completions = false;
  };

  // The name of the request that completes when wake_fd becomes readable.
  static constexpr uint64_t kWakeName = ~uint64_t{1};

  virtual ~Ring() = default;

  // kUnavailable: refused; another setup may do.
  virtual absl::Status Open(const Setup& setup) = 0;
  virtual void Close() = 0;  // Nothing is in flight but the wake request.
  virtual uint32_t depth() const = 0;

  // Tables of files and buffers, empty at first. 0: OK. An fd of -1 or an empty buffer clears.
  virtual int MakeFileTable(uint32_t size) = 0;
  virtual int MakeBufferTable(uint32_t size) = 0;
  virtual int SetFile(uint32_t index, int fd) = 0;
  virtual int SetBuffer(uint32_t index, const iovec& memory) = 0;

  // Writes a request into the submission ring, to be handed over by the next Submit. Returns its
  // sequence number, which wraps; nothing when the ring is full.
  virtual std::optional<uint32_t> Prepare(const Request& request) = 0;
  virtual bool PrepareWake() = 0;
  virtual bool has_room() const = 0;
  // The sequence number up to which (and without which) requests have been taken over. Once Submit
  // has failed for good, no others are afterwards.
  virtual uint32_t taken() = 0;

  // Hands over what was prepared. Some may remain, for the next time.
  virtual int Submit() = 0;
  // Waits for a completion too, no longer than timeout_us where that is not negative.
  virtual int SubmitAndWait(int64_t timeout_us) = 0;

  // Appends the completions there are.
  virtual void Reap(std::vector<Completion>& completions) = 0;
};

}  // namespace cairn
