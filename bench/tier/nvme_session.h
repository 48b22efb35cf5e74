#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "bench/tier/job.h"
#include "bench/tier/session.h"
#include "io/async_io.h"
#include "io/store_files.h"
#include "src/base/mutex.h"

namespace cairn::bench {

// The parts a transfer goes to the engine in.
inline constexpr uint64_t kPartBytes = uint64_t{1} << 20;
inline uint64_t PartsOf(uint64_t bytes) { return (bytes + kPartBytes - 1) / kPartBytes; }

// Where a job's blocks are: each at a multiple of its size in its file, the first place of a file
// left out because the file's header is there.
class Places {
 public:
  struct Place {
    size_t file = 0;
    uint64_t offset = 0;
  };

  Places(const StoreFiles& files, uint64_t slot_bytes);

  uint64_t total() const { return total_; }
  Place Of(uint64_t unit) const;
  // How many files hold the first `units` blocks.
  size_t FilesFor(uint64_t units) const { return units == 0 ? 0 : Of(units - 1).file + 1; }

 private:
  const uint64_t slot_bytes_;
  std::vector<uint64_t> counts_;  // By file.
  uint64_t total_ = 0;
};

// The engine and the files that the sessions of a target share.
struct NvmeShared {
  std::unique_ptr<StoreFiles> files;  // Null for engine=null.
  std::unique_ptr<AsyncIo> io;        // Behind the files: it goes first.
  std::vector<int> io_files;
};

// tier=nvme of one thread.
class NvmeSession : public Session {
 public:
  NvmeSession(SlotMemory memory, const NvmeShared& shared, const Job& job);
  ~NvmeSession() override;

  void Begin(absl::Span<const Request> requests) override;
  void Reap(std::vector<Ended>& ended) override ABSL_LOCKS_EXCLUDED(mutex_);
  void Fill(const Request& request) override;
  std::optional<uint64_t> FirstDifference(const Request& request) const override;

  bool registered() const { return registered_; }

 private:
  class Part : public IoOp {
   public:
    NvmeSession* session = nullptr;
    size_t slot = 0;
    void OnDone(absl::Status status) override;
  };
  // The counts and statuses change under the lock while parts are out; else the session's thread
  // has the slot to itself.
  struct Slot {
    std::vector<Part> parts;
    size_t parts_left = 0;
    absl::Status status;
  };

  Places::Place PlaceOf(uint64_t unit) const;
  uint64_t L3OffsetOf(uint64_t unit) const;
  void Prepare(const Request& request);
  void PrepareSync(Slot& slot);
  void PartDone(size_t slot, absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);

  const NvmeShared& shared_;
  std::optional<Places> places_;  // None for engine=null.
  bool registered_ = false;
  size_t written_file_ = 0;
  std::vector<Slot> slots_;
  std::vector<IoOp*> submitted_;

  Mutex mutex_;
  CondVar changed_;
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Ended> ended_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn::bench
