#include "tiers/nvme_tier.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

constexpr uint64_t kQuarantinedShareMax = 64;  // One part in so many.

// What of the address space is never an extent of this folder: files in others, each file's header
// block, the end of a file that is shorter than the stride, and files that could not be opened.
std::vector<Extent> ReservedExtents(const StoreFiles& files, size_t folder) {
  std::vector<Extent> reserved;
  const uint64_t stride = files.data_file_bytes();
  for (size_t i = 0; i < files.files().size(); ++i) {
    const StoreFiles::File& file = files.files()[i];
    const uint64_t start = i * stride;
    const uint64_t end = std::min(start + stride, files.offset_end());
    if (file.fd < 0 || files.FolderOf(i) != folder) {
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

std::vector<uint32_t> FoldersOfFiles(const StoreFiles& files) {
  std::vector<uint32_t> folder_of;
  for (size_t i = 0; i < files.files().size(); ++i) {
    folder_of.push_back(static_cast<uint32_t>(files.FolderOf(i)));
  }
  return folder_of;
}

std::vector<uint32_t> WeightsOfFolders(const StoreFiles& files) {
  std::vector<uint32_t> weights;
  for (size_t i = 0; i < files.folders().size(); ++i) weights.push_back(files.WeightOf(i));
  return weights;
}

uint64_t LongestExtent(const StoreFiles::File& file) {
  return file.bytes / kBlockBytes * kBlockBytes - kBlockBytes;
}

absl::StatusOr<std::vector<std::unique_ptr<ExtentAllocator>>> CreateAllocators(
    const StoreFiles& files, absl::Span<const Extent> in_use) {
  std::vector<std::vector<Extent>> in_use_of(files.folders().size());
  for (const Extent& extent : in_use) {
    in_use_of[files.FolderOf(extent.offset / files.data_file_bytes())].push_back(extent);
  }
  std::vector<std::unique_ptr<ExtentAllocator>> allocators;
  for (size_t folder = 0; folder < in_use_of.size(); ++folder) {
    CAIRN_ASSIGN_OR_RETURN(
        std::unique_ptr<ExtentAllocator> allocator,
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
  CAIRN_ASSIGN_OR_RETURN(std::vector<std::unique_ptr<ExtentAllocator>> allocators,
                         CreateAllocators(*files, in_use));
  std::vector<int> io_files;
  uint64_t extent_bytes_max = 0;
  for (const StoreFiles::File& file : files->files()) {
    io_files.push_back(-1);
    if (file.fd < 0) continue;
    CAIRN_ASSIGN_OR_RETURN(io_files.back(), io->AddFile(file.fd));
    extent_bytes_max = std::max(extent_bytes_max, LongestExtent(file));
  }
  return std::unique_ptr<NvmeTier>(
      new NvmeTier(files, io, std::move(io_files), std::move(allocators), extent_bytes_max));
}

NvmeTier::NvmeTier(const StoreFiles* files, AsyncIo* io, std::vector<int> io_files,
                   std::vector<std::unique_ptr<ExtentAllocator>> allocators,
                   uint64_t extent_bytes_max)
    : files_(files),
      file_bytes_(files->data_file_bytes()),
      io_(io),
      io_files_(std::move(io_files)),
      folder_of_(FoldersOfFiles(*files)),
      extent_bytes_max_(extent_bytes_max),
      offset_end_(files->offset_end()),
      drive_counters_(files->folders().size()),
      reads_(files->folders().size()),
      mix_(offset_end_),
      allocator_(file_bytes_, folder_of_, WeightsOfFolders(*files), std::move(allocators)),
      given_up_(files->files().size()),
      extent_bytes_in_use_max_(extent_bytes_max) {
  MutexLock lock(mutex_);
  quarantined_bytes_max_ = allocator_.bytes_max() / kQuarantinedShareMax;
}

void NvmeTier::ReleaseLocked(Extent extent) {
  const bool distrusted = distrusted_.erase(extent.offset) > 0;
  const bool given_up = given_up_[FileOf(extent.offset)];
  if (!distrusted || given_up || extent.bytes > quarantined_bytes_max_) {
    CAIRN_CHECK(allocator_.Free(extent).ok());
    return;
  }
  quarantined_.push_back(extent);
  quarantined_bytes_ += extent.bytes;
  while (quarantined_bytes_ > quarantined_bytes_max_) {
    quarantined_bytes_ -= quarantined_.front().bytes;
    CAIRN_CHECK(allocator_.Free(quarantined_.front()).ok());
    quarantined_.pop_front();
  }
}

void NvmeTier::Release(Extent extent) {
  MutexLock lock(mutex_);
  ReleaseLocked(extent);
}

void NvmeTier::GiveUp(size_t file) {
  MutexLock lock(mutex_);
  if (given_up_[file]) return;
  given_up_[file] = true;
  allocator_.Withdraw({file * file_bytes_, file_bytes_});
  for (const Extent& extent : std::exchange(quarantined_, {})) {
    if (FileOf(extent.offset) != file) {
      quarantined_.push_back(extent);
      continue;
    }
    quarantined_bytes_ -= extent.bytes;
    CAIRN_CHECK(allocator_.Free(extent).ok());
  }
  extent_bytes_in_use_max_ = 0;
  for (size_t i = 0; i < given_up_.size(); ++i) {
    const StoreFiles::File& other = files_->files()[i];
    if (given_up_[i] || other.fd < 0) continue;
    extent_bytes_in_use_max_ = std::max(extent_bytes_in_use_max_, LongestExtent(other));
  }
}

bool NvmeTier::InUse(uint64_t offset) const {
  MutexLock lock(mutex_);
  return !given_up_[FileOf(offset)];
}

uint64_t NvmeTier::GivenUpBytesUsed(size_t file) const {
  MutexLock lock(mutex_);
  return allocator_.withdrawn_bytes_used(file * file_bytes_);
}

void NvmeTier::Distrust(Extent extent) {
  MutexLock lock(mutex_);
  distrusted_.insert(extent.offset);
}

absl::StatusOr<Extent> NvmeTier::ReserveUpTo(uint64_t bytes_max, uint64_t bytes_min) {
  MutexLock lock(mutex_);
  return ReserveLocked(bytes_max, bytes_min, std::nullopt);
}

absl::StatusOr<Extent> NvmeTier::ReserveElsewhere(uint64_t bytes, uint64_t offset) {
  MutexLock lock(mutex_);
  return ReserveLocked(bytes, bytes, folder_of_[FileOf(offset)]);
}

absl::StatusOr<Extent> NvmeTier::ReserveLocked(uint64_t bytes_max, uint64_t bytes_min,
                                               std::optional<size_t> folder_avoided) {
  if (bytes_min > extent_bytes_in_use_max_ && bytes_min <= extent_bytes_max_) {
    return absl::UnavailableError(absl::StrCat(
        "L3 takes no ", bytes_min, " bytes: ", std::count(given_up_.begin(), given_up_.end(), true),
        " of its ", given_up_.size(),
        " data files are given up until the next Open: a flush of them failed, or their drive"));
  }
  absl::StatusOr<Extent> extent = allocator_.AllocateUpTo(bytes_max, bytes_min, folder_avoided);
  if (extent.ok()) mix_.Note(extent->bytes);
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
    CAIRN_CHECK(allocator_.Split(run, bytes).ok());
    run = {run.offset + bytes, run.bytes - bytes};
  }
}

void NvmeTier::Locate(uint64_t offset, IoOp* op) const {
  op->file = io_files_[FileOf(offset)];
  op->offset = offset % file_bytes_;
}

void NvmeTier::Ended(uint64_t offset, const absl::Status& status, int64_t service_us) {
  DriveCounters& counters = drive_counters_[folder_of_[FileOf(offset)]];
  counters.requests.fetch_add(1, std::memory_order_relaxed);
  if (!status.ok()) counters.errors.fetch_add(1, std::memory_order_relaxed);
  counters.service_us.fetch_add(static_cast<uint64_t>(service_us), std::memory_order_relaxed);
}

NvmeTier::DriveFigures NvmeTier::drive_figures(size_t folder) const {
  const DriveCounters& counters = drive_counters_[folder];
  return {.requests = counters.requests.load(std::memory_order_relaxed),
          .errors = counters.errors.load(std::memory_order_relaxed),
          .service_us = counters.service_us.load(std::memory_order_relaxed)};
}

NvmeTier::DriveBytes NvmeTier::drive_bytes(size_t folder) const {
  MutexLock lock(mutex_);
  const ExtentAllocator& allocator = allocator_.of_folder(folder);
  uint64_t withheld = 0;
  for (const Extent& range : allocator_.withheld().ranges()) {
    if (folder_of_[FileOf(range.offset)] == folder) withheld += allocator_.withheld().bytes(range);
  }
  return {.max = allocator.bytes_max(), .used = allocator.bytes_used() - withheld};
}

uint64_t NvmeTier::bytes_max() const {
  MutexLock lock(mutex_);
  return allocator_.bytes_max() - quarantined_bytes_;
}

uint64_t NvmeTier::bytes_used() const {
  MutexLock lock(mutex_);
  return allocator_.bytes_used() - quarantined_bytes_ - allocator_.withheld().bytes();
}

uint64_t NvmeTier::bytes_free() const {
  MutexLock lock(mutex_);
  return allocator_.bytes_max() - allocator_.bytes_used() + allocator_.withheld().bytes();
}

uint64_t NvmeTier::bytes_quarantined() const {
  MutexLock lock(mutex_);
  return quarantined_bytes_;
}

}  // namespace cairn
