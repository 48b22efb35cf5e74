#include "tiers/nvme_tier.h"

#include <algorithm>
#include <utility>

#include "src/base/check.h"
#include "src/base/status_macros.h"
#include "tiers/extent_allocator.h"

namespace cairn {
namespace {

// What of the address space is never an extent of this folder: files in others, each file's header
// block, the end of a file that is shorter than the stride, and files that could not be opened.
std::vector<Extent> ReservedExtents(const StoreFiles& files, size_t folder) {
  std::vector<Extent> reserved;
  const uint64_t stride = files.data_file_bytes();
  for (size_t i = 0; i < files.files().size(); ++i) {
    const StoreFiles::File& file = files.files()[i];
    const uint64_t start = i * stride;
    const uint64_t end = std::min(start + stride, files.offset_end());
    if (file.fd < 0 || i % files.folders().size() != folder) {
      // The last may be one that could not be opened, and has no bytes then.
      if (end > start) reserved.push_back({start, end - start});
      continue;
    }
    reserved.push_back({start, kBlockBytes});
    const uint64_t bytes = file.bytes / kBlockBytes * kBlockBytes;
    if (start + bytes < end) reserved.push_back({start + bytes, end - start - bytes});
  }
  return reserved;
}

absl::StatusOr<std::vector<std::unique_ptr<Allocator>>> CreateAllocators(
    const StoreFiles& files, absl::Span<const Extent> in_use) {
  std::vector<std::vector<Extent>> in_use_of(files.folders().size());
  for (const Extent& extent : in_use) {
    in_use_of[extent.offset / files.data_file_bytes() % in_use_of.size()].push_back(extent);
  }
  std::vector<std::unique_ptr<Allocator>> allocators;
  for (size_t folder = 0; folder < in_use_of.size(); ++folder) {
    CAIRN_ASSIGN_OR_RETURN(
        std::unique_ptr<Allocator> allocator,
        ExtentAllocator::Create(files.offset_end(), kBlockBytes, ReservedExtents(files, folder),
                                in_use_of[folder]));
    allocators.push_back(std::move(allocator));
  }
  return allocators;
}

}  // namespace

bool NvmeTier::Contains(const StoreFiles& files, Extent extent) {
  if (extent.bytes == 0 || extent.offset % kBlockBytes != 0 || extent.bytes % kBlockBytes != 0) {
    return false;
  }
  const uint64_t file = extent.offset / files.data_file_bytes();
  if (file >= files.files().size() || files.files()[file].fd < 0) return false;
  const uint64_t start = extent.offset % files.data_file_bytes();
  const uint64_t bytes = files.files()[file].bytes;
  return start >= kBlockBytes && start <= bytes && extent.bytes <= bytes - start;
}

absl::StatusOr<std::unique_ptr<NvmeTier>> NvmeTier::Create(const StoreFiles* files, AsyncIo* io,
                                                           absl::Span<const Extent> in_use) {
  CAIRN_ASSIGN_OR_RETURN(std::vector<std::unique_ptr<Allocator>> allocators,
                         CreateAllocators(*files, in_use));
  std::vector<int> io_files;
  uint64_t extent_bytes_max = 0;
  for (const StoreFiles::File& file : files->files()) {
    io_files.push_back(-1);
    if (file.fd < 0) continue;
    CAIRN_ASSIGN_OR_RETURN(io_files.back(), io->AddFile(file.fd));
    extent_bytes_max =
        std::max(extent_bytes_max, file.bytes / kBlockBytes * kBlockBytes - kBlockBytes);
  }
  return std::unique_ptr<NvmeTier>(
      new NvmeTier(files, io, std::move(io_files), std::move(allocators), extent_bytes_max));
}

NvmeTier::NvmeTier(const StoreFiles* files, AsyncIo* io, std::vector<int> io_files,
                   std::vector<std::unique_ptr<Allocator>> allocators, uint64_t extent_bytes_max)
    : files_(files),
      io_(io),
      io_files_(std::move(io_files)),
      extent_bytes_max_(extent_bytes_max),
      allocators_(std::move(allocators)) {
  MutexLock lock(mutex_);
  for (const auto& allocator : allocators_) bytes_max_ += allocator->bytes_max();
}

Allocator& NvmeTier::AllocatorOf(Extent extent) {
  return *allocators_[extent.offset / files_->data_file_bytes() % allocators_.size()];
}

void NvmeTier::Release(Extent extent) {
  MutexLock lock(mutex_);
  CAIRN_CHECK(AllocatorOf(extent).Free(extent).ok());
}

absl::StatusOr<Extent> NvmeTier::ReserveUpTo(uint64_t bytes_max, uint64_t bytes_min) {
  MutexLock lock(mutex_);
  size_t chosen = next_;
  uint64_t chosen_bytes = 0;
  for (size_t i = 0; i < allocators_.size() && chosen_bytes < bytes_max; ++i) {
    const size_t folder = (next_ + i) % allocators_.size();
    const uint64_t bytes = std::min(bytes_max, allocators_[folder]->largest_free_bytes());
    if (bytes <= chosen_bytes) continue;
    chosen = folder;
    chosen_bytes = bytes;
  }
  absl::StatusOr<Extent> extent = allocators_[chosen]->Allocate(std::max(chosen_bytes, bytes_min));
  if (extent.ok()) next_ = (chosen + 1) % allocators_.size();
  return extent;
}

uint64_t NvmeTier::Release(Extent extent, PackExtent* pack) {
  Release(extent);
  if (pack == nullptr || pack->members.fetch_sub(1, std::memory_order_acq_rel) > 1) return 0;
  const uint64_t table_bytes = pack->table.bytes;
  Release(pack->table);
  delete pack;
  return table_bytes;
}

void NvmeTier::Split(Extent run, absl::Span<const uint64_t> sizes) {
  MutexLock lock(mutex_);
  for (const uint64_t bytes : sizes) {
    if (bytes == run.bytes) return;
    CAIRN_CHECK(AllocatorOf(run).Split(run, bytes).ok());
    run = {run.offset + bytes, run.bytes - bytes};
  }
}

void NvmeTier::Locate(uint64_t offset, IoOp* op) const {
  op->file = io_files_[offset / files_->data_file_bytes()];
  op->offset = offset % files_->data_file_bytes();
}

uint64_t NvmeTier::bytes_used() const {
  MutexLock lock(mutex_);
  uint64_t bytes = 0;
  for (const auto& allocator : allocators_) bytes += allocator->bytes_used();
  return bytes;
}

}  // namespace cairn
