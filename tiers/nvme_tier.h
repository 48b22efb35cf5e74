#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/async_io.h"
#include "io/store_files.h"
#include "src/base/mutex.h"
#include "tiers/allocator.h"
#include "tiers/fragmentation.h"
#include "tiers/movable_space.h"
#include "tiers/read_rate.h"
#include "tiers/spread_allocator.h"

namespace cairn {

// The table of a pack, which its members hold together: free when the last of them is.
struct PackExtent {
  Extent table;
  std::atomic<uint32_t> members = 0;
  bool kept = false;  // Of tensors that are to be kept. Constant once one of them is listed.
};

// L3: extents of the data files, and the requests that reach them. Extents are whole 4096-byte
// blocks and never cross files. Where the files lie in several folders, on a drive each, extents
// are taken from them turn about by their weights: what is written one after another, and read so
// again, is spread over all drives. Thread-safe.
class NvmeTier final : public MovableSpace {
 public:
  // `in_use`, sorted by offset, is what the index says is taken; the rest is free, so nothing that
  // a crash left behind takes space. Files that could not be opened are never used. `files` and
  // `io` must outlive this.
  static absl::StatusOr<std::unique_ptr<NvmeTier>> Create(const StoreFiles* files, AsyncIo* io,
                                                          absl::Span<const Extent> in_use);

  // As much as there is in one run, `bytes_max` at most. kResourceExhausted when no free run has
  // `bytes_min` now; kUnavailable when no file that is not given up could ever have it.
  absl::StatusOr<Extent> ReserveUpTo(uint64_t bytes_max, uint64_t bytes_min)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // As much as that, instead of an extent at `offset`: on another drive, where one has it.
  absl::StatusOr<Extent> ReserveElsewhere(uint64_t bytes, uint64_t offset)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // For what lies at `offset` and is to lie elsewhere: on the same drive where that has room.
  absl::StatusOr<Extent> ReserveBeside(uint64_t bytes, uint64_t offset) ABSL_LOCKS_EXCLUDED(mutex_);
  void Release(Extent extent) ABSL_LOCKS_EXCLUDED(mutex_);
  // Of a tensor in a pack, if `pack` is not null, which dies with its last member: then the bytes
  // of its table, else 0.
  uint64_t Release(Extent extent, PackExtent* pack) ABSL_LOCKS_EXCLUDED(mutex_);
  // A write to this reserved extent failed: when it is released it is quarantined, out of use for
  // as long as this lives or until what came later fills the 1/64 of L3 that may be. An extent that
  // is larger by itself is not.
  void Distrust(Extent extent) ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes extents of a reserved run: cut at each of these sizes, in order; what is left over is
  // one more.
  void Split(Extent run, absl::Span<const uint64_t> sizes) ABSL_LOCKS_EXCLUDED(mutex_);

  // Takes a data file out of use: nothing more is reserved in it. What lies there is read on.
  void GiveUp(size_t file) ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether the file with this offset is not given up.
  bool InUse(uint64_t offset) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Reserved in a file that was given up.
  uint64_t GivenUpBytesUsed(size_t file) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Points the op at `offset` of L3.
  void Locate(uint64_t offset, IoOp* op) const;
  // What became of it, and IoOp::service_us.
  void Ended(uint64_t offset, const absl::Status& status, int64_t service_us);

  // Of the requests to the data files of one folder.
  struct DriveFigures {
    uint64_t requests = 0;
    uint64_t errors = 0;      // Of those: the device refused.
    uint64_t service_us = 0;  // IoOp::service_us of all.
  };
  DriveFigures drive_figures(size_t folder) const;
  // Of the extents of one folder. Without what is free in files that were given up.
  struct DriveBytes {
    uint64_t max = 0;
    uint64_t used = 0;
  };
  DriveBytes drive_bytes(size_t folder) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Is told of every read, of all drives together.
  ReadRate& reads() { return reads_; }
  AsyncIo& io() const { return *io_; }

  // Whether the range is in whole blocks inside one usable file, past its header.
  bool Contains(Extent extent) const { return Contains(*files_, extent); }
  static bool Contains(const StoreFiles& files, Extent extent);

  // The longest extent that could ever be reserved, with all files in use.
  uint64_t extent_bytes_max() const { return extent_bytes_max_; }
  uint64_t bytes_max() const ABSL_LOCKS_EXCLUDED(mutex_);   // Without what is out of use.
  uint64_t bytes_used() const ABSL_LOCKS_EXCLUDED(mutex_);  // As bytes_max.
  uint64_t bytes_quarantined() const ABSL_LOCKS_EXCLUDED(mutex_);
  // With what is withheld, which comes back in a moment.
  uint64_t bytes_free() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t bytes_withheld() const ABSL_LOCKS_EXCLUDED(mutex_);
  Fragmentation fragmentation() const ABSL_LOCKS_EXCLUDED(mutex_);
  const SizeMix& mix() const { return mix_; }

  // ---- As MovableSpace (nvme_ranges.cc): windows lie within one file that is in use ----
  uint64_t end() const override { return offset_end_; }
  uint64_t unit_bytes() const override { return kBlockBytes; }
  absl::StatusOr<Extent> Allocate(uint64_t bytes) override { return ReserveUpTo(bytes, bytes); }
  Extent Widen(Extent range) const override { return range; }
  Extent WindowFor(uint64_t bytes, uint64_t offset) const override ABSL_LOCKS_EXCLUDED(mutex_);
  void ForEachFree(Extent range, absl::FunctionRef<void(Extent)> visit) const override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void ForEachAllocated(Extent range, absl::FunctionRef<void(Extent)> visit) const override
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool Withhold(Extent range) override ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t withheld_bytes(Extent range) const override ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<Extent> withheld_ranges() const override ABSL_LOCKS_EXCLUDED(mutex_);
  void Restore(Extent range) override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<Extent> RestoreAndAllocate(Extent range, uint64_t bytes) override
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct alignas(64) DriveCounters {
    std::atomic<uint64_t> requests = 0;
    std::atomic<uint64_t> errors = 0;
    std::atomic<uint64_t> service_us = 0;
  };

  NvmeTier(const StoreFiles* files, AsyncIo* io, std::vector<int> io_files,
           std::vector<std::unique_ptr<ExtentAllocator>> allocators, uint64_t extent_bytes_max);
  size_t FileOf(uint64_t offset) const { return offset / file_bytes_; }
  absl::StatusOr<Extent> ReserveLocked(uint64_t bytes_max, uint64_t bytes_min,
                                       std::optional<size_t> folder_avoided)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReleaseLocked(Extent extent) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant. Extents may be released when the files are closed already.
  const StoreFiles* const files_;
  const uint64_t file_bytes_;
  AsyncIo* const io_;
  const std::vector<int> io_files_;
  const std::vector<uint32_t> folder_of_;  // By file.
  const uint64_t extent_bytes_max_;
  const uint64_t offset_end_;
  uint64_t quarantined_bytes_max_ = 0;

  std::vector<DriveCounters> drive_counters_;  // By folder.

  // Provide their own synchronization.
  ReadRate reads_;
  SizeMix mix_;
  mutable Mutex mutex_;
  SpreadAllocator allocator_ ABSL_GUARDED_BY(mutex_);
  std::vector<bool> given_up_ ABSL_GUARDED_BY(mutex_);                // By file.
  uint64_t extent_bytes_in_use_max_ ABSL_GUARDED_BY(mutex_);          // Of the files that are not.
  absl::flat_hash_set<uint64_t> distrusted_ ABSL_GUARDED_BY(mutex_);  // Offsets of extents.
  std::deque<Extent> quarantined_ ABSL_GUARDED_BY(mutex_);            // The oldest first.
  uint64_t quarantined_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace cairn
