#include "io/ring_inbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "io/io_refusal.h"
#include "io/io_result.h"

namespace cairn {

RingInbox::~RingInbox() {
  if (wake_fd_ >= 0) close(wake_fd_);
}

absl::Status RingInbox::Open() {
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return wake_fd_ >= 0 ? absl::OkStatus() : UringRefused("eventfd", errno);
}

void RingInbox::Submit(absl::Span<IoOp* const> ops) {
  bool wake = false;
  {
    MutexLock lock(mutex_);
    bool demand_read = false;
    for (IoOp* op : ops) {
      if (closing_) IoTransfer::Refuse(*op);
      demand_read |= IoQueue::WillBeDemandRead(*op);
      ops_.PushBack(op);
    }
    wake = IsToWake(demand_read);
  }
  if (wake) Wake();
}

void RingInbox::RegardRaised() {
  bool wake = false;
  {
    MutexLock lock(mutex_);
    raised_ = true;
    wake = IsToWake(/*for_demand_read=*/true);
  }
  if (wake) Wake();
}

bool RingInbox::IsToWake(bool for_demand_read) {
  if (wake_for_ == WakeFor::kNoOp) return false;
  if (wake_for_ == WakeFor::kDemandReads && !for_demand_read) return false;
  wake_for_ = WakeFor::kNoOp;
  return true;
}

void RingInbox::Run(absl::FunctionRef<void()> work) {
  Command command{work};
  {
    MutexLock lock(mutex_);
    commands_.push_back(&command);
  }
  Wake();
  MutexLock lock(mutex_);
  while (!command.done) command_done_.Wait(mutex_);
}

void RingInbox::Close() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
  }
  Wake();
}

RingInbox::Mail RingInbox::Take() {
  Mail mail;
  std::vector<Command*> commands;
  {
    MutexLock lock(mutex_);
    mail.ops.Append(ops_);
    commands.swap(commands_);
    mail.raised = std::exchange(raised_, false);
    mail.closing = closing_taken_ = closing_;
    wake_for_ = WakeFor::kNoOp;
  }
  if (commands.empty()) return mail;
  for (Command* command : commands) command->work();
  {
    MutexLock lock(mutex_);
    for (Command* command : commands) command->done = true;
  }
  command_done_.NotifyAll();
  return mail;
}

bool RingInbox::MaySleep(WakeFor wake_for) {
  MutexLock lock(mutex_);
  if (!ops_.empty() || !commands_.empty() || raised_ || closing_ != closing_taken_) return false;
  wake_for_ = wake_for;
  return true;
}

void RingInbox::ClearWake() {
  eventfd_t value = 0;
  eventfd_read(wake_fd_, &value);
}

void RingInbox::Wake() {
  // Fails only when the counter is full; then it is readable anyhow.
  eventfd_write(wake_fd_, 1);
}

}  // namespace cairn
