#include "io/data_folders.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <numeric>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/data_file.h"
#include "io/file.h"
#include "io/store_layout.h"
#include "io/weighted_turns.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

std::string NameOf(const StoreUuid& uuid, size_t place) {
  return absl::StrCat("cairn-", UuidText(uuid), ".", place);
}

// False when there is nothing of that name, or no directory.
absl::StatusOr<bool> IsDirectory(const std::string& path) {
  struct stat found;
  if (stat(path.c_str(), &found) == 0) return S_ISDIR(found.st_mode);
  if (errno == ENOENT || errno == ENOTDIR) return false;
  return ErrnoStatus(errno, "cannot look at", path);
}

}  // namespace

DataFolders::DataFolders(const std::string& path, const StoreUuid& uuid,
                         std::vector<std::string> data_paths, std::vector<uint32_t> data_weights)
    : path_(path), data_paths_(std::move(data_paths)), data_weights_(std::move(data_weights)) {
  for (size_t i = 0; i < data_paths_.size(); ++i) {
    folders_.push_back(absl::StrCat(data_paths_[i], "/", NameOf(uuid, i)));
  }
  if (folders_.empty()) folders_.push_back(absl::StrCat(path, "/", kDataName));
  std::vector<uint32_t> weights;
  for (size_t i = 0; i < folders_.size(); ++i) weights.push_back(WeightOf(i));
  turns_.resize(std::accumulate(weights.begin(), weights.end(), size_t{0}));
  WeightedTurns turns(std::move(weights));
  for (uint32_t& turn : turns_) turn = static_cast<uint32_t>(turns.Next());
}

size_t DataFolders::files_min() const {
  size_t files = 0;
  for (size_t folder = 0; folder < folders_.size(); ++folder) {
    const auto first = std::find(turns_.begin(), turns_.end(), folder);
    files = std::max(files, static_cast<size_t>(first - turns_.begin()) + 1);
  }
  return files;
}

std::string DataFolders::FilePath(uint32_t number) const {
  return DataFilePath(folders_[FolderOf(number)], number);
}

const std::string& DataFolders::ParentOf(size_t folder) const {
  return data_paths_.empty() ? path_ : data_paths_[folder];
}

absl::Status DataFolders::CheckDataPaths() const {
  for (const std::string& data_path : data_paths_) {
    CAIRN_ASSIGN_OR_RETURN(const bool is_directory, IsDirectory(data_path));
    if (is_directory) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("the data path ", data_path, " is not there, or is no directory"));
  }
  return absl::OkStatus();
}

absl::Status DataFolders::Make() const {
  for (size_t i = 0; i < folders_.size(); ++i) {
    CAIRN_RETURN_IF_ERROR(MakeDirectory(folders_[i]).status());
    CAIRN_RETURN_IF_ERROR(SyncDirectory(ParentOf(i)));
  }
  return absl::OkStatus();
}

void DataFolders::Remove() const {
  for (const std::string& folder : folders_) rmdir(folder.c_str());
}

absl::Status DataFolders::Sync() const {
  for (const std::string& folder : folders_) CAIRN_RETURN_IF_ERROR(SyncDirectory(folder));
  return absl::OkStatus();
}

absl::Status DataFolders::CheckPresent() const {
  const std::string stem = std::filesystem::path(folders_[0]).stem().string();
  for (size_t i = 0; i < data_paths_.size(); ++i) {
    CAIRN_ASSIGN_OR_RETURN(const bool is_directory, IsDirectory(folders_[i]));
    if (is_directory) continue;
    for (size_t other = 0; other < data_paths_.size(); ++other) {
      const std::string name = absl::StrCat(stem, ".", other);
      if (!PathExists(absl::StrCat(data_paths_[i], "/", name))) continue;
      return absl::FailedPreconditionError(
          absl::StrCat("the data path ", data_paths_[i], " is number ", i, " and holds ", name,
                       " of the store at ", path_, ": they are in another order than it has them"));
    }
    return absl::FailedPreconditionError(absl::StrCat(
        "the store at ", path_, " has data files in ", folders_[i],
        ", which is not there: the drive is not mounted, or the data path is another one"));
  }
  return absl::OkStatus();
}

std::string DataFolders::Misplaced(uint32_t number) const {
  for (const std::string& folder : folders_) {
    std::string path = DataFilePath(folder, number);
    if (path != FilePath(number) && PathExists(path)) return path;
  }
  return "";
}

absl::Status DataFolders::RemoveFilesFrom(uint32_t number, const StoreUuid& uuid) const {
  for (const std::string& folder : folders_) {
    const absl::StatusOr<std::vector<std::string>> names = ListDirectory(folder);
    if (absl::IsNotFound(names.status())) continue;
    if (!names.ok()) return names.status();
    bool removed = false;
    for (const std::string& name : *names) {
      if (DataFileNumber(name) < int64_t{number}) continue;
      const std::string path = absl::StrCat(folder, "/", name);
      const absl::StatusOr<Leftover> leftover = ClassifyLeftover(path, uuid);
      if (!leftover.ok() || *leftover == Leftover::kForeign) continue;
      if (unlink(path.c_str()) != 0) return ErrnoStatus(errno, "cannot remove", path);
      removed = true;
    }
    if (removed) CAIRN_RETURN_IF_ERROR(SyncDirectory(folder));
  }
  return absl::OkStatus();
}

absl::Status DataFolders::CheckSpace(uint32_t first, uint64_t data_bytes, uint64_t data_file_bytes,
                                     uint64_t other_bytes) const {
  struct Need {
    std::string path;
    uint64_t bytes = 0;
  };
  // Several paths may be on one file system.
  std::map<dev_t, Need> needs;
  const auto add = [&needs](const std::string& path, uint64_t bytes) -> absl::Status {
    struct stat found;
    if (stat(path.c_str(), &found) != 0) return ErrnoStatus(errno, "cannot look at", path);
    Need& need = needs.try_emplace(found.st_dev, Need{.path = path}).first->second;
    need.bytes += bytes;
    return absl::OkStatus();
  };
  CAIRN_RETURN_IF_ERROR(add(path_, other_bytes));
  // Without a list of the files: there may be more than there is memory, if they are refused.
  const uint64_t whole_files = data_bytes / data_file_bytes;
  std::vector<uint64_t> bytes_of(folders_.size());
  for (uint64_t place = 0; place < period(); ++place) {
    uint64_t& bytes = bytes_of[FolderOf(first + place)];
    bytes += whole_files / period() * data_file_bytes;
    if (place < whole_files % period()) bytes += data_file_bytes;
    if (place == whole_files % period()) bytes += data_bytes % data_file_bytes;
  }
  for (size_t folder = 0; folder < folders_.size(); ++folder) {
    CAIRN_RETURN_IF_ERROR(add(ParentOf(folder), bytes_of[folder]));
  }
  for (const auto& [device, need] : needs) {
    CAIRN_RETURN_IF_ERROR(cairn::CheckSpace(need.path, need.bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> AbsoluteDataPaths(absl::Span<const std::string> paths) {
  std::vector<std::string> absolute;
  uint64_t bytes = 0;
  for (const std::string& path : paths) {
    if (path.empty() || path.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError("a data path is empty, or has a byte 0");
    }
    std::error_code error;
    std::string found = std::filesystem::absolute(path, error).lexically_normal().string();
    if (error) return ErrnoStatus(error.value(), "cannot find", path);
    while (found.size() > 1 && found.back() == '/') found.pop_back();
    if (std::find(absolute.begin(), absolute.end(), found) != absolute.end()) {
      return absl::InvalidArgumentError(absl::StrCat("the data path ", found, " is given twice"));
    }
    bytes += 4 + found.size();
    absolute.push_back(std::move(found));
  }
  if (bytes <= kDataPathsBytesMax) return absolute;
  return absl::InvalidArgumentError(absl::StrCat("the data paths have ", bytes,
                                                 " bytes, 4 more for each counted; at most ",
                                                 kDataPathsBytesMax, " fit the superblock"));
}

std::vector<uint32_t> InLowestTerms(std::vector<uint32_t> weights) {
  uint32_t divisor = 0;
  for (const uint32_t weight : weights) divisor = std::gcd(divisor, weight);
  if (divisor == 0) return {};  // There are none.
  bool alike = true;
  for (uint32_t& weight : weights) {
    weight /= divisor;
    alike &= weight == 1;
  }
  if (alike) weights.clear();
  return weights;
}

}  // namespace cairn
