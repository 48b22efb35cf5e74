#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/async_io.h"
#include "io/io_engines.h"
#include "io/io_refusal.h"
#include "io/ring.h"
#include "io/ring_io.h"

namespace cairn {
namespace {

// The kernel's io_uring.
class Uring final : public Ring {
 public:
  absl::Status Open(const Setup& setup) override;
  void Close() override;
  uint32_t depth() const override { return depth_; }

  int MakeFileTable(uint32_t size) override;
  int MakeBufferTable(uint32_t size) override;
  int SetFile(uint32_t index, int fd) override;
  int SetBuffer(uint32_t index, const iovec& memory) override;

  std::optional<uint32_t> Prepare(const Request& request) override;
  bool PrepareWake() override;
  bool has_room() const override { return io_uring_sq_space_left(&ring_) > 0; }
  uint32_t taken() override;

  int Submit() override { return io_uring_submit(&ring_); }
  int SubmitAndWait(int64_t timeout_us) override;
  void Reap(std::vector<Completion>& completions) override;

 private:
  int Make(const Setup& setup);
  absl::Status Probe();
  bool KernelThreadSleeps() const {
    return (io_uring_smp_load_acquire(ring_.sq.kflags) & IORING_SQ_NEED_WAKEUP) != 0;
  }

  io_uring ring_ = {};
  int wake_fd_ = -1;
  uint32_t depth_ = 0;
  bool has_file_table_ = false;
  bool has_buffer_table_ = false;
};

// Besides the ops: the wake request, and a timeout that liburing adds on old kernels.
constexpr uint32_t kExtraEntries = 2;

absl::Status Uring::Open(const Setup& setup) {
  wake_fd_ = setup.wake_fd;
  const bool polls_submissions = setup.submission_idle_ms != 0;
  int result = Make(setup);
  if (result == 0 && polls_submissions && (ring_.features & IORING_FEAT_SQPOLL_NONFIXED) == 0) {
    io_uring_queue_exit(&ring_);
    result = -EINVAL;
  }
  if (result < 0 && setup.polls_completions) {
    return absl::UnavailableError(CompletionPollingRefusal(-result));
  }
  if (result < 0 && polls_submissions) {
    return absl::UnavailableError(SubmissionPollingRefusal(-result));
  }
  if (result < 0) return UringRefused("io_uring_setup", -result);
  // What the probe reads cannot be polled for.
  if (absl::Status status = setup.polls_completions ? absl::OkStatus() : Probe(); !status.ok()) {
    io_uring_queue_exit(&ring_);
    return status;
  }
  // A child of fork() must not write into our ring.
  io_uring_ring_dontfork(&ring_);
  // The completion ring has twice the entries, so that it never overflows.
  depth_ = std::min(setup.depth, ring_.sq.ring_entries - kExtraEntries);
  return absl::OkStatus();
}

// 0, or minus an errno.
int Uring::Make(const Setup& setup) {
  // Linux 6.1; 5.19; 5.6. A kernel that lacks a flag, or a pair of them, answers EINVAL. A thread
  // of the kernel's that submits has no task of ours to defer work to.
  constexpr unsigned kOwn[] = {
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
      IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL, 0};
  constexpr unsigned kKernels[] = {
      IORING_SETUP_SQPOLL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_SUBMIT_ALL,
      IORING_SETUP_SQPOLL | IORING_SETUP_SUBMIT_ALL, IORING_SETUP_SQPOLL};
  constexpr uint32_t kEntriesMax = 32768;
  const uint32_t entries = std::min(setup.depth, kEntriesMax - kExtraEntries) + kExtraEntries;
  int result = -EINVAL;
  for (const unsigned flags : setup.submission_idle_ms != 0 ? kKernels : kOwn) {
    io_uring_params params = {};
    params.flags = flags | IORING_SETUP_CLAMP;
    if (setup.polls_completions) params.flags |= IORING_SETUP_IOPOLL;
    params.sq_thread_idle = setup.submission_idle_ms;
    result = io_uring_queue_init_params(entries, &ring_, &params);
    if (result != -EINVAL) break;
  }
  return result;
}

// Whether a request completes: a sandbox may allow to make a ring and no more.
absl::Status Uring::Probe() {
  eventfd_write(wake_fd_, 1);
  uint64_t value = 0;
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  io_uring_prep_read(sqe, wake_fd_, &value, sizeof(value), 0);
  int result = -EINTR;
  while (result == -EINTR || result == -EAGAIN) result = io_uring_submit_and_wait(&ring_, 1);
  if (result < 0) return UringRefused("io_uring_enter", -result);
  io_uring_cqe* cqe = nullptr;
  result = -EINTR;
  while (result == -EINTR || result == -EAGAIN) result = io_uring_wait_cqe(&ring_, &cqe);
  if (result < 0) return UringRefused("io_uring_enter", -result);
  result = cqe->res;
  io_uring_cqe_seen(&ring_, cqe);
  return result < 0 ? UringRefused("IORING_OP_READ", -result) : absl::OkStatus();
}

// The kernel's own thread (SQPOLL) takes what it is shown at any moment, until it sleeps; what it
// was shown too late for that is hidden from it again, as nobody can wake it any more.
uint32_t Uring::taken() {
  constexpr int kSleepsMs = 100;  // So long seen asleep it is not about to look once more.
  unsigned head = io_uring_smp_load_acquire(ring_.sq.khead);
  if ((ring_.flags & IORING_SETUP_SQPOLL) == 0) return head;
  for (int asleep_ms = 0; head != *ring_.sq.ktail && asleep_ms < kSleepsMs;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    asleep_ms = KernelThreadSleeps() ? asleep_ms + 1 : 0;
    head = io_uring_smp_load_acquire(ring_.sq.khead);
  }
  io_uring_smp_store_release(ring_.sq.ktail, head);
  return head;
}

void Uring::Close() {
  // The kernel takes a ring apart after we have left; files and memory are to be free by then.
  if (has_file_table_) io_uring_unregister_files(&ring_);
  if (has_buffer_table_) io_uring_unregister_buffers(&ring_);
  io_uring_queue_exit(&ring_);
}

int Uring::MakeFileTable(uint32_t size) {
  const int result = io_uring_register_files_sparse(&ring_, size);
  has_file_table_ = result == 0;
  return result;
}

int Uring::MakeBufferTable(uint32_t size) {
  const int result = io_uring_register_buffers_sparse(&ring_, size);
  has_buffer_table_ = result == 0;
  return result;
}

int Uring::SetFile(uint32_t index, int fd) {
  return std::min(io_uring_register_files_update(&ring_, index, &fd, 1), 0);
}

int Uring::SetBuffer(uint32_t index, const iovec& memory) {
  return std::min(io_uring_register_buffers_update_tag(&ring_, index, &memory, nullptr, 1), 0);
}

std::optional<uint32_t> Uring::Prepare(const Request& request) {
  const uint32_t sequence = ring_.sq.sqe_tail;
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  if (sqe == nullptr) return std::nullopt;
  const bool is_read = request.kind == IoOp::Kind::kRead;
  const int fd = request.fd;
  const uint64_t offset = request.offset;
  if (request.kind == IoOp::Kind::kSync) {
    io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
  } else if (request.pieces.size() > 1) {
    const unsigned count = static_cast<unsigned>(request.pieces.size());
    is_read ? io_uring_prep_readv(sqe, fd, request.pieces.data(), count, offset)
            : io_uring_prep_writev(sqe, fd, request.pieces.data(), count, offset);
  } else {
    void* const base = request.pieces[0].iov_base;
    const unsigned size = static_cast<unsigned>(request.pieces[0].iov_len);
    const int buffer = request.fixed_buffer;
    if (buffer >= 0) {
      is_read ? io_uring_prep_read_fixed(sqe, fd, base, size, offset, buffer)
              : io_uring_prep_write_fixed(sqe, fd, base, size, offset, buffer);
    } else {
      is_read ? io_uring_prep_read(sqe, fd, base, size, offset)
              : io_uring_prep_write(sqe, fd, base, size, offset);
    }
  }
  if (request.is_fixed_file) io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
  io_uring_sqe_set_data64(sqe, request.name);
  return sequence;
}

bool Uring::PrepareWake() {
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  if (sqe == nullptr) return false;
  io_uring_prep_poll_add(sqe, wake_fd_, POLLIN);
  io_uring_sqe_set_data64(sqe, kWakeName);
  return true;
}

int Uring::SubmitAndWait(int64_t timeout_us) {
  if (timeout_us < 0) return io_uring_submit_and_wait(&ring_, 1);
  __kernel_timespec timeout = {.tv_sec = timeout_us / 1'000'000,
                               .tv_nsec = timeout_us % 1'000'000 * 1'000};
  io_uring_cqe* cqe = nullptr;
  const int result = io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &timeout, nullptr);
  return result == -ETIME ? 0 : result;
}

void Uring::Reap(std::vector<Completion>& completions) {
  io_uring_cqe* cqe = nullptr;
  unsigned head = 0;
  unsigned count = 0;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    ++count;
    if (cqe->user_data == LIBURING_UDATA_TIMEOUT) continue;
    completions.push_back({.name = cqe->user_data, .result = cqe->res});
  }
  io_uring_cq_advance(&ring_, count);
}

}  // namespace

absl::StatusOr<std::unique_ptr<AsyncIo>> OpenUringIo(const AsyncIo::Options& options) {
  return RingIo::Open(options, std::make_unique<Uring>(),
                      options.completion_polling ? std::make_unique<Uring>() : nullptr);
}

}  // namespace cairn
