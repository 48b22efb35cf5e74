#pragma once

#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "io/io_queue.h"
#include "src/base/mutex.h"

namespace cairn {

// Where threads leave work for the one thread of a ring, and how they wake it: by an eventfd, but
// only where it may be asleep. Thread-safe, but for what is said to be the ring's.
class RingInbox {
 public:
  struct Mail {
    IoQueue::List ops;
    bool closing = false;
  };

  RingInbox() = default;
  ~RingInbox();
  RingInbox(const RingInbox&) = delete;
  RingInbox& operator=(const RingInbox&) = delete;

  absl::Status Open();

  // The ops have been through IoTransfer::Begin.
  void Submit(absl::Span<IoOp* const> ops);

  // Has `work` done by the ring's thread, and waits for that. Not for that thread itself.
  void Run(absl::FunctionRef<void()> work);

  // From here on ops are refused.
  void Close();

  // The rest is the ring's. Take does the work of Run; it and MaySleep take turns.
  Mail Take();
  // False when there is mail. Otherwise, with `for_ops`, the next Submit will wake; Run and Close
  // always do.
  bool MaySleep(bool for_ops);
  int wake_fd() const { return wake_fd_; }  // Readable from a wake to the next ClearWake.
  void ClearWake();

 private:
  struct Command {
    absl::FunctionRef<void()> work;
    bool done = false;  // Guarded by mutex_.
  };

  void Wake();

  int wake_fd_ = -1;

  Mutex mutex_;
  CondVar command_done_;
  IoQueue::List ops_ ABSL_GUARDED_BY(mutex_);
  std::vector<Command*> commands_ ABSL_GUARDED_BY(mutex_);
  bool asleep_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_taken_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace cairn
