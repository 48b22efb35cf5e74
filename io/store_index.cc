#include "io/store_index.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "io/file.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

constexpr uint64_t kReadBytes = uint64_t{1} << 20;

struct FreeMemory {
  void operator()(std::byte* memory) const { std::free(memory); }
};

std::string NewPath(const StoreFiles& files) { return files.index_path() + ".new"; }
std::string OldPath(const StoreFiles& files) { return files.index_path() + ".old"; }
std::string StorePath(const StoreFiles& files) {
  return std::filesystem::path(files.index_path()).parent_path().string();
}

absl::Status Remove(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  return error ? ErrnoStatus(error.value(), "cannot remove", path) : absl::OkStatus();
}

absl::Status Rename(const std::string& from, const std::string& to) {
  return rename(from.c_str(), to.c_str()) == 0 ? absl::OkStatus()
                                               : ErrnoStatus(errno, "cannot rename", from);
}

absl::Status Exchange(const StoreFiles& files) {
  const std::string path = files.index_path();
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return Rename(NewPath(files), path);
  if (renameat2(AT_FDCWD, NewPath(files).c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) {
    return absl::OkStatus();
  }
  if (errno != EINVAL && errno != ENOSYS) return ErrnoStatus(errno, "cannot replace", path);
  // A file system that exchanges nothing.
  CAIRN_RETURN_IF_ERROR(Remove(OldPath(files)));
  CAIRN_RETURN_IF_ERROR(Rename(path, OldPath(files)));
  return Rename(NewPath(files), path);
}

}  // namespace

// Files are made of zeros, and a record begins with its magic. Ends at the first byte of a store
// that was used; one that was not is mostly skipped.
absl::StatusOr<bool> WasWritten(const StoreFiles& files) {
  const std::unique_ptr<std::byte, FreeMemory> memory(
      static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, kReadBytes)));
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory of ", kReadBytes, " bytes"));
  }
  for (size_t file = 0; file < files.files().size(); ++file) {
    if (files.files()[file].fd < 0) continue;
    const uint64_t begin = file * files.data_file_bytes();
    const uint64_t end = begin + files.files()[file].bytes;
    for (uint64_t at = files.NextWritten(begin + kBlockBytes); at < end;
         at = at + kReadBytes < end ? files.NextWritten(at + kReadBytes) : end) {
      const absl::Span<std::byte> bytes(memory.get(), std::min(kReadBytes, end - at));
      CAIRN_RETURN_IF_ERROR(files.ReadBlocks(at, bytes));
      if (std::any_of(bytes.begin(), bytes.end(),
                      [](std::byte byte) { return byte != std::byte{}; }))
        return true;
    }
  }
  return false;
}

absl::StatusOr<std::unique_ptr<Index>> OpenStoreIndex(const StoreFiles& files, uint64_t bytes_max) {
  RocksDbIndexOptions options = {
      .path = files.index_path(), .bytes_max = bytes_max, .create = files.created()};
  absl::StatusOr<std::unique_ptr<Index>> index = OpenRocksDbIndex(options);
  if (index.ok()) {
    // What a rebuilding that was cut off has left beside it.
    CAIRN_RETURN_IF_ERROR(Remove(NewPath(files)));
    CAIRN_RETURN_IF_ERROR(Remove(OldPath(files)));
  }
  if (!absl::IsNotFound(index.status())) return index;
  // The first Open may have been cut off between the files and the index.
  CAIRN_ASSIGN_OR_RETURN(const bool written, WasWritten(files));
  if (written) {
    return absl::DataLossError(absl::StrCat("the index ", options.path,
                                            " is missing, and tensors were written",
                                            RebuildInstruction(StorePath(files))));
  }
  options.create = true;
  return OpenRocksDbIndex(options);
}

absl::StatusOr<std::string> VacantNewIndexPath(const StoreFiles& files) {
  CAIRN_RETURN_IF_ERROR(Remove(NewPath(files)));
  return NewPath(files);
}

absl::Status InstallNewIndex(const StoreFiles& files) {
  CAIRN_RETURN_IF_ERROR(SyncDirectory(NewPath(files)));
  CAIRN_RETURN_IF_ERROR(Exchange(files));
  CAIRN_RETURN_IF_ERROR(SyncDirectory(StorePath(files)));
  CAIRN_RETURN_IF_ERROR(Remove(NewPath(files)));
  return Remove(OldPath(files));
}

}  // namespace cairn
