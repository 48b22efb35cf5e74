#include "io/store_layout.h"

#include <dirent.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/data_file.h"
#include "io/data_folders.h"
#include "io/file.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

absl::Status Foreign(const std::string& path, const std::string& name) {
  return absl::FailedPreconditionError(absl::StrCat(
      path, " holds ", PrintableKey(name),
      " and no superblock speaks for it: it is not of a store, and was left as it is"));
}

// Where a creation that was cut off has put data files: in PATH/data, and where its superblock says
// that was to come last.
std::vector<DataFolders> FoldersOfLeftovers(const std::string& path) {
  std::vector<DataFolders> folders = {DataFolders(path, StoreUuid{}, {}, {})};
  const absl::StatusOr<std::string> bytes =
      ReadStart(absl::StrCat(path, "/", kSuperblockNewName), kBlockBytes);
  if (!bytes.ok()) return folders;
  absl::StatusOr<Superblock> superblock = DecodeSuperblock(*bytes);
  if (!superblock.ok()) return folders;
  folders.emplace_back(path, superblock->uuid, std::move(superblock->data_paths),
                       std::move(superblock->data_weights));
  return folders;
}

absl::Status CheckLeftovers(const std::string& folder) {
  absl::StatusOr<std::vector<std::string>> names = ListDirectory(folder);
  // Not made yet; or a creation that failed has taken it away again meanwhile.
  if (absl::IsNotFound(names.status())) return absl::OkStatus();
  const std::filesystem::path place(folder);
  if (absl::IsFailedPrecondition(names.status())) {
    return Foreign(place.parent_path().string(), place.filename().string());
  }
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    if (DataFileNumber(name) < 0) return Foreign(folder, name);
    // No store has the UUID of zeros, so that a filled file counts as foreign.
    const absl::StatusOr<Leftover> leftover =
        ClassifyLeftover(absl::StrCat(folder, "/", name), StoreUuid{});
    if (absl::IsNotFound(leftover.status())) continue;
    if (!leftover.ok()) return leftover.status();
    if (*leftover != Leftover::kBlank) return Foreign(folder, name);
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t IndexBytesReserved(uint64_t bytes_max) {
  return std::clamp(bytes_max / 64, 8 * kMiB, 4096 * kMiB);
}

uint64_t DataBytesWithin(uint64_t bytes_max, uint64_t index_bytes_max) {
  const uint64_t others = index_bytes_max + kBlockBytes;
  return bytes_max < others ? 0 : bytes_max - others;
}

uint64_t ChooseDataFileBytes(uint64_t data_bytes, uint64_t period) {
  const uint64_t half = data_bytes / 2 / (2 * kMiB) * (2 * kMiB);
  // A large store takes larger files: few enough for the usual limit of open ones.
  constexpr uint64_t kFileCountWanted = 512;
  const uint64_t even = data_bytes / kFileCountWanted / (2 * kMiB) * (2 * kMiB);
  const uint64_t largest = std::clamp(even, 256 * kMiB, 1024 * kMiB);
  if (period == 1) return std::clamp(half, 16 * kMiB, largest);
  // Whole periods. Rounded up, so that no rest makes one more: the last is shorter.
  const uint64_t round_bytes = period * largest;
  const uint64_t count =
      std::max<uint64_t>(1, (data_bytes + round_bytes - 1) / round_bytes) * period;
  return std::max(16 * kMiB, (data_bytes / count + 2 * kMiB - 1) / (2 * kMiB) * (2 * kMiB));
}

std::vector<uint64_t> PlanFiles(uint64_t data_bytes, uint64_t data_file_bytes) {
  std::vector<uint64_t> file_bytes;
  while (data_bytes >= kDataFileBytesMin) {
    const uint64_t bytes = std::min(data_file_bytes, data_bytes / kBlockBytes * kBlockBytes);
    file_bytes.push_back(bytes);
    data_bytes -= bytes;
  }
  return file_bytes;
}

absl::StatusOr<DirectoryState> ClassifyDirectory(const std::string& path) {
  absl::StatusOr<std::vector<std::string>> names = ListDirectory(path);
  if (absl::IsNotFound(names.status())) return DirectoryState::kVacant;
  if (!names.ok()) return names.status();
  if (std::binary_search(names->begin(), names->end(), kSuperblockName)) {
    return DirectoryState::kStore;
  }
  const std::vector<DataFolders> leftovers = FoldersOfLeftovers(path);
  std::vector<std::string> expected = {kSuperblockNewName, "lost+found"};
  for (const DataFolders& leftover : leftovers) {
    for (const std::string& folder : leftover.folders()) {
      CAIRN_RETURN_IF_ERROR(CheckLeftovers(folder));
      expected.push_back(std::filesystem::path(folder).filename().string());
    }
  }
  for (const std::string& name : *names) {
    if (std::find(expected.begin(), expected.end(), name) == expected.end()) {
      return Foreign(path, name);
    }
  }
  return DirectoryState::kVacant;
}

absl::Status RemoveLeftovers(const std::string& path) {
  for (const DataFolders& leftover : FoldersOfLeftovers(path)) {
    CAIRN_RETURN_IF_ERROR(leftover.RemoveFilesFrom(0, StoreUuid{}));
    leftover.Remove();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), &closedir);
  if (directory == nullptr) {
    if (errno == ENOTDIR) {
      struct stat file;
      if (stat(path.c_str(), &file) == 0) {
        return absl::FailedPreconditionError(absl::StrCat(path, " is not a directory"));
      }
      return ErrnoStatus(ENOTDIR, "cannot open", path);
    }
    return ErrnoStatus(errno, "cannot open", path);
  }
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* const entry = readdir(directory.get());
    if (entry == nullptr) break;
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  if (errno != 0) return ErrnoStatus(errno, "cannot read", path);
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<Superblock> ReadSuperblock(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(const std::string bytes,
                         ReadStart(absl::StrCat(path, "/", kSuperblockName), kBlockBytes));
  absl::StatusOr<Superblock> superblock = DecodeSuperblock(bytes);
  if (superblock.ok()) return superblock;
  return absl::Status(superblock.status().code(),
                      absl::StrCat(path, ": ", superblock.status().message()));
}

absl::Status CheckSpace(const std::string& path, uint64_t bytes) {
  CAIRN_ASSIGN_OR_RETURN(const uint64_t free, FreeBytes(path));
  if (free >= bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the disk is too small: ", bytes, " bytes (", FormatBytes(bytes),
                   ") are needed under ", path, ", ", free, " (", FormatBytes(free), ") are free"));
}

absl::Status CheckOpenFiles(uint64_t file_count) {
  // What else a process has open: the index, sockets, the caller's own.
  constexpr uint64_t kOthers = 200;
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= file_count + kOthers) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      absl::StrCat("the store needs ", file_count, " data files, and this process may open ",
                   limit.rlim_cur, " files: raise the limit (ulimit -n) or data_file_bytes"));
}

absl::StatusOr<StoreUuid> NewUuid() {
  StoreUuid uuid;
  if (getrandom(uuid.data(), uuid.size(), 0) != static_cast<ssize_t>(uuid.size())) {
    return absl::UnavailableError("the system gives no random bytes");
  }
  // As RFC 4122 marks a random UUID.
  uuid[6] = static_cast<uint8_t>((uuid[6] & 0x0f) | 0x40);
  uuid[8] = static_cast<uint8_t>((uuid[8] & 0x3f) | 0x80);
  return uuid;
}

}  // namespace cairn
