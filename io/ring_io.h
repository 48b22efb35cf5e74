#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/async_io.h"
#include "io/fixed_memory.h"
#include "io/io_drain.h"
#include "io/io_files.h"
#include "io/io_queue.h"
#include "io/io_result.h"
#include "io/io_window.h"
#include "io/ring.h"
#include "io/ring_inbox.h"
#include "io/ring_lane.h"
#include "io/ring_slots.h"
#include "src/base/mutex.h"

namespace cairn {

// The engine over a Ring, or over two: one whose completions are polled for takes only reads and
// writes, so all else goes over the other, which wakes too. One thread owns the rings and does
// everything with it: only so may it be made with SINGLE_ISSUER and DEFER_TASKRUN, the kernel's
// fastest mode. Others leave ops and commands in an inbox, and wake the thread through an eventfd
// where it may be asleep.
//
// An op has a slot from the moment it is in flight until its last completion; only then does it
// go to OnDone. ThreadSanitizer does not see the kernel touch the op's memory, nor need it: the
// thread that submits is the one that reaps, and the inbox's mutex orders it after the submitter.
class RingIo final : public AsyncIo {
 public:
  // The rings are not open yet; `polled` is for Options::completion_polling, and may be null.
  // kUnavailable: `ring` could not be opened.
  static absl::StatusOr<std::unique_ptr<AsyncIo>> Open(const Options& options,
                                                       std::unique_ptr<Ring> ring,
                                                       std::unique_ptr<Ring> polled = nullptr);
  ~RingIo() override;

  absl::StatusOr<int> AddFile(int fd) override;
  void RemoveFile(int file) override;
  absl::Status RegisterMemory(absl::Span<std::byte> memory) override;
  absl::Status UnregisterMemory(absl::Span<std::byte> memory) override;
  void Submit(absl::Span<IoOp* const> ops) override;
  void RegardRaised() override { inbox_.RegardRaised(); }
  void Drain() override { drain_.Wait(); }
  IoStats stats() const override { return counters_.Read(); }
  IoPolling polling() const override ABSL_LOCKS_EXCLUDED(mutex_);
  const char* name() const override { return "uring"; }

 private:
  struct Done {
    IoOp* op;
    absl::Status status;
  };
  // Of a file's completions: a request tells.
  enum class FilePolling : uint8_t { kNo, kUntried, kYes };
  struct Retry {
    int64_t due_us;
    uint32_t slot;
  };

  RingIo(const Options& options, std::unique_ptr<Ring> ring, std::unique_ptr<Ring> polled);
  absl::Status Start();
  void RunOnRing(absl::FunctionRef<void()> work);

  // The ring's thread only.
  void Run();
  absl::Status OpenRings();
  absl::Status OpenOrdinary(Ring::Setup& setup);
  void OpenPolled(Ring::Setup setup);
  void MakeTables();
  void Loop();
  void TakeMail();
  bool Finished() const;
  void Fill();
  void StartOp(IoOp* op);
  bool Prepare(uint32_t index);
  bool MaySleep();
  void Enter();
  void Entered(RingLane& lane, int result);
  int64_t WaitUs() const;
  void RunDone();
  void Refill();
  void Reap();
  bool Reap(RingLane& lane);
  void OnCompletion(RingLane& lane, const Ring::Completion& completion);
  void Finish(uint32_t index, absl::Status status);
  void Break(int error);
  // One for each op, which may end its life on any thread: copies share a count of references
  // that ThreadSanitizer, in an Abseil not built for it, does not see.
  absl::Status Broken() const { return absl::Status(broken_.code(), broken_.message()); }
  void WaitBroken();
  absl::StatusOr<int> AddFileToRings(int fd);
  void RegisterPartsPolled(absl::Span<const FixedMemory::Part> parts);
  RingLane& LaneOf(const IoOp& op);
  bool polls() const { return polled_ != nullptr && polled_->in_flight() > 0; }
  FilePolling PollingOf(int file) const;
  bool TakesPolling(int file, int result);
  void SetPolling(int file, FilePolling polling) ABSL_LOCKS_EXCLUDED(mutex_);
  void RefusePolling(const std::string& why) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status RegisterParts(absl::Span<std::byte> memory);
  absl::Status UnregisterParts(absl::Span<std::byte> memory);
  void Log(const std::string& line) const {
    if (options_.log) options_.log(line);
  }

  const Options options_;
  IoCounters counters_;
  IoDrain drain_;
  RingInbox inbox_;

  mutable Mutex mutex_;
  CondVar has_started_;
  std::optional<absl::Status> started_ ABSL_GUARDED_BY(mutex_);
  IoPolling polling_ ABSL_GUARDED_BY(mutex_);

  // The ring's thread only.
  RingLane lane_;
  std::unique_ptr<RingLane> polled_;  // Null: no completion is polled for.
  IoFiles files_;
  std::vector<FilePolling> file_polling_;  // By id.
  FixedMemory fixed_memory_;
  IoQueue queue_;
  IoWindow window_;
  RingSlots slots_;
  std::deque<uint32_t> continued_;  // Slots whose rest is to be submitted at once,
  std::vector<Retry> retries_;      // and when due.
  std::vector<Ring::Completion> completions_;
  std::vector<Done> done_;
  std::vector<Done> running_;  // The ones of done_ whose OnDone runs; kept for its capacity.
  bool wake_armed_ = false;    // On lane_.
  bool closing_ = false;
  absl::Status broken_;  // Not OK: the rings take no more requests.

  std::jthread thread_;
};

}  // namespace cairn
