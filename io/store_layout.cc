#include "io/store_layout.h"

#include <dirent.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "io/data_file.h"
#include "io/file.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

absl::Status Foreign(const std::string& path, const std::string& name) {
  return absl::FailedPreconditionError(
      absl::StrCat(path, " holds ", PrintableKey(name),
                   " and no superblock: it is not a store, and was left as it is"));
}

absl::Status CheckLeftovers(const std::string& path) {
  const std::string data_path = absl::StrCat(path, "/", kDataName);
  absl::StatusOr<std::vector<std::string>> names = ListDirectory(data_path);
  if (absl::IsFailedPrecondition(names.status())) return Foreign(path, kDataName);
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    const std::string shown = absl::StrCat(kDataName, "/", name);
    if (DataFileNumber(name) < 0) return Foreign(path, shown);
    // No store has the UUID of zeros, so that a filled file counts as foreign.
    const absl::StatusOr<Leftover> leftover =
        ClassifyLeftover(absl::StrCat(data_path, "/", name), StoreUuid{});
    if (absl::IsNotFound(leftover.status())) continue;
    if (!leftover.ok()) return leftover.status();
    if (*leftover != Leftover::kBlank) return Foreign(path, shown);
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

uint64_t ChooseDataFileBytes(uint64_t data_bytes) {
  const uint64_t half = data_bytes / 2 / (2 * kMiB) * (2 * kMiB);
  // A large store takes larger files: few enough for the usual limit of open ones.
  constexpr uint64_t kFileCountWanted = 512;
  const uint64_t even = data_bytes / kFileCountWanted / (2 * kMiB) * (2 * kMiB);
  return std::clamp(half, 16 * kMiB, std::clamp(even, 256 * kMiB, 1024 * kMiB));
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
  for (const std::string& name : *names) {
    // The root of a fresh ext4 has a lost+found.
    if (name == kSuperblockNewName || name == "lost+found") continue;
    if (name != kDataName) return Foreign(path, name);
    const absl::Status leftovers = CheckLeftovers(path);
    // A creation that failed has taken it away again meanwhile.
    if (!leftovers.ok() && !absl::IsNotFound(leftovers)) return leftovers;
  }
  return DirectoryState::kVacant;
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
