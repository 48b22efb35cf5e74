#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/async_io.h"
#include "io/store_files.h"
#include "src/base/mutex.h"
#include "tiers/allocator.h"

namespace cairn {

// The table of a pack, which its members hold together: free when the last of them is.
struct PackExtent {
  Extent table;
  std::atomic<uint32_t> members = 0;
  bool kept = false;  // Of tensors that are to be kept. Constant once there are members.
};

// L3: extents of the data files, and the requests that reach them. Extents are whole 4096-byte
// blocks and never cross files. Where the files lie in several folders, on a drive each, extents
// are taken from them turn about: what is written one after another, and read so again, is spread
// over all drives. Thread-safe.
class NvmeTier {
 public:
  // `in_use`, sorted by offset, is what the index says is taken; the rest is free, so nothing that
  // a crash left behind takes space. Files that could not be opened are never used. `files` and
  // `io` must outlive this.
  static absl::StatusOr<std::unique_ptr<NvmeTier>> Create(const StoreFiles* files, AsyncIo* io,
                                                          absl::Span<const Extent> in_use);

  // As much as there is in one run, `bytes_max` at most. kResourceExhausted when no free run has
  // `bytes_min` now.
  absl::StatusOr<Extent> ReserveUpTo(uint64_t bytes_max, uint64_t bytes_min)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Release(Extent extent) ABSL_LOCKS_EXCLUDED(mutex_);
  // Of a tensor in a pack, if `pack` is not null, which dies with its last member: then the bytes
  // of its table, else 0.
  uint64_t Release(Extent extent, PackExtent* pack) ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes extents of a reserved run: cut at each of these sizes, in order; what is left over is
  // one more.
  void Split(Extent run, absl::Span<const uint64_t> sizes) ABSL_LOCKS_EXCLUDED(mutex_);

  // Points the op at `offset` of L3.
  void Locate(uint64_t offset, IoOp* op) const;
  AsyncIo& io() const { return *io_; }

  // Whether the range is in whole blocks inside one usable file, past its header.
  bool Contains(Extent extent) const { return Contains(*files_, extent); }
  static bool Contains(const StoreFiles& files, Extent extent);

  // The longest extent that could ever be reserved.
  uint64_t extent_bytes_max() const { return extent_bytes_max_; }
  uint64_t bytes_max() const { return bytes_max_; }
  uint64_t bytes_used() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t bytes_free() const { return bytes_max() - bytes_used(); }

 private:
  NvmeTier(const StoreFiles* files, AsyncIo* io, std::vector<int> io_files,
           std::vector<std::unique_ptr<Allocator>> allocators, uint64_t extent_bytes_max);

  Allocator& AllocatorOf(Extent extent) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant.
  const StoreFiles* const files_;
  AsyncIo* const io_;
  const std::vector<int> io_files_;
  const uint64_t extent_bytes_max_;
  uint64_t bytes_max_ = 0;

  mutable Mutex mutex_;
  // One for each folder, all over the one address space: what is of others is reserved in it.
  const std::vector<std::unique_ptr<Allocator>> allocators_ ABSL_GUARDED_BY(mutex_);
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;  // Of allocators_: whose turn it is.
};

}  // namespace cairn
