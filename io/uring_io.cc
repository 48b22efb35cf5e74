#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "io/async_io.h"
#include "io/fixed_memory.h"
#include "io/io_drain.h"
#include "io/io_engines.h"
#include "io/io_files.h"
#include "io/io_queue.h"
#include "io/io_refusal.h"
#include "io/io_result.h"
#include "io/ring_inbox.h"
#include "io/ring_slots.h"
#include "io/start_thread.h"
#include "src/base/check.h"
#include "src/base/mutex.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

// user_data of the poll on the eventfd. No slot has it; liburing itself uses -1 (for timeouts).
constexpr uint64_t kWakeUserData = ~uint64_t{1};

}  // namespace

// One thread owns one ring, and does everything with it: only so may the ring be made with
// SINGLE_ISSUER and DEFER_TASKRUN, the kernel's fastest mode. Others leave ops and commands in an
// inbox, and wake the thread through an eventfd where it may be asleep.
//
// An op has a slot from the moment it is in flight until its last completion; only then does it
// go to OnDone. ThreadSanitizer does not see the kernel touch the op's memory, nor need it: the
// thread that submits is the one that reaps, and the inbox's mutex orders it after the submitter.
class UringIo final : public AsyncIo {
 public:
  explicit UringIo(const Options& options);
  ~UringIo() override;

  absl::Status Start();

  absl::StatusOr<int> AddFile(int fd) override;
  void RemoveFile(int file) override;
  absl::Status RegisterMemory(absl::Span<std::byte> memory) override;
  absl::Status UnregisterMemory(absl::Span<std::byte> memory) override;
  void Submit(absl::Span<IoOp* const> ops) override;
  void Drain() override { drain_.Wait(); }
  IoStats stats() const override { return counters_.Read(); }
  const char* name() const override { return "uring"; }

 private:
  struct Done {
    IoOp* op;
    absl::Status status;
  };
  struct Retry {
    int64_t due_us;
    uint32_t slot;
  };

  void RunOnRing(absl::FunctionRef<void()> work);

  // The ring's thread only.
  void Run();
  absl::Status MakeRing();
  absl::Status Probe();
  void MakeTables();
  void Loop();
  bool Finished() const;
  void Fill();
  void StartOp(IoOp* op);
  bool Prepare(uint32_t index);
  void PrepareRequest(io_uring_sqe* sqe, const RingSlots::Slot& slot);
  void Enter();
  int SubmitAndWait();
  void RunDone();
  void Reap();
  void OnCompletion(uint64_t user_data, int result);
  void Finish(uint32_t index, absl::Status status);
  void Break(int error);
  void WaitBroken();
  absl::Status RegisterParts(absl::Span<std::byte> memory);
  absl::Status UnregisterParts(absl::Span<std::byte> memory);
  void Log(const std::string& line) const {
    if (options_.log) options_.log(line);
  }

  const Options options_;
  IoCounters counters_;
  IoDrain drain_;
  RingInbox inbox_;

  Mutex mutex_;
  CondVar has_started_;
  std::optional<absl::Status> started_ ABSL_GUARDED_BY(mutex_);

  // The ring's thread only.
  io_uring ring_ = {};
  bool has_file_table_ = false;
  bool has_buffer_table_ = false;
  IoFiles files_;
  std::vector<char> file_is_fixed_;  // By id.
  FixedMemory fixed_memory_;
  IoQueue queue_;
  RingSlots slots_;
  std::deque<uint32_t> continued_;  // In flight, their rest to be submitted at once.
  std::vector<Retry> retries_;      // In flight, their rest to be submitted when due.
  std::vector<Done> done_;
  std::vector<Done> running_;  // The ones of done_ whose OnDone runs; kept for its capacity.
  bool wake_armed_ = false;
  bool closing_ = false;
  absl::Status broken_;  // Not OK: the ring takes no more requests.

  std::jthread thread_;
};

UringIo::UringIo(const Options& options)
    : options_(options), files_(options.files_max), fixed_memory_(options.memory_regions_max) {}

absl::Status UringIo::Start() {
  if (absl::Status status = inbox_.Open(); !status.ok()) return status;
  absl::Status status = StartThread(thread_, "cairn-uring", [this] { Run(); });
  if (!status.ok()) return status;
  MutexLock lock(mutex_);
  while (!started_.has_value()) has_started_.Wait(mutex_);
  return *started_;
}

UringIo::~UringIo() {
  if (!thread_.joinable()) return;
  inbox_.Close();
  thread_.join();
}

// ------------------------------------------------------------------------------ From any thread.

void UringIo::Submit(absl::Span<IoOp* const> ops) {
  const uint8_t epoch = drain_.Enter(ops.size());
  for (IoOp* op : ops) IoTransfer::Begin(*op, epoch);
  inbox_.Submit(ops);
}

void UringIo::RunOnRing(absl::FunctionRef<void()> work) {
  // An OnDone may add files and memory too.
  std::this_thread::get_id() == thread_.get_id() ? work() : inbox_.Run(work);
}

absl::StatusOr<int> UringIo::AddFile(int fd) {
  absl::StatusOr<int> file = absl::UnknownError("not run");
  RunOnRing([&] {
    file = files_.Add(fd);
    if (!file.ok()) return;
    const size_t id = static_cast<size_t>(*file);
    if (file_is_fixed_.size() <= id) file_is_fixed_.resize(id + 1);
    file_is_fixed_[id] = has_file_table_ && io_uring_register_files_update(
                                                &ring_, static_cast<unsigned>(id), &fd, 1) == 1;
  });
  return file;
}

void UringIo::RemoveFile(int file) {
  RunOnRing([&] {
    files_.Remove(file);
    const int none = -1;
    if (file_is_fixed_[static_cast<size_t>(file)]) {
      io_uring_register_files_update(&ring_, static_cast<unsigned>(file), &none, 1);
    }
  });
}

absl::Status UringIo::RegisterMemory(absl::Span<std::byte> memory) {
  absl::Status status;
  RunOnRing([&] { status = RegisterParts(memory); });
  return status;
}

absl::Status UringIo::UnregisterMemory(absl::Span<std::byte> memory) {
  absl::Status status;
  RunOnRing([&] { status = UnregisterParts(memory); });
  return status;
}

// ------------------------------------------------------------------------------------- The ring.

void UringIo::Run() {
  const absl::Status status = MakeRing();
  {
    MutexLock lock(mutex_);
    started_ = status;
  }
  has_started_.NotifyAll();
  if (!status.ok()) return;
  Loop();
  // The kernel takes a ring apart after we have left; files and memory are to be free by then.
  if (has_file_table_) io_uring_unregister_files(&ring_);
  if (has_buffer_table_) io_uring_unregister_buffers(&ring_);
  io_uring_queue_exit(&ring_);
}

absl::Status UringIo::MakeRing() {
  // Linux 6.1; 5.19; 5.6. A kernel that lacks a flag answers EINVAL.
  constexpr unsigned kFlags[] = {
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
          IORING_SETUP_CLAMP,
      IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP, IORING_SETUP_CLAMP};
  // Besides the ops: the poll, and a timeout that liburing adds on old kernels.
  const unsigned entries = std::min(options_.depth_max, 32766u) + 2;
  int result = -EINVAL;
  for (const unsigned flags : kFlags) {
    io_uring_params params = {};
    params.flags = flags;
    result = io_uring_queue_init_params(entries, &ring_, &params);
    if (result != -EINVAL) break;
  }
  if (result < 0) return UringRefused("io_uring_setup", -result);
  if (absl::Status status = Probe(); !status.ok()) {
    io_uring_queue_exit(&ring_);
    return status;
  }
  // A child of fork() must not write into our ring.
  io_uring_ring_dontfork(&ring_);
  MakeTables();
  slots_.Resize(std::min(options_.depth_max, ring_.sq.ring_entries - 2));
  return absl::OkStatus();
}

// Whether a request completes: a sandbox may allow to make a ring and no more.
absl::Status UringIo::Probe() {
  eventfd_write(inbox_.wake_fd(), 1);
  uint64_t value = 0;
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  io_uring_prep_read(sqe, inbox_.wake_fd(), &value, sizeof(value), 0);
  int result = -EINTR;
  while (result == -EINTR || result == -EAGAIN) result = io_uring_submit_and_wait(&ring_, 1);
  if (result < 0) return UringRefused("io_uring_enter", -result);
  io_uring_cqe* cqe = nullptr;
  result = -EINTR;
  while (result == -EINTR || result == -EAGAIN) result = io_uring_wait_cqe(&ring_, &cqe);
  if (result < 0) return UringRefused("io_uring_enter", -result);
  result = cqe->res;
  io_uring_cqe_seen(&ring_, cqe);
  if (result < 0) return UringRefused("IORING_OP_READ", -result);
  return absl::OkStatus();
}

void UringIo::MakeTables() {
  int result = io_uring_register_files_sparse(&ring_, options_.files_max);
  has_file_table_ = result == 0;
  if (result != 0) {
    Log(absl::StrCat("io_uring without registered files, at some more CPU per request: ",
                     ErrnoText(-result)));
  }
  if (options_.memory_regions_max == 0) return;
  result = io_uring_register_buffers_sparse(&ring_, options_.memory_regions_max);
  has_buffer_table_ = result == 0;
  if (result != 0) {
    Log(absl::StrCat("io_uring without fixed buffers, at some more CPU per byte: ",
                     ErrnoText(-result)));
  }
}

void UringIo::Loop() {
  while (true) {
    RingInbox::Mail mail = inbox_.Take();
    closing_ = mail.closing;
    while (IoOp* op = mail.ops.PopFront()) queue_.Push(op);
    if (Finished()) return;
    Fill();
    Enter();
    RunDone();
    Reap();
  }
}

bool UringIo::Finished() const {
  return closing_ && queue_.empty() && done_.empty() && slots_.all_free();
}

void UringIo::Fill() {
  if (!wake_armed_ && broken_.ok()) {
    if (io_uring_sqe* sqe = io_uring_get_sqe(&ring_); sqe != nullptr) {
      io_uring_prep_poll_add(sqe, inbox_.wake_fd(), POLLIN);
      io_uring_sqe_set_data64(sqe, kWakeUserData);
      wake_armed_ = true;
    }
  }
  const int64_t now_us = retries_.empty() ? 0 : SteadyNowUs();
  std::erase_if(retries_, [&](const Retry& retry) {
    if (retry.due_us > now_us) return false;
    continued_.push_back(retry.slot);
    return true;
  });
  while (!continued_.empty() && Prepare(continued_.front())) continued_.pop_front();
  while (!queue_.empty() && slots_.MayTake(options_.bytes_in_flight_max) &&
         io_uring_sq_space_left(&ring_) > 0) {
    StartOp(queue_.Pop());
  }
}

void UringIo::StartOp(IoOp* op) {
  const IoFiles::File* file = files_.Find(op->file);
  absl::Status status = broken_.ok() ? IoTransfer::Check(*op, file) : broken_;
  if (!status.ok()) {
    done_.push_back({op, std::move(status)});
    return;
  }
  CAIRN_CHECK(Prepare(slots_.Take(op, *file, op->bytes_total_)));
}

// False when the submission ring is full.
bool UringIo::Prepare(uint32_t index) {
  const uint32_t sqe_index = ring_.sq.sqe_tail;
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  if (sqe == nullptr) return false;
  PrepareRequest(sqe, slots_[index]);
  io_uring_sqe_set_data64(sqe, slots_.Submitted(index, sqe_index));
  return true;
}

void UringIo::PrepareRequest(io_uring_sqe* sqe, const RingSlots::Slot& slot) {
  const IoOp& op = *slot.op;
  const bool fixed_file = file_is_fixed_[static_cast<size_t>(op.file)];
  const int fd = fixed_file ? op.file : slot.file.fd;
  const bool read = op.kind == IoOp::Kind::kRead;
  const uint64_t offset = IoTransfer::RestOffset(op);
  const absl::Span<const iovec> rest = IoTransfer::Rest(op);
  if (op.kind == IoOp::Kind::kSync) {
    io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
  } else if (rest.size() > 1) {
    const unsigned count = static_cast<unsigned>(rest.size());
    read ? io_uring_prep_readv(sqe, fd, rest.data(), count, offset)
         : io_uring_prep_writev(sqe, fd, rest.data(), count, offset);
  } else {
    void* const base = rest[0].iov_base;
    const unsigned size = static_cast<unsigned>(rest[0].iov_len);
    const int buffer = has_buffer_table_ ? fixed_memory_.Find(rest[0]) : -1;
    if (buffer >= 0) {
      read ? io_uring_prep_read_fixed(sqe, fd, base, size, offset, buffer)
           : io_uring_prep_write_fixed(sqe, fd, base, size, offset, buffer);
    } else {
      read ? io_uring_prep_read(sqe, fd, base, size, offset)
           : io_uring_prep_write(sqe, fd, base, size, offset);
    }
  }
  if (fixed_file) io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
}

void UringIo::Enter() {
  if (!broken_.ok()) return WaitBroken();
  const int result = done_.empty() && continued_.empty() && inbox_.MaySleep(queue_.empty())
                         ? SubmitAndWait()
                         : io_uring_submit(&ring_);
  if (result >= 0 || result == -EINTR || result == -ETIME) return;
  if (result == -EAGAIN || result == -EBUSY || result == -ENOMEM) {
    // The kernel wants its completions reaped, or memory: both take other threads a moment.
    if (io_uring_cq_ready(&ring_) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return;
  }
  Break(-result);
}

int UringIo::SubmitAndWait() {
  if (retries_.empty()) return io_uring_submit_and_wait(&ring_, 1);
  int64_t due_us = retries_[0].due_us;
  for (const Retry& retry : retries_) due_us = std::min(due_us, retry.due_us);
  const int64_t wait_us = std::max<int64_t>(due_us - SteadyNowUs(), 1);
  __kernel_timespec timeout = {.tv_sec = wait_us / 1'000'000,
                               .tv_nsec = wait_us % 1'000'000 * 1'000};
  io_uring_cqe* cqe = nullptr;
  return io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &timeout, nullptr);
}

void UringIo::RunDone() {
  running_.swap(done_);  // OnDone may submit, which never touches done_.
  for (Done& done : running_) {
    const uint8_t epoch = done.op->epoch_;
    done.op->OnDone(std::move(done.status));  // May destroy the op.
    drain_.Leave(epoch);
  }
  running_.clear();
}

void UringIo::Reap() {
  io_uring_cqe* cqe = nullptr;
  unsigned head = 0;
  unsigned count = 0;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    OnCompletion(cqe->user_data, cqe->res);
    ++count;
  }
  io_uring_cq_advance(&ring_, count);
}

void UringIo::OnCompletion(uint64_t user_data, int result) {
  if (user_data == kWakeUserData) {
    inbox_.ClearWake();
    wake_armed_ = false;
    return;
  }
  if (user_data == LIBURING_UDATA_TIMEOUT) return;
  const std::optional<uint32_t> completed = slots_.Completed(user_data);
  if (!completed.has_value()) return counters_.CountUnknown();
  const uint32_t index = *completed;
  const RingSlots::Slot& slot = slots_[index];
  const int64_t now_us = result < 0 ? SteadyNowUs() : 0;
  IoTransfer::Verdict verdict = IoTransfer::Apply(*slot.op, slot.file, result, now_us);
  if (verdict.next == IoTransfer::Next::kDone) return Finish(index, std::move(verdict.status));
  if (!broken_.ok()) return Finish(index, broken_);
  counters_.CountRetry();
  if (verdict.next == IoTransfer::Next::kContinue) {
    continued_.push_back(index);
  } else {
    retries_.push_back({.due_us = now_us + verdict.delay_us, .slot = index});
  }
}

void UringIo::Finish(uint32_t index, absl::Status status) {
  IoOp* const op = slots_.Release(index);
  if (status.ok()) counters_.CountDone(op->kind, op->bytes_total_);
  done_.push_back({op, std::move(status)});
}

// The kernel takes requests no longer, as under a seccomp filter installed after Open. What it has
// not taken fails, now and from here on; what it has is waited for, since it owns that memory.
void UringIo::Break(int error) {
  broken_ = UringRefused("io_uring_enter", error);
  Log(absl::StrCat("io_uring stopped working; every I/O fails from here on: ",
                   std::string(broken_.message())));
  const uint32_t taken = io_uring_smp_load_acquire(ring_.sq.khead);
  for (uint32_t index = 0; index < slots_.size(); ++index) {
    const RingSlots::Slot& slot = slots_[index];
    if (slot.op == nullptr) continue;
    // The indexes wrap: what counts is their distance.
    const bool in_kernel = slot.submitted && static_cast<int32_t>(slot.sqe_index - taken) < 0;
    if (in_kernel) continue;
    slots_.Retract(index);
    Finish(index, broken_);
  }
  continued_.clear();
  retries_.clear();
}

// Without io_uring_enter: completions may still appear in the shared memory.
void UringIo::WaitBroken() {
  if (!done_.empty() || io_uring_cq_ready(&ring_) > 0 || !inbox_.MaySleep(queue_.empty())) return;
  pollfd wake = {.fd = inbox_.wake_fd(), .events = POLLIN, .revents = 0};
  poll(&wake, 1, 10);
  inbox_.ClearWake();
}

absl::Status UringIo::RegisterParts(absl::Span<std::byte> memory) {
  if (!has_buffer_table_) return absl::OkStatus();
  absl::StatusOr<std::vector<FixedMemory::Part>> parts = fixed_memory_.Add(memory);
  if (!parts.ok()) return parts.status();
  for (const FixedMemory::Part& part : *parts) {
    const iovec piece = {.iov_base = part.begin, .iov_len = part.size};
    const int result = io_uring_register_buffers_update_tag(&ring_, part.slot, &piece, nullptr, 1);
    if (result == 1) continue;
    UnregisterParts(memory).IgnoreError();
    const std::string message = absl::StrCat("io_uring cannot pin ", FormatBytes(memory.size()),
                                             " of memory: ", ErrnoText(-result));
    return absl::UnavailableError(result == -ENOMEM ? absl::StrCat(message, ": ", MemlockAdvice())
                                                    : message);
  }
  return absl::OkStatus();
}

absl::Status UringIo::UnregisterParts(absl::Span<std::byte> memory) {
  if (!has_buffer_table_) return absl::OkStatus();
  const std::vector<FixedMemory::Part> parts = fixed_memory_.Remove(memory);
  if (parts.empty()) return absl::NotFoundError("UnregisterMemory: not a registered region");
  for (const FixedMemory::Part& part : parts) {
    const iovec none = {};
    io_uring_register_buffers_update_tag(&ring_, part.slot, &none, nullptr, 1);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<AsyncIo>> OpenUringIo(const AsyncIo::Options& options) {
  auto io = std::make_unique<UringIo>(options);
  if (absl::Status status = io->Start(); !status.ok()) return status;
  return io;
}

}  // namespace cairn
