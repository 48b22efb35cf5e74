#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "src/base/mutex.h"
#include "src/evictor.h"
#include "src/spill.h"

namespace cairn {

// Gathers small tensors on their way to L3 into packs: one table, one write for many. A pack is
// closed when it is full, or when no other is being written, so a tensor that comes alone is not
// held up and a stream of them shares writes as wide as the device is slow. Thread-safe; its lock
// ranks above the directory's stripes.
class Packer {
 public:
  // All must outlive this.
  Packer(const SpillContext* context, Evictor* evictor);
  ~Packer();

  static bool Takes(uint64_t payload_bytes);

  // Finds room on L3, lists the entry unless it is to be listed when it is written, and sees to
  // its spill. kResourceExhausted at the deadline: then nothing was done and the entry is the
  // caller's still.
  struct Tensor {
    std::unique_ptr<Entry> entry;
    absl::InlinedVector<ConstPiece, 1> pieces;
    bool list_when_written = false;
    bool flush = false;
  };
  absl::Status Add(Tensor& tensor, Deadline deadline) ABSL_LOCKS_EXCLUDED(mutex_);

  // Between the two more tensors come at once: a pack is closed only when it is full.
  void Cork() ABSL_LOCKS_EXCLUDED(mutex_);
  void Uncork() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // A run of L3 that tensors are being given places in; the table will come behind the last.
  struct OpenPack {
    Extent run;
    uint64_t payload_bytes = 0;  // In whole blocks.
    uint64_t members_bytes = 0;  // In the table.
    Retention retention = Retention::kCache;
    std::unique_ptr<PackExtent> extent;
    std::vector<SpillTensor> tensors;
  };
  uint64_t TableBytes(uint64_t members_bytes) const;
  bool Fits(const OpenPack& pack, const Entry& entry) const;
  void Place(Tensor& tensor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Open(const Entry& entry, Deadline deadline) ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes the open pack if it is time to write it.
  std::unique_ptr<OpenPack> TakeIfIdle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::unique_ptr<OpenPack> Take() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Write(std::unique_ptr<OpenPack> pack) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnWritten() ABSL_LOCKS_EXCLUDED(mutex_);

  // Constant.
  const SpillContext* const context_;
  Evictor* const evictor_;
  const uint64_t run_bytes_;

  Mutex mutex_;
  std::unique_ptr<OpenPack> open_ ABSL_GUARDED_BY(mutex_);
  uint32_t writing_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t corks_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace cairn
