#include "io/ring_io.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/io_refusal.h"
#include "src/base/check.h"
#include "src/base/start_thread.h"
#include "src/base/wake_scope.h"

namespace cairn {

absl::StatusOr<std::unique_ptr<AsyncIo>> RingIo::Open(const Options& options,
                                                      std::unique_ptr<Ring> ring,
                                                      std::unique_ptr<Ring> polled) {
  std::unique_ptr<RingIo> io(new RingIo(options, std::move(ring), std::move(polled)));
  if (absl::Status status = io->Start(); !status.ok()) return status;
  return io;
}

RingIo::RingIo(const Options& options, std::unique_ptr<Ring> ring, std::unique_ptr<Ring> polled)
    : options_(options),
      lane_(std::move(ring)),
      polled_(polled == nullptr ? nullptr : std::make_unique<RingLane>(std::move(polled))),
      files_(options.files_max),
      fixed_memory_(options.memory_regions_max),
      window_(options.bytes_in_flight_max) {}

absl::Status RingIo::Start() {
  if (absl::Status status = inbox_.Open(); !status.ok()) return status;
  absl::Status status = StartThread(thread_, "cairn-uring", [this] { Run(); });
  if (!status.ok()) return status;
  MutexLock lock(mutex_);
  while (!started_.has_value()) has_started_.Wait(mutex_);
  return std::move(*started_);
}

RingIo::~RingIo() {
  if (!thread_.joinable()) return;
  inbox_.Close();
  thread_.join();
}

// ------------------------------------------------------------------------------ From any thread.

void RingIo::Submit(absl::Span<IoOp* const> ops) {
  const uint8_t epoch = drain_.Enter(ops.size());
  for (IoOp* op : ops) IoTransfer::Begin(*op, epoch);
  inbox_.Submit(ops);
}

void RingIo::RunOnRing(absl::FunctionRef<void()> work) {
  // An OnDone may add files and memory too.
  std::this_thread::get_id() == thread_.get_id() ? work() : inbox_.Run(work);
}

absl::StatusOr<int> RingIo::AddFile(int fd) {
  absl::StatusOr<int> file = absl::UnknownError("not run");
  RunOnRing([&] { file = AddFileToRings(fd); });
  return file;
}

void RingIo::RemoveFile(int file) {
  RunOnRing([&] {
    files_.Remove(file);
    lane_.ClearFile(file);
    if (polled_ != nullptr) polled_->ClearFile(file);
    SetPolling(file, FilePolling::kNo);
  });
}

absl::Status RingIo::RegisterMemory(absl::Span<std::byte> memory) {
  absl::Status status;
  RunOnRing([&] { status = RegisterParts(memory); });
  return status;
}

absl::Status RingIo::UnregisterMemory(absl::Span<std::byte> memory) {
  absl::Status status;
  RunOnRing([&] { status = UnregisterParts(memory); });
  return status;
}

IoPolling RingIo::polling() const {
  MutexLock lock(mutex_);
  return polling_;
}

// ----------------------------------------------------------------------------- The ring's thread.

void RingIo::Run() {
  absl::Status status = OpenRings();
  const bool is_open = status.ok();
  {
    MutexLock lock(mutex_);
    started_ = std::move(status);
    has_started_.NotifyAll();
  }
  if (!is_open) return;
  Loop();
  lane_.ring().Close();
  if (polled_ != nullptr) polled_->ring().Close();
}

void RingIo::Loop() {
  while (true) {
    TakeMail();
    if (Finished()) return;
    Fill();
    Enter();
    RunDone();  // Only now: the device has its next requests.
    Reap();
  }
}

void RingIo::TakeMail() {
  RingInbox::Mail mail = inbox_.Take();
  closing_ = mail.closing;
  while (IoOp* op = mail.ops.PopFront()) queue_.Push(op);
  if (mail.raised) queue_.RegardRaised();
}

bool RingIo::Finished() const {
  return closing_ && queue_.empty() && done_.empty() && slots_.all_free();
}

void RingIo::Fill() {
  if (!wake_armed_ && broken_.ok()) wake_armed_ = lane_.ring().PrepareWake();
  const int64_t now_us = retries_.empty() ? 0 : SteadyNowUs();
  std::erase_if(retries_, [&](const Retry& retry) {
    if (retry.due_us > now_us) return false;
    continued_.push_back(retry.slot);
    return true;
  });
  while (!continued_.empty() && Prepare(continued_.front())) continued_.pop_front();
  while (slots_.has_free() && lane_.ring().has_room() &&
         (polled_ == nullptr || polled_->ring().has_room())) {
    IoOp* const op = window_.Take(queue_);
    if (op == nullptr) break;
    StartOp(op);
  }
}

void RingIo::StartOp(IoOp* op) {
  const IoFiles::File* file = files_.Find(op->file);
  absl::Status status = broken_.ok() ? IoTransfer::Check(*op, file) : Broken();
  if (!status.ok()) {
    window_.GiveBack(*op);
    done_.push_back({op, std::move(status)});
    return;
  }
  CAIRN_CHECK(Prepare(slots_.Take(op, *file)));
}

// False when the submission ring is full.
bool RingIo::Prepare(uint32_t index) {
  const RingSlots::Slot& slot = slots_[index];
  RingLane& lane = LaneOf(*slot.op);
  const std::optional<uint32_t> sequence =
      lane.Prepare(*slot.op, slot.file, fixed_memory_, slots_.NextName(index));
  if (!sequence.has_value()) return false;
  slots_.Submitted(index, *sequence, &lane);
  return true;
}

RingLane& RingIo::LaneOf(const IoOp& op) {
  const bool is_transfer = op.kind != IoOp::Kind::kSync;
  return is_transfer && PollingOf(op.file) != FilePolling::kNo ? *polled_ : lane_;
}

// Of what waits already the device has what it may have: only what may pass that is to wake.
bool RingIo::MaySleep() {
  using WakeFor = RingInbox::WakeFor;
  if (queue_.empty()) return inbox_.MaySleep(WakeFor::kAnyOp);
  return inbox_.MaySleep(queue_.has_demand_read() ? WakeFor::kNoOp : WakeFor::kDemandReads);
}

void RingIo::Enter() {
  if (!broken_.ok()) return WaitBroken();
  if (polls()) {
    // Such completions come to who asks for them, so nobody sleeps; the other ring is looked at.
    Entered(*polled_, polled_->ring().Submit());
    if (!broken_.ok()) return;
    const bool idle = lane_.in_flight() == 0;
    return Entered(lane_, idle ? lane_.ring().Submit() : lane_.ring().SubmitAndWait(0));
  }
  const bool may_wait = done_.empty() && continued_.empty() && MaySleep();
  Entered(lane_, may_wait ? lane_.ring().SubmitAndWait(WaitUs()) : lane_.ring().Submit());
}

void RingIo::Entered(RingLane& lane, int result) {
  if (result >= 0 || result == -EINTR) return;
  if (result != -EAGAIN && result != -EBUSY && result != -ENOMEM) return Break(-result);
  // The kernel wants its completions reaped first, or memory, which takes others a moment.
  if (!Reap(lane)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

// Until the next retry is due; negative: for ever.
int64_t RingIo::WaitUs() const {
  if (retries_.empty()) return -1;
  int64_t due_us = retries_[0].due_us;
  for (const Retry& retry : retries_) due_us = std::min(due_us, retry.due_us);
  return std::max<int64_t>(due_us - SteadyNowUs(), 0);
}

void RingIo::RunDone() {
  // What is waited for is woken once for many small ops, and for each large one.
  constexpr uint64_t kBytesPerWake = uint64_t{64} << 10;
  // Those who were woken have asked for more meanwhile, and the device need not wait for the rest.
  constexpr uint64_t kBytesPerRefill = uint64_t{256} << 10;
  uint64_t bytes = 0;
  uint64_t bytes_since_refill = 0;
  WakeScope wakes;
  running_.swap(done_);  // OnDone may submit, which never touches done_.
  for (Done& done : running_) {
    const uint8_t epoch = done.op->epoch_;
    bytes += done.op->bytes_total_;
    done.op->OnDone(std::move(done.status));  // May destroy the op.
    drain_.Leave(epoch);
    if (bytes < kBytesPerWake) continue;
    wakes.WakeAll();
    bytes_since_refill += std::exchange(bytes, 0);
    if (bytes_since_refill < kBytesPerRefill || &done == &running_.back()) continue;
    Refill();
    bytes_since_refill = 0;
  }
  running_.clear();
}

void RingIo::Refill() {
  TakeMail();
  Fill();
  if (broken_.ok() && polls()) Entered(*polled_, polled_->ring().Submit());
  if (broken_.ok()) Entered(lane_, lane_.ring().Submit());
}

void RingIo::Reap() {
  Reap(lane_);
  if (polled_ != nullptr) Reap(*polled_);
}

// False when there was nothing.
bool RingIo::Reap(RingLane& lane) {
  lane.ring().Reap(completions_);
  for (const Ring::Completion& completion : completions_) OnCompletion(lane, completion);
  const bool any = !completions_.empty();
  completions_.clear();
  return any;
}

void RingIo::OnCompletion(RingLane& lane, const Ring::Completion& completion) {
  if (completion.name == Ring::kWakeName) {
    inbox_.ClearWake();
    wake_armed_ = false;
    return;
  }
  const std::optional<uint32_t> completed = slots_.Completed(completion.name, &lane);
  if (!completed.has_value()) return counters_.CountUnknown();
  const uint32_t index = *completed;
  const RingSlots::Slot& slot = slots_[index];
  if (&lane != &lane_ && !TakesPolling(slot.op->file, completion.result)) {
    return continued_.push_back(index);  // Again, on the other ring, which has the last word.
  }
  const int64_t now_us = completion.result < 0 ? SteadyNowUs() : 0;
  IoTransfer::Verdict verdict = IoTransfer::Apply(*slot.op, slot.file, completion.result, now_us);
  if (verdict.next == IoTransfer::Next::kDone) return Finish(index, std::move(verdict.status));
  if (!broken_.ok()) return Finish(index, Broken());
  counters_.CountRetry();
  if (verdict.next == IoTransfer::Next::kContinue) {
    continued_.push_back(index);
  } else {
    retries_.push_back({.due_us = now_us + verdict.delay_us, .slot = index});
  }
}

void RingIo::Finish(uint32_t index, absl::Status status) {
  IoOp* const op = slots_.Release(index);
  window_.GiveBack(*op);
  if (status.ok()) counters_.CountDone(op->kind, op->bytes_total_);
  done_.push_back({op, std::move(status)});
}

// The kernel takes requests no longer, as under a seccomp filter installed after Open. What it has
// not taken fails, now and from here on; what it has is waited for, since it owns that memory: of a
// polled ring for ever where the kernel has no thread that polls for us (SQPOLL), as of a device
// that hangs.
void RingIo::Break(int error) {
  broken_ = UringRefused("io_uring_enter", error);
  Log(absl::StrCat("io_uring stopped working; every I/O fails from here on: ", broken_.message()));
  for (uint32_t index = 0; index < slots_.size(); ++index) {
    const RingSlots::Slot& slot = slots_[index];
    if (slot.op == nullptr) continue;
    if (slot.lane != nullptr && slot.lane->HasTaken(slot.sequence)) continue;
    slots_.Retract(index);
    Finish(index, Broken());
  }
  continued_.clear();
  retries_.clear();
}

// Without io_uring_enter: completions may still appear in the shared memory.
void RingIo::WaitBroken() {
  if (!done_.empty() || !MaySleep()) return;
  pollfd wake = {.fd = inbox_.wake_fd(), .events = POLLIN, .revents = 0};
  poll(&wake, 1, 10);
  inbox_.ClearWake();
}

}  // namespace cairn
