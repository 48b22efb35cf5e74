#include "io/store_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "io/data_file.h"
#include "io/file.h"
#include "io/store_layout.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

std::string WithoutTrailingSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
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
  const std::vector<uint32_t>& weights = options.data_weights;
  if (weights.empty()) return absl::OkStatus();
  if (weights.size() != options.data_paths.size()) {
    return absl::InvalidArgumentError(absl::StrCat("there are ", weights.size(),
                                                   " data weights of ", options.data_paths.size(),
                                                   " data paths"));
  }
  const auto [least, most] = std::minmax_element(weights.begin(), weights.end());
  if (*least < 1 || *most > kDataWeightMax) {
    return absl::InvalidArgumentError(absl::StrCat("data weights ", absl::StrJoin(weights, ":"),
                                                   " are not 1 to ", kDataWeightMax));
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

absl::Status StoreFiles::Changed() {
  return absl::AbortedError("the store's files are being changed");
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
std::string StoreFiles::superblock_path() const {
  return absl::StrCat(path_, "/", kSuperblockName);
}
std::string StoreFiles::superblock_new_path() const {
  return absl::StrCat(path_, "/", kSuperblockNewName);
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
    CAIRN_RETURN_IF_ERROR(folders_.RemoveFilesFrom(superblock->file_count, uuid_));
    if (folders_.data_paths() != superblock->data_paths) {
      CAIRN_RETURN_IF_ERROR(WriteSuperblock(superblock->file_count));
    }
    CAIRN_RETURN_IF_ERROR(Grow(options.bytes_max, deadline));
  }
  ChooseDirect();
  return absl::OkStatus();
}

// They say which file is where, and how large every drive's share is.
absl::Status StoreFiles::CheckWeights(const Superblock& superblock) const {
  const std::vector<uint32_t>& told = options_.data_weights;
  std::vector<uint32_t> own = superblock.data_weights;
  if (told.empty() || InLowestTerms(told) == InLowestTerms(own)) return absl::OkStatus();
  if (own.empty()) own.assign(superblock.data_paths.size(), 1);
  return absl::FailedPreconditionError(absl::StrCat(
      "the store at ", path_, " was made with the data weights ", absl::StrJoin(own, ":"),
      " and was opened with ", absl::StrJoin(told, ":"), ": they cannot change"));
}

// What Open was told says where the files are, and the superblock who must be found there.
absl::Status StoreFiles::PlaceFolders(const Superblock& superblock, bool read_only) {
  std::vector<std::string> data_paths = superblock.data_paths;
  if (!read_only && !options_.data_paths.empty()) {
    CAIRN_ASSIGN_OR_RETURN(data_paths, AbsoluteDataPaths(options_.data_paths));
    if (data_paths.size() != superblock.data_paths.size()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the store at ", path_, " was made with ", superblock.data_paths.size(),
          " data paths and was opened with ", data_paths.size(), ": their number cannot change"));
    }
    CAIRN_RETURN_IF_ERROR(CheckWeights(superblock));
  }
  folders_ = DataFolders(path_, uuid_, std::move(data_paths), superblock.data_weights);
  absl::Status present = folders_.CheckPresent();
  if (present.ok() || !read_only) return present;
  problems_.emplace_back(present.message());
  return absl::OkStatus();
}

absl::Status StoreFiles::OpenExisting(const Superblock& superblock, bool read_only) {
  uuid_ = superblock.uuid;
  data_file_bytes_ = superblock.data_file_bytes;
  CAIRN_RETURN_IF_ERROR(PlaceFolders(superblock, read_only));
  for (uint32_t number = 0; number < superblock.file_count; ++number) {
    const std::string path = data_file_path(number);
    absl::StatusOr<DataFile> file = OpenDataFile(
        path, {.uuid = uuid_, .data_file_bytes = data_file_bytes_, .number = number}, read_only);
    if (file.ok()) {
      files_.push_back({.fd = file->fd.release(), .bytes = file->bytes});
    } else if (absl::IsNotFound(file.status())) {
      const std::string elsewhere = folders_.Misplaced(number);
      if (!read_only && !elsewhere.empty()) {
        return absl::FailedPreconditionError(
            absl::StrCat(elsewhere, " is in the wrong data path: it belongs at ", path));
      }
      files_.push_back({});
      problems_.push_back(
          absl::StrCat(path, ": missing", elsewhere.empty() ? "" : ", and lies at ", elsewhere));
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
    const std::string path = data_file_path(number);
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
