#include "bench/peers/usage.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"

namespace cairn::peers {
namespace {

namespace fs = std::filesystem;

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

std::vector<std::string> FilesUnder(const std::string& directory) {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(directory, error), end; entry != end;
       entry.increment(error)) {
    if (entry->is_regular_file(error)) paths.push_back(entry->path().string());
  }
  return paths;
}

}  // namespace

Usage UsageNow() {
  Usage usage;
  rusage resources = {};
  getrusage(RUSAGE_SELF, &resources);
  usage.cpu_s = Seconds(resources.ru_utime) + Seconds(resources.ru_stime);
  std::ifstream io("/proc/self/io");
  uint64_t cancelled = 0;
  std::string name;
  for (uint64_t value = 0; io >> name >> value;) {
    if (name == "read_bytes:") usage.device_bytes_read = value;
    if (name == "write_bytes:") usage.device_bytes_written = value;
    if (name == "cancelled_write_bytes:") cancelled = value;
  }
  // Removed before they were written.
  usage.device_bytes_written -= std::min(cancelled, usage.device_bytes_written);
  return usage;
}

double ThreadCpuSeconds() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

uint64_t BytesOnDisk(const std::string& directory) {
  uint64_t bytes = 0;
  for (const std::string& path : FilesUnder(directory)) {
    struct stat file;
    if (lstat(path.c_str(), &file) == 0) bytes += static_cast<uint64_t>(file.st_blocks) * 512;
  }
  return bytes;
}

absl::StatusOr<uint64_t> BytesFree(const std::string& directory) {
  struct statvfs system;
  if (statvfs(directory.c_str(), &system) != 0) return absl::ErrnoToStatus(errno, directory);
  return uint64_t{system.f_bavail} * system.f_frsize;
}

absl::Status DropCaches(const std::string& directory) {
  for (const std::string& path : FilesUnder(directory)) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("open ", path));
    // Dirty pages stay: they are written first.
    const int error = fdatasync(fd) != 0 ? errno : posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    if (error != 0) return absl::ErrnoToStatus(error, absl::StrCat("drop ", path));
  }
  return absl::OkStatus();
}

}  // namespace cairn::peers
