// What makes, grows and shrinks a store: everything that writes to its directories.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "io/data_file.h"
#include "io/file.h"
#include "io/store_files.h"
#include "io/store_layout.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

std::string ParentOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

absl::Status StoreFiles::Create(const Options& options, Deadline deadline) {
  if (DataBytesOf(options.bytes_max) < kDataFileBytesMin) {
    return absl::InvalidArgumentError(absl::StrCat("bytes_max ", options.bytes_max,
                                                   " leaves no room for data beside the index (",
                                                   IndexBytesOf(options.bytes_max), " bytes)"));
  }
  CAIRN_ASSIGN_OR_RETURN(const bool made, MakeDirectory(path_));
  // Only a directory that is empty again goes, so that this is right after any failure.
  absl::Cleanup remove_directory = [this, made] {
    if (made) rmdir(path_.c_str());
  };
  const absl::StatusOr<FileDescriptor> lock = OpenFile(superblock_new_path(), O_RDWR | O_CREAT);
  if (absl::IsNotFound(lock.status())) return Changed();
  if (!lock.ok()) return lock.status();
  CAIRN_RETURN_IF_ERROR(LockFile(lock->get(), superblock_new_path(), deadline));
  if (!IsFileAt(lock->get(), superblock_new_path())) return Changed();
  // The lock is ours from here on: two that create at once cannot both get past this.
  CAIRN_ASSIGN_OR_RETURN(const DirectoryState state, ClassifyDirectory(path_));
  if (state != DirectoryState::kVacant) return Changed();
  CAIRN_RETURN_IF_ERROR(CreateFiles(options, deadline));
  if (made) CAIRN_RETURN_IF_ERROR(SyncDirectory(ParentOf(path_)));
  std::move(remove_directory).Cancel();
  created_ = true;
  return absl::OkStatus();
}

// The superblock is written first, under a name that makes no store of the directory, so that
// another Open finds what this one left if it is cut off; it gets its own name when all is done.
absl::Status StoreFiles::CreateFiles(const Options& options, Deadline deadline) {
  const absl::Status status = CreateFilesOrNone(options, deadline);
  if (!status.ok()) unlink(superblock_new_path().c_str());
  return status;
}

absl::Status StoreFiles::CreateFilesOrNone(const Options& options, Deadline deadline) {
  CAIRN_RETURN_IF_ERROR(RemoveLeftovers(path_));
  CAIRN_ASSIGN_OR_RETURN(uuid_, NewUuid());
  CAIRN_ASSIGN_OR_RETURN(std::vector<std::string> data_paths,
                         AbsoluteDataPaths(options.data_paths));
  folders_ = DataFolders(path_, uuid_, std::move(data_paths), InLowestTerms(options.data_weights));
  const uint64_t data_bytes = DataBytesOf(options.bytes_max);
  data_file_bytes_ = options.data_file_bytes != 0
                         ? options.data_file_bytes
                         : ChooseDataFileBytes(data_bytes, folders_.period());
  if (data_bytes < (folders_.files_min() - 1) * data_file_bytes_ + kDataFileBytesMin) {
    return absl::InvalidArgumentError(
        absl::StrCat("bytes_max ", options.bytes_max, " has no room for ", folders_.files_min(),
                     " data files of ", data_file_bytes_, " bytes, which it takes to have one in ",
                     "each of ", folders_.folders().size(), " data paths"));
  }
  CAIRN_RETURN_IF_ERROR(folders_.CheckDataPaths());
  CAIRN_RETURN_IF_ERROR(folders_.CheckSpace(0, data_bytes, data_file_bytes_,
                                            kBlockBytes + IndexBytesOf(options.bytes_max)));
  // Not before the disk has said that there may be so many.
  const std::vector<uint64_t> file_bytes = PlanFiles(data_bytes, data_file_bytes_);
  CAIRN_RETURN_IF_ERROR(WriteNewSuperblock(static_cast<uint32_t>(file_bytes.size())));
  CAIRN_RETURN_IF_ERROR(SyncDirectory(path_));
  absl::Cleanup remove_files = [this] {
    // It may have its name already.
    rename(superblock_path().c_str(), superblock_new_path().c_str());
    DropFiles(0);
    folders_.Remove();
  };
  CAIRN_RETURN_IF_ERROR(folders_.Make());
  CAIRN_RETURN_IF_ERROR(AddFiles(file_bytes, deadline));
  CAIRN_RETURN_IF_ERROR(InstallNewSuperblock());
  std::move(remove_files).Cancel();
  return absl::OkStatus();
}

absl::Status StoreFiles::Grow(uint64_t bytes_max, Deadline deadline) {
  uint64_t used = 0;
  for (size_t i = 0; i < files_.size(); ++i) used += BudgetOf(i);
  const uint64_t data_bytes = DataBytesOf(bytes_max);
  // On a full disk, too, a store must open that has no need to grow.
  if (data_bytes < used + kDataFileBytesMin) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(folders_.CheckSpace(static_cast<uint32_t>(files_.size()), data_bytes - used,
                                            data_file_bytes_, /*other_bytes=*/0));
  std::vector<uint64_t> file_bytes = PlanFiles(data_bytes - used, data_file_bytes_);
  for (size_t i = 0; i < file_bytes.size(); ++i) {
    const std::string path = data_file_path(files_.size() + i);
    if (!PathExists(path)) continue;
    problems_.push_back(absl::StrCat(path, ": not of this store; the store grows up to it only"));
    file_bytes.resize(i);
  }
  if (file_bytes.empty()) return absl::OkStatus();
  const size_t count = files_.size();
  CAIRN_RETURN_IF_ERROR(AddFiles(file_bytes, deadline));
  const absl::Status written = WriteSuperblock(static_cast<uint32_t>(files_.size()));
  if (written.ok()) return written;
  // It may count the new files already.
  WriteSuperblock(static_cast<uint32_t>(count)).IgnoreError();
  DropFiles(count);
  return written;
}

// The superblock that counts them comes last, from the caller: cut off in between, the next Open
// removes what no superblock counts.
absl::Status StoreFiles::AddFiles(const std::vector<uint64_t>& file_bytes, Deadline deadline) {
  const size_t first = files_.size();
  CAIRN_RETURN_IF_ERROR(CheckOpenFiles(first + file_bytes.size()));
  absl::Cleanup drop = [this, first] { DropFiles(first); };
  for (const uint64_t bytes : file_bytes) {
    const uint32_t number = static_cast<uint32_t>(files_.size());
    const std::string path = data_file_path(number);
    CAIRN_ASSIGN_OR_RETURN(FileDescriptor fd, OpenFile(path, O_RDWR | O_CREAT | O_EXCL));
    files_.push_back({.fd = fd.release(), .bytes = bytes});
    CAIRN_RETURN_IF_ERROR(LockFile(files_.back().fd, path, deadline));
    CAIRN_RETURN_IF_ERROR(FormatDataFile(
        files_.back().fd, path,
        {.uuid = uuid_, .data_file_bytes = data_file_bytes_, .bytes = bytes, .number = number},
        options_.prewrite));
  }
  CAIRN_RETURN_IF_ERROR(folders_.Sync());
  std::move(drop).Cancel();
  return absl::OkStatus();
}

absl::Status StoreFiles::WriteNewSuperblock(uint32_t file_count) const {
  const std::string path = superblock_new_path();
  CAIRN_ASSIGN_OR_RETURN(const FileDescriptor fd, OpenFile(path, O_WRONLY | O_CREAT | O_TRUNC));
  CAIRN_RETURN_IF_ERROR(WriteAt(fd.get(), 0,
                                EncodeSuperblock({.uuid = uuid_,
                                                  .data_file_bytes = data_file_bytes_,
                                                  .file_count = file_count,
                                                  .data_paths = folders_.data_paths(),
                                                  .data_weights = folders_.data_weights()}),
                                path));
  return SyncFile(fd.get(), path);
}

absl::Status StoreFiles::InstallNewSuperblock() const {
  if (rename(superblock_new_path().c_str(), superblock_path().c_str()) != 0) {
    return ErrnoStatus(errno, "cannot rename", superblock_new_path());
  }
  return SyncDirectory(path_);
}

absl::Status StoreFiles::WriteSuperblock(uint32_t file_count) const {
  CAIRN_RETURN_IF_ERROR(WriteNewSuperblock(file_count));
  return InstallNewSuperblock();
}

// Removes files that this Open has made.
void StoreFiles::DropFiles(size_t first) {
  for (; files_.size() > first; files_.pop_back()) {
    unlink(data_file_path(files_.size() - 1).c_str());
    close(files_.back().fd);
  }
}

// What a file takes of bytes_max: one that is not usable takes what lies there under its name.
uint64_t StoreFiles::BudgetOf(size_t file) const {
  if (files_[file].fd >= 0) return files_[file].bytes;
  struct stat found;
  const std::string path = data_file_path(file);
  return lstat(path.c_str(), &found) == 0 ? static_cast<uint64_t>(found.st_size) : 0;
}

uint64_t StoreFiles::index_bytes_max() const {
  const uint64_t bytes = IndexBytesOf(options_.bytes_max);
  uint64_t tails = 0;
  for (const File& file : files_) tails += DataFileTailBytes(file.bytes);
  // An index that was told to be tiny needs what it has.
  return bytes - std::min(tails, bytes / 8);
}

size_t StoreFiles::FilesWithin(uint64_t bytes_max) const {
  uint64_t left = DataBytesOf(bytes_max);
  size_t count = 0;
  while (count < files_.size() && BudgetOf(count) <= left) left -= BudgetOf(count++);
  return count;
}

uint64_t StoreFiles::OffsetEndWithin(uint64_t bytes_max) const {
  return OffsetEndOf(FilesWithin(bytes_max));
}

absl::Status StoreFiles::ShrinkTo(uint64_t bytes_max) {
  const size_t count = FilesWithin(bytes_max);
  if (count == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("bytes_max ", bytes_max, " does not cover the first data file of ",
                     BudgetOf(0), " bytes and the index (", IndexBytesOf(bytes_max), " bytes)"));
  }
  if (count == files_.size()) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(WriteSuperblock(static_cast<uint32_t>(count)));
  for (size_t i = count; i < files_.size(); ++i) {
    if (files_[i].fd >= 0) close(files_[i].fd);
  }
  files_.resize(count);
  return folders_.RemoveFilesFrom(static_cast<uint32_t>(count), uuid_);
}

}  // namespace cairn
