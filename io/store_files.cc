#include "io/store_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "io/data_file.h"
#include "io/file.h"
#include "io/store_layout.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

// The directory has changed under us: look again. Never leaves Open.
absl::Status Changed() { return absl::AbortedError("the store's files are being changed"); }

bool Exists(const std::string& path) {
  struct stat file;
  return lstat(path.c_str(), &file) == 0;
}

std::string WithoutTrailingSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string ParentOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

absl::Status Validate(const StoreFiles::Options& options) {
  if (options.path.empty()) return absl::InvalidArgumentError("the store's path is empty");
  if (options.data_file_bytes % kBlockBytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat("data_file_bytes ", options.data_file_bytes,
                                                   " is not a multiple of ", kBlockBytes));
  }
  if (options.data_file_bytes != 0 && options.data_file_bytes < kDataFileBytesMin) {
    return absl::InvalidArgumentError(
        absl::StrCat("data_file_bytes ", options.data_file_bytes, " is below 1 MiB"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<StoreFiles>> StoreFiles::Open(const Options& options) {
  CAIRN_RETURN_IF_ERROR(Validate(options));
  const Deadline deadline =
      std::chrono::steady_clock::now() + absl::ToChronoMilliseconds(options.lock_wait);
  for (;;) {
    std::unique_ptr<StoreFiles> files(new StoreFiles(WithoutTrailingSlashes(options.path)));
    files->options_ = options;
    const absl::Status status = files->CreateOrOpen(options, deadline);
    if (status.ok()) return files;
    if (!absl::IsAborted(status)) return status;
    if (std::chrono::steady_clock::now() > deadline) {
      return absl::FailedPreconditionError(
          absl::StrCat("the store at ", options.path, " is in use: another process changes it"));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

absl::StatusOr<std::unique_ptr<StoreFiles>> StoreFiles::OpenReadOnly(const std::string& path) {
  for (int attempt = 0;; ++attempt) {
    std::unique_ptr<StoreFiles> files(new StoreFiles(WithoutTrailingSlashes(path)));
    const absl::StatusOr<Superblock> superblock = ReadSuperblock(files->path_);
    if (absl::IsNotFound(superblock.status())) {
      return absl::NotFoundError(absl::StrCat("no store at ", path, ": it has no superblock"));
    }
    if (!superblock.ok()) return superblock.status();
    CAIRN_RETURN_IF_ERROR(files->OpenExisting(*superblock, /*read_only=*/true));
    files->ChooseDirect();
    // A live owner that gives files back writes the superblock first.
    const absl::StatusOr<Superblock> again = ReadSuperblock(files->path_);
    if (attempt == 3 || (again.ok() && EncodeSuperblock(*again) == EncodeSuperblock(*superblock))) {
      return files;
    }
  }
}

StoreFiles::~StoreFiles() {
  for (const File& file : files_) {
    if (file.fd >= 0) close(file.fd);
  }
}

uint64_t StoreFiles::IndexBytesReserved(uint64_t bytes_max) {
  return cairn::IndexBytesReserved(bytes_max);
}

uint64_t StoreFiles::DataBytesOf(uint64_t bytes_max) const {
  return DataBytesWithin(bytes_max, IndexBytesOf(bytes_max));
}

std::string StoreFiles::index_path() const { return absl::StrCat(path_, "/", kIndexName); }
std::string StoreFiles::data_path() const { return absl::StrCat(path_, "/", kDataName); }
std::string StoreFiles::superblock_path() const {
  return absl::StrCat(path_, "/", kSuperblockName);
}

uint64_t StoreFiles::offset_end() const { return OffsetEndOf(files_.size()); }

uint64_t StoreFiles::OffsetEndOf(size_t file_count) const {
  if (file_count == 0) return 0;
  return (file_count - 1) * data_file_bytes_ + files_[file_count - 1].bytes;
}

absl::Status StoreFiles::CreateOrOpen(const Options& options, Deadline deadline) {
  CAIRN_ASSIGN_OR_RETURN(const DirectoryState state, ClassifyDirectory(path_));
  if (state == DirectoryState::kVacant) {
    CAIRN_RETURN_IF_ERROR(Create(options, deadline));
  } else {
    const absl::StatusOr<Superblock> superblock = ReadSuperblock(path_);
    if (absl::IsNotFound(superblock.status())) return Changed();
    if (!superblock.ok()) return superblock.status();
    CAIRN_RETURN_IF_ERROR(OpenExisting(*superblock, /*read_only=*/false));
    CAIRN_RETURN_IF_ERROR(Lock(*superblock, deadline));
    CAIRN_RETURN_IF_ERROR(RemoveSurplusFiles(superblock->file_count));
    CAIRN_RETURN_IF_ERROR(Grow(options.bytes_max, deadline));
  }
  ChooseDirect();
  return absl::OkStatus();
}

absl::Status StoreFiles::OpenExisting(const Superblock& superblock, bool read_only) {
  uuid_ = superblock.uuid;
  data_file_bytes_ = superblock.data_file_bytes;
  for (uint32_t number = 0; number < superblock.file_count; ++number) {
    const std::string path = DataFilePath(data_path(), number);
    absl::StatusOr<DataFile> file = OpenDataFile(
        path, {.uuid = uuid_, .data_file_bytes = data_file_bytes_, .number = number}, read_only);
    if (file.ok()) {
      files_.push_back({.fd = file->fd.release(), .bytes = file->bytes});
    } else if (absl::IsNotFound(file.status())) {
      files_.push_back({});
      problems_.push_back(absl::StrCat(path, ": missing"));
    } else if (absl::IsDataLoss(file.status())) {
      files_.push_back({});
      problems_.emplace_back(file.status().message());
    } else {
      // No permission, no descriptor left: says nothing about what is in the file.
      return file.status();
    }
  }
  return absl::OkStatus();
}

absl::Status StoreFiles::Lock(const Superblock& superblock, Deadline deadline) {
  size_t locked = 0;
  for (uint32_t number = 0; number < files_.size(); ++number) {
    if (files_[number].fd < 0) continue;
    const std::string path = DataFilePath(data_path(), number);
    CAIRN_RETURN_IF_ERROR(LockFile(files_[number].fd, path, deadline));
    if (!IsFileAt(files_[number].fd, path)) return Changed();
    ++locked;
  }
  // Who held the lock while we waited may have changed what the store consists of.
  const absl::StatusOr<Superblock> now = ReadSuperblock(path_);
  if (!now.ok() || EncodeSuperblock(*now) != EncodeSuperblock(superblock)) return Changed();
  if (locked > 0) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("the store at ", path_, " has no data file left: ", problems_.front()));
}

absl::Status StoreFiles::Create(const Options& options, Deadline deadline) {
  if (DataBytesOf(options.bytes_max) < kDataFileBytesMin) {
    return absl::InvalidArgumentError(absl::StrCat("bytes_max ", options.bytes_max,
                                                   " leaves no room for data beside the index (",
                                                   IndexBytesOf(options.bytes_max), " bytes)"));
  }
  CAIRN_ASSIGN_OR_RETURN(const bool made, MakeDirectory(path_));
  // Only directories that are empty again go, so that this is right after any failure.
  absl::Cleanup remove_directories = [this, made] {
    rmdir(data_path().c_str());
    if (made) rmdir(path_.c_str());
  };
  CAIRN_RETURN_IF_ERROR(MakeDirectory(data_path()).status());
  CAIRN_RETURN_IF_ERROR(CreateFiles(options, deadline));
  if (made) CAIRN_RETURN_IF_ERROR(SyncDirectory(ParentOf(path_)));
  std::move(remove_directories).Cancel();
  created_ = true;
  return absl::OkStatus();
}

absl::Status StoreFiles::CreateFiles(const Options& options, Deadline deadline) {
  const std::string first_path = DataFilePath(data_path(), 0);
  absl::StatusOr<FileDescriptor> first = OpenFile(first_path, O_RDWR | O_CREAT);
  if (absl::IsNotFound(first.status())) return Changed();
  if (!first.ok()) return first.status();
  CAIRN_RETURN_IF_ERROR(LockFile(first->get(), first_path, deadline));
  if (!IsFileAt(first->get(), first_path)) return Changed();
  // The lock is ours from here on: two that create at once cannot both get past this.
  CAIRN_ASSIGN_OR_RETURN(const DirectoryState state, ClassifyDirectory(path_));
  if (state != DirectoryState::kVacant) return Changed();

  const uint64_t data_bytes = DataBytesOf(options.bytes_max);
  data_file_bytes_ =
      options.data_file_bytes != 0 ? options.data_file_bytes : ChooseDataFileBytes(data_bytes);
  CAIRN_ASSIGN_OR_RETURN(uuid_, NewUuid());
  absl::Cleanup remove_files = [this, &first_path] {
    unlink(superblock_path().c_str());
    unlink(absl::StrCat(path_, "/", kSuperblockNewName).c_str());
    if (files_.empty()) unlink(first_path.c_str());
    DropFiles(0);
  };
  if (ftruncate(first->get(), 0) != 0) return ErrnoStatus(errno, "cannot truncate", first_path);
  CAIRN_RETURN_IF_ERROR(RemoveSurplusFiles(1));
  CAIRN_RETURN_IF_ERROR(
      CheckSpace(path_, data_bytes + kBlockBytes + IndexBytesOf(options.bytes_max)));
  // Not before the disk has said that there may be so many.
  std::vector<uint64_t> file_bytes = PlanFiles(data_bytes, data_file_bytes_);
  CAIRN_RETURN_IF_ERROR(FormatDataFile(
      first->get(), first_path,
      {.uuid = uuid_, .data_file_bytes = data_file_bytes_, .bytes = file_bytes[0], .number = 0},
      options_.prewrite));
  files_.push_back({.fd = first->release(), .bytes = file_bytes[0]});
  file_bytes.erase(file_bytes.begin());
  CAIRN_RETURN_IF_ERROR(AddFiles(file_bytes, deadline));
  CAIRN_RETURN_IF_ERROR(WriteSuperblock(static_cast<uint32_t>(files_.size())));
  std::move(remove_files).Cancel();
  return absl::OkStatus();
}

absl::Status StoreFiles::Grow(uint64_t bytes_max, Deadline deadline) {
  uint64_t used = 0;
  for (size_t i = 0; i < files_.size(); ++i) used += BudgetOf(i);
  const uint64_t data_bytes = DataBytesOf(bytes_max);
  // On a full disk, too, a store must open that has no need to grow.
  if (data_bytes < used + kDataFileBytesMin) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(CheckSpace(path_, data_bytes - used));
  std::vector<uint64_t> file_bytes = PlanFiles(data_bytes - used, data_file_bytes_);
  for (size_t i = 0; i < file_bytes.size(); ++i) {
    const std::string path = DataFilePath(data_path(), static_cast<uint32_t>(files_.size() + i));
    if (!Exists(path)) continue;
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
    const std::string path = DataFilePath(data_path(), number);
    CAIRN_ASSIGN_OR_RETURN(FileDescriptor fd, OpenFile(path, O_RDWR | O_CREAT | O_EXCL));
    files_.push_back({.fd = fd.release(), .bytes = bytes});
    CAIRN_RETURN_IF_ERROR(LockFile(files_.back().fd, path, deadline));
    CAIRN_RETURN_IF_ERROR(FormatDataFile(
        files_.back().fd, path,
        {.uuid = uuid_, .data_file_bytes = data_file_bytes_, .bytes = bytes, .number = number},
        options_.prewrite));
  }
  CAIRN_RETURN_IF_ERROR(SyncDirectory(data_path()));
  std::move(drop).Cancel();
  return absl::OkStatus();
}

absl::Status StoreFiles::WriteSuperblock(uint32_t file_count) const {
  const std::string path = absl::StrCat(path_, "/", kSuperblockNewName);
  {
    CAIRN_ASSIGN_OR_RETURN(const FileDescriptor fd, OpenFile(path, O_WRONLY | O_CREAT | O_TRUNC));
    CAIRN_RETURN_IF_ERROR(
        WriteAt(fd.get(), 0,
                EncodeSuperblock(
                    {.uuid = uuid_, .data_file_bytes = data_file_bytes_, .file_count = file_count}),
                path));
    CAIRN_RETURN_IF_ERROR(SyncFile(fd.get(), path));
  }
  if (rename(path.c_str(), superblock_path().c_str()) != 0) {
    return ErrnoStatus(errno, "cannot rename", path);
  }
  return SyncDirectory(path_);
}

absl::Status StoreFiles::RemoveSurplusFiles(uint32_t file_count) {
  CAIRN_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(data_path()));
  bool removed = false;
  for (const std::string& name : names) {
    if (DataFileNumber(name) < int64_t{file_count}) continue;
    const std::string path = absl::StrCat(data_path(), "/", name);
    const absl::StatusOr<Leftover> leftover = ClassifyLeftover(path, uuid_);
    if (!leftover.ok() || *leftover == Leftover::kForeign) continue;
    if (unlink(path.c_str()) != 0) return ErrnoStatus(errno, "cannot remove", path);
    removed = true;
  }
  return removed ? SyncDirectory(data_path()) : absl::OkStatus();
}

// Removes files that this Open has made, from the end: the first, whose lock keeps others away,
// goes last.
void StoreFiles::DropFiles(size_t first) {
  for (; files_.size() > first; files_.pop_back()) {
    unlink(DataFilePath(data_path(), static_cast<uint32_t>(files_.size() - 1)).c_str());
    close(files_.back().fd);
  }
}

void StoreFiles::ChooseDirect() {
  direct_ = false;
  for (const File& file : files_) {
    if (file.fd < 0) continue;
    direct_ = MakeDirect(file.fd);
    if (!direct_) break;
  }
  if (direct_) return;
  for (const File& file : files_) {
    if (file.fd >= 0) MakeBuffered(file.fd);
  }
}

// What a file takes of bytes_max: one that is not usable takes what lies there under its name.
uint64_t StoreFiles::BudgetOf(size_t file) const {
  if (files_[file].fd >= 0) return files_[file].bytes;
  struct stat found;
  const std::string path = DataFilePath(data_path(), static_cast<uint32_t>(file));
  return lstat(path.c_str(), &found) == 0 ? static_cast<uint64_t>(found.st_size) : 0;
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
  return RemoveSurplusFiles(static_cast<uint32_t>(count));
}

uint64_t StoreFiles::NextWritten(uint64_t offset) const {
  const uint64_t number = offset / data_file_bytes_;
  const uint64_t begin = number * data_file_bytes_;
  const uint64_t end = begin + files_[number].bytes;
  const off_t found = lseek(files_[number].fd, static_cast<off_t>(offset - begin), SEEK_DATA);
  if (found < 0) return errno == ENXIO ? end : offset;
  return std::min(end, begin + static_cast<uint64_t>(found) / kBlockBytes * kBlockBytes);
}

bool StoreFiles::HasNeverWritten(uint64_t offset, uint64_t bytes) const {
  const off_t begin = static_cast<off_t>(offset % data_file_bytes_);
  const off_t hole = lseek(files_[offset / data_file_bytes_].fd, begin, SEEK_HOLE);
  return hole >= 0 && static_cast<uint64_t>(hole - begin) < bytes;
}

absl::Status StoreFiles::ReadBlocks(uint64_t offset, absl::Span<std::byte> target) const {
  const uint64_t number = data_file_bytes_ == 0 ? 0 : offset / data_file_bytes_;
  const uint64_t in_file = data_file_bytes_ == 0 ? 0 : offset % data_file_bytes_;
  if (number >= files_.size() || files_[number].fd < 0 || in_file > files_[number].bytes ||
      target.size() > files_[number].bytes - in_file) {
    return absl::DataLossError(
        absl::StrCat("no data file has ", target.size(), " bytes at offset ", offset, " of L3"));
  }
  const absl::Status read = ReadAt(files_[number].fd, in_file, target);
  if (read.ok()) return read;
  return absl::DataLossError(absl::StrCat("data file ", number, ": ", read.message()));
}

}  // namespace cairn
