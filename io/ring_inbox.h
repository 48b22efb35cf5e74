#pragma once

#include <cstdint>
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
    bool raised = false;  // Ops that came earlier were.
    bool closing = false;
  };

  RingInbox() = default;
  ~RingInbox();
  RingInbox(const RingInbox&) = delete;
  RingInbox& operator=(const RingInbox&) = delete;

  absl::Status Open();

  // The ops have been through IoTransfer::Begin.
  void Submit(absl::Span<IoOp* const> ops);

  // Ops submitted earlier have become demand reads.
  void RegardRaised();

  // Has `work` done by the ring's thread, and waits for that. Not for that thread itself.
  void Run(absl::FunctionRef<void()> work);

  // From here on ops are refused.
  void Close();

  // The rest is the ring's. Take does the work of Run; it and MaySleep take turns.
  Mail Take();
  // Which ops will wake the ring: what it could not take anyhow is not to.
  enum class WakeFor : uint8_t { kNoOp, kDemandReads, kAnyOp };
  // False when there is mail. Otherwise the next op of that kind will wake; Run and Close always
  // do.
  bool MaySleep(WakeFor wake_for);
  int wake_fd() const { return wake_fd_; }  // Readable from a wake to the next ClearWake.
  void ClearWake();

 private:
  struct Command {
    absl::FunctionRef<void()> work;
    bool done = false;  // Guarded by mutex_.
  };

  // Whether the ring sleeps and is to be woken; then it counts as awake.
  bool IsToWake(bool for_demand_read) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Wake();

  int wake_fd_ = -1;

  Mutex mutex_;
  CondVar command_done_;
  IoQueue::List ops_ ABSL_GUARDED_BY(mutex_);
  std::vector<Command*> commands_ ABSL_GUARDED_BY(mutex_);
  WakeFor wake_for_ ABSL_GUARDED_BY(mutex_) = WakeFor::kNoOp;  // Also while it is awake.
  bool raised_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_taken_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace cairn
