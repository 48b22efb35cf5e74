#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cairn::peers {

// What this process has had from the system so far. CPU time with that of all its threads, those of
// the kernel that serve it (io_uring's workers) included, and those of the system as a whole
// (writeback) not.
struct Usage {
  double cpu_s = 0;
  // As the block layer is asked; 0 both where the kernel does not count.
  uint64_t device_bytes_read = 0;
  uint64_t device_bytes_written = 0;
};
Usage UsageNow();

// CPU time of the calling thread.
double ThreadCpuSeconds();

// What the file system has given to all files under the directory.
uint64_t BytesOnDisk(const std::string& directory);

absl::StatusOr<uint64_t> BytesFree(const std::string& directory);

// Writes back every file under the directory and takes it out of the page cache.
absl::Status DropCaches(const std::string& directory);

}  // namespace cairn::peers
