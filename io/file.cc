#include "io/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

constexpr size_t kBlock = 4096;

std::string NameOfProcess(pid_t pid) {
  std::string name;
  std::ifstream comm(absl::StrCat("/proc/", pid, "/comm"));
  std::getline(comm, name);
  return name.empty() ? absl::StrCat("process ", pid)
                      : absl::StrCat("process ", pid, " (", name, ")");
}

// "by process 123 (name)", or nothing where /proc/locks does not show it.
std::string Holder(int fd) {
  struct stat file;
  if (fstat(fd, &file) != 0) return "";
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    int pid = 0;
    unsigned device_major = 0;
    unsigned device_minor = 0;
    unsigned long long inode = 0;  // NOLINT(google-runtime-int): as sscanf has it.
    if (std::sscanf(line.c_str(), "%*u: FLOCK %*s WRITE %d %x:%x:%llu", &pid, &device_major,
                    &device_minor, &inode) != 4) {
      continue;
    }
    if (inode != file.st_ino || device_major != major(file.st_dev) ||
        device_minor != minor(file.st_dev)) {
      continue;
    }
    if (pid == getpid()) return " by this process";
    if (pid > 0) return absl::StrCat(" by ", NameOfProcess(pid));
  }
  return "";
}

}  // namespace

absl::Status ErrnoStatus(int error, std::string_view what, const std::string& path) {
  const std::string message =
      absl::StrCat(ToAbsl(what), " ", path, ": ", std::system_category().message(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(message);
    case EMFILE:
    case ENFILE:
      return absl::UnavailableError(absl::StrCat(message, " (raise the limit: ulimit -n)"));
    default:
      return absl::UnavailableError(message);
  }
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<FileDescriptor> OpenFile(const std::string& path, int flags) {
  struct stat file;
  if (lstat(path.c_str(), &file) == 0 && !S_ISREG(file.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is not a regular file"));
  }
  const int fd = open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return ErrnoStatus(errno, "cannot open", path);
  return FileDescriptor(fd);
}

bool PathExists(const std::string& path) {
  struct stat found;
  return lstat(path.c_str(), &found) == 0;
}

absl::Status SyncFile(int fd, const std::string& path) {
  if (fsync(fd) != 0) return ErrnoStatus(errno, "cannot sync", path);
  return absl::OkStatus();
}

absl::Status SyncDirectory(const std::string& path) {
  const FileDescriptor directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0) return ErrnoStatus(errno, "cannot open", path);
  // EINVAL: a file system without the notion.
  if (fsync(directory.get()) != 0 && errno != EINVAL) {
    return ErrnoStatus(errno, "cannot sync", path);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> MakeDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0) return true;
  if (errno == EEXIST) return false;
  const absl::Status status = ErrnoStatus(errno, "cannot create directory", path);
  // A missing parent is the caller's to make, not an absence to report.
  if (absl::IsNotFound(status)) return absl::UnavailableError(status.message());
  return status;
}

absl::Status ReadAt(int fd, uint64_t offset, absl::Span<std::byte> target) {
  size_t done = 0;
  while (done < target.size()) {
    const ssize_t size =
        pread(fd, target.data() + done, target.size() - done, static_cast<off_t>(offset + done));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) {
      return absl::DataLossError(
          absl::StrCat("read at ", offset + done, ": ", std::system_category().message(errno)));
    }
    if (size == 0) return absl::DataLossError(absl::StrCat("the file ends at ", offset + done));
    done += static_cast<size_t>(size);
  }
  return absl::OkStatus();
}

absl::Status WriteAt(int fd, uint64_t offset, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t size = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return ErrnoStatus(errno, "cannot write", path);
    bytes.remove_prefix(static_cast<size_t>(size));
    offset += static_cast<uint64_t>(size);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadStart(const std::string& path, size_t bytes_max) {
  absl::StatusOr<FileDescriptor> file = OpenFile(path, O_RDONLY);
  if (!file.ok()) return file.status();
  struct stat found = {};
  if (fstat(file->get(), &found) != 0) return ErrnoStatus(errno, "cannot look at", path);
  std::string bytes(std::min(bytes_max, static_cast<size_t>(found.st_size)), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t size =
        pread(file->get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return ErrnoStatus(errno, "cannot read", path);
    if (size == 0) break;
    done += static_cast<size_t>(size);
  }
  bytes.resize(done);
  return bytes;
}

absl::Status WriteZeros(int fd, uint64_t bytes, const std::string& path) {
  const std::string zeros(size_t{1} << 20, '\0');
  for (uint64_t offset = 0; offset < bytes; offset += zeros.size()) {
    const size_t size = std::min<uint64_t>(zeros.size(), bytes - offset);
    absl::Status written = WriteAt(fd, offset, std::string_view(zeros).substr(0, size), path);
    if (!written.ok()) return written;
  }
  return absl::OkStatus();
}

absl::Status AllocateFile(int fd, uint64_t bytes, const std::string& path) {
  int error = 0;
  do {
    error = fallocate(fd, 0, 0, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
  } while (error == EINTR);
  if (error == EOPNOTSUPP || error == ENOSYS) return WriteZeros(fd, bytes, path);
  if (error != 0) return ErrnoStatus(error, "cannot allocate", path);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> FreeBytes(const std::string& path) {
  struct statvfs file_system;
  if (statvfs(path.c_str(), &file_system) != 0) {
    return ErrnoStatus(errno, "cannot ask for free space at", path);
  }
  return uint64_t{file_system.f_bavail} * file_system.f_frsize;
}

absl::StatusOr<uint64_t> TotalBytes(const std::vector<std::string>& paths) {
  std::set<dev_t> seen;
  uint64_t bytes = 0;
  for (const std::string& path : paths) {
    struct stat file;
    struct statvfs file_system;
    if (stat(path.c_str(), &file) != 0 || statvfs(path.c_str(), &file_system) != 0) {
      return ErrnoStatus(errno, "cannot ask for the drive's size at", path);
    }
    if (seen.insert(file.st_dev).second) {
      bytes += uint64_t{file_system.f_blocks} * file_system.f_frsize;
    }
  }
  return bytes;
}

bool MakeDirect(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_DIRECT) != 0) return false;
  const std::unique_ptr<void, decltype(&std::free)> block(std::aligned_alloc(kBlock, kBlock),
                                                          &std::free);
  ssize_t size = 0;
  do {
    size = pread(fd, block.get(), kBlock, 0);
  } while (size < 0 && errno == EINTR);
  // Only a refusal of this kind of access counts: a device that fails shows it to the reader.
  if (size < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) {
    MakeBuffered(fd);
    return false;
  }
  return true;
}

void MakeBuffered(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags >= 0) fcntl(fd, F_SETFL, flags & ~O_DIRECT);
}

absl::Status LockFile(int fd, const std::string& path,
                      std::chrono::steady_clock::time_point deadline) {
  for (;;) {
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return absl::OkStatus();
    if (errno != EWOULDBLOCK && errno != EINTR) return ErrnoStatus(errno, "cannot lock", path);
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) {
      return absl::FailedPreconditionError(
          absl::StrCat("the store is in use", Holder(fd), " (lock on ", path, ")"));
    }
    std::this_thread::sleep_for(std::min<std::chrono::steady_clock::duration>(
        deadline - now, std::chrono::milliseconds(10)));
  }
}

bool IsFileAt(int fd, const std::string& path) {
  struct stat opened;
  struct stat found;
  return fstat(fd, &opened) == 0 && lstat(path.c_str(), &found) == 0 &&
         opened.st_ino == found.st_ino && opened.st_dev == found.st_dev;
}

}  // namespace cairn
