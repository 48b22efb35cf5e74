#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/async_io.h"
#include "io/io_drain.h"
#include "io/io_engines.h"
#include "io/io_files.h"
#include "io/io_queue.h"
#include "io/io_result.h"
#include "io/io_window.h"
#include "src/base/mutex.h"
#include "src/base/start_thread.h"

namespace cairn {

// An op of the usual size keeps one thread.
constexpr uint64_t kBytesOfThread = uint64_t{1} << 20;

// A pool of threads; each takes the next op, carries it out with blocking calls and runs its
// OnDone. The threads bound what is in flight, besides bytes_in_flight_max.
class PosixIo final : public AsyncIo {
 public:
  explicit PosixIo(const Options& options)
      : polling_wanted_(options.completion_polling ||
                        options.submission_polling > absl::ZeroDuration()),
        files_(options.files_max),
        window_(std::min(options.bytes_in_flight_max, options.threads * kBytesOfThread)) {}
  ~PosixIo() override;

  absl::Status Start(uint32_t threads);

  absl::StatusOr<int> AddFile(int fd) override {
    MutexLock lock(mutex_);
    return files_.Add(fd);
  }
  void RemoveFile(int file) override {
    MutexLock lock(mutex_);
    files_.Remove(file);
  }
  absl::Status RegisterMemory(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status UnregisterMemory(absl::Span<std::byte>) override { return absl::OkStatus(); }
  void Submit(absl::Span<IoOp* const> ops) override;
  void RegardRaised() override;
  void Drain() override { drain_.Wait(); }
  IoStats stats() const override { return counters_.Read(); }
  IoPolling polling() const override {
    return {.refusal = polling_wanted_ ? "only io_uring polls, and the engine is posix" : ""};
  }
  const char* name() const override { return "posix"; }

 private:
  struct Taken {
    IoOp* op = nullptr;  // nullptr: the engine is closing and has no more.
    IoFiles::File file;
    absl::Status status;  // Not OK: nothing to carry out.
  };

  void Work();
  Taken Take();
  absl::Status Transfer(IoOp& op, const IoFiles::File& file);

  const bool polling_wanted_;
  IoCounters counters_;
  IoDrain drain_;

  Mutex mutex_;
  CondVar may_take_;  // Or closing.
  IoQueue queue_ ABSL_GUARDED_BY(mutex_);
  IoFiles files_ ABSL_GUARDED_BY(mutex_);
  IoWindow window_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;

  std::vector<std::jthread> threads_;
};

PosixIo::~PosixIo() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
  }
  may_take_.NotifyAll();
  threads_.clear();
}

absl::Status PosixIo::Start(uint32_t threads) {
  threads_.reserve(threads);
  while (threads_.size() < threads) {
    std::jthread thread;
    absl::Status status = StartThread(thread, "cairn-io", [this] { Work(); });
    if (!status.ok()) return status;
    threads_.push_back(std::move(thread));
  }
  return absl::OkStatus();
}

void PosixIo::Submit(absl::Span<IoOp* const> ops) {
  const uint8_t epoch = drain_.Enter(ops.size());
  for (IoOp* op : ops) IoTransfer::Begin(*op, epoch);
  {
    MutexLock lock(mutex_);
    for (IoOp* op : ops) {
      if (closing_) IoTransfer::Refuse(*op);
      queue_.Push(op);
    }
  }
  ops.size() == 1 ? may_take_.NotifyOne() : may_take_.NotifyAll();
}

void PosixIo::RegardRaised() {
  {
    MutexLock lock(mutex_);
    queue_.RegardRaised();
  }
  may_take_.NotifyOne();
}

void PosixIo::Work() {
  while (true) {
    Taken taken = Take();
    if (taken.op == nullptr) return;
    IoOp* const op = taken.op;
    const uint64_t bytes = op->bytes_total_;
    const uint8_t epoch = op->epoch_;
    if (taken.status.ok()) taken.status = Transfer(*op, taken.file);
    if (taken.status.ok()) counters_.CountDone(op->kind, bytes);
    bool another = false;
    {
      MutexLock lock(mutex_);
      window_.GiveBack(*op);
      another = window_.MayTake(queue_);
    }
    // The device is to have its next request before OnDone keeps this thread.
    if (another) may_take_.NotifyOne();
    op->OnDone(std::move(taken.status));  // May destroy the op.
    drain_.Leave(epoch);
  }
}

PosixIo::Taken PosixIo::Take() {
  Taken taken;
  bool another = false;
  {
    MutexLock lock(mutex_);
    while ((taken.op = window_.Take(queue_)) == nullptr) {
      if (closing_ && queue_.empty()) {
        may_take_.NotifyAll();  // Those who waited for room while this was not yet empty.
        return taken;
      }
      may_take_.Wait(mutex_);
    }
    const IoFiles::File* file = files_.Find(taken.op->file);
    taken.status = IoTransfer::Check(*taken.op, file);
    if (taken.status.ok()) taken.file = *file;
    another = window_.MayTake(queue_);
  }
  // A notification may have gone to a thread while the bytes in flight forbade it to take more.
  if (another) may_take_.NotifyOne();
  return taken;
}

absl::Status PosixIo::Transfer(IoOp& op, const IoFiles::File& file) {
  while (true) {
    const absl::Span<const iovec> rest = IoTransfer::Rest(op);
    const int count = static_cast<int>(rest.size());
    const off_t offset = static_cast<off_t>(IoTransfer::RestOffset(op));
    int64_t result = 0;
    switch (op.kind) {
      case IoOp::Kind::kRead:
        result = preadv(file.fd, rest.data(), count, offset);
        break;
      case IoOp::Kind::kWrite:
        result = pwritev(file.fd, rest.data(), count, offset);
        break;
      case IoOp::Kind::kSync:
        result = fdatasync(file.fd);
        break;
    }
    if (result < 0) result = -errno;
    IoTransfer::Verdict verdict = IoTransfer::Apply(op, file, result, SteadyNowUs());
    if (verdict.next == IoTransfer::Next::kDone) return std::move(verdict.status);
    counters_.CountRetry();
    if (verdict.next == IoTransfer::Next::kRetry) {
      std::this_thread::sleep_for(std::chrono::microseconds(verdict.delay_us));
    }
  }
}

absl::StatusOr<std::unique_ptr<AsyncIo>> OpenPosixIo(const AsyncIo::Options& options) {
  auto io = std::make_unique<PosixIo>(options);
  if (absl::Status status = io->Start(options.threads); !status.ok()) return status;
  return io;
}

}  // namespace cairn
