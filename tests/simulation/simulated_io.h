#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/async_io.h"
#include "io/io_drain.h"
#include "src/base/mutex.h"
#include "src/base/thread.h"
#include "tests/simulation/fiber_schedule.h"
#include "tests/simulation/random.h"
#include "tests/simulation/simulated_disk.h"

namespace cairn {

// What the device does wrong. Each request is struck with a chance of one in `one_in`; 0: never.
struct IoFaults {
  uint64_t one_in = 0;
  bool fails = false;  // Reports an error, having moved all, some or nothing.
  bool lies = false;   // Reports success, having lost, torn, misdirected or flipped something.
  uint64_t slow_one_in = 0;  // Takes up to three seconds.
  // One in so many flushes fails; 0: none. Each takes a data file from the store.
  uint64_t flush_fails_one_in = 0;
};

// An engine over the simulated disk: requests are carried out in any order, each after a while,
// partly when they are submitted and the rest when they end.
class SimulatedIo final : public AsyncIo {
 public:
  SimulatedIo(FiberSchedule* schedule, SimulatedDisk* disk, const IoFaults* faults, uint64_t seed);
  ~SimulatedIo() override;

  absl::StatusOr<int> AddFile(int fd) override;
  void RemoveFile(int /*file*/) override {}
  absl::Status RegisterMemory(absl::Span<std::byte> /*memory*/) override {
    return absl::OkStatus();
  }
  absl::Status UnregisterMemory(absl::Span<std::byte> /*memory*/) override {
    return absl::OkStatus();
  }
  void Submit(absl::Span<IoOp* const> ops) override;
  void Drain() override { drain_.Wait(); }
  IoStats stats() const override { return stats_; }
  const char* name() const override { return "simulated"; }

  // As fdatasync.
  int Flush(int fd);

  // The moment of a crash: what is under way is carried out in part, and from here on nothing
  // reaches the disk any more and every request fails.
  void CutOff();

 private:
  enum class Fault : uint8_t { kNone, kFail, kLose, kTear, kMisdirect, kFlipRead, kFlipMedium };
  struct Request {
    IoOp* op = nullptr;
    uint8_t epoch = 0;
    Schedule::Time due;
    Fault fault = Fault::kNone;
    uint64_t where = 0;
  };

  void Work();
  Fault Strike(const IoOp& op);
  Schedule::Time Due();
  // Moves the blocks of the op for which `number % of == part`.
  void Move(const Request& request, uint64_t part, uint64_t of);
  static void Spoil(const IoOp& op);
  absl::Status CarryOut(const Request& request);
  void Count(const IoOp& op);

  FiberSchedule* const schedule_;
  SimulatedDisk* const disk_;
  const IoFaults* const faults_;
  Random random_;
  std::vector<int> files_;  // Descriptors.
  bool gone_ = false;
  IoStats stats_;
  IoDrain drain_;

  Mutex mutex_;
  CondVar changed_;
  std::vector<Request> requests_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::unique_ptr<Thread>> threads_;
};

}  // namespace cairn
