#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace cairn {

// What the files of a store need of the operating system, with its errors as statuses:
// kNotFound (ENOENT), kResourceExhausted (no space, quota), else kUnavailable.
absl::Status ErrnoStatus(int error, std::string_view what, const std::string& path);

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();

  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// Close-on-exec, of mode 0600 when `flags` creates. Refuses what is not a regular file
// (kFailedPrecondition), so that nobody waits for the other end of a pipe.
absl::StatusOr<FileDescriptor> OpenFile(const std::string& path, int flags);

// Of any kind, a link that leads nowhere too.
bool PathExists(const std::string& path);

absl::Status SyncFile(int fd, const std::string& path);
absl::Status SyncDirectory(const std::string& path);
// True when it was made, false when it was there.
absl::StatusOr<bool> MakeDirectory(const std::string& path);

// kDataLoss when the file ends before or the device fails.
absl::Status ReadAt(int fd, uint64_t offset, absl::Span<std::byte> target);
absl::Status WriteAt(int fd, uint64_t offset, std::string_view bytes, const std::string& path);
// At most `bytes_max` bytes of it, from the start.
absl::StatusOr<std::string> ReadStart(const std::string& path, size_t bytes_max);

// Writes zeros to the first bytes of a file.
absl::Status WriteZeros(int fd, uint64_t bytes, const std::string& path);

// Makes an empty file `bytes` long with all its blocks allocated, by writing zeros where the file
// system knows no other way.
absl::Status AllocateFile(int fd, uint64_t bytes, const std::string& path);
absl::StatusOr<uint64_t> FreeBytes(const std::string& path);
// Of the file systems that the paths are on, each counted once.
absl::StatusOr<uint64_t> TotalBytes(const std::vector<std::string>& paths);

// Makes I/O through the descriptor direct and tries it with a read of the first block. False, and
// buffered as before, where the file system refuses either.
bool MakeDirect(int fd);
void MakeBuffered(int fd);

// Locks the file for this descriptor (flock), trying until the deadline. kFailedPrecondition
// names who holds it, where the system tells.
absl::Status LockFile(int fd, const std::string& path,
                      std::chrono::steady_clock::time_point deadline);

// Whether the descriptor's file is still the one of that path.
bool IsFileAt(int fd, const std::string& path);

}  // namespace cairn
