#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "io/store_files.h"
#include "src/base/mutex.h"
#include "tiers/nvme_tier.h"

namespace cairn {

// Flushes the device's cache under the data files. A flush that fails is the last of its file while
// the store is open: the kernel may have dropped what it could not write, or told somebody else of
// the error, so that a later flush that works proves nothing. The file is given up: nothing more is
// put there, nothing in it is called flushed, what is in it is read on.
//
// The next Open uses it again. What was not flushed then is in nobody's promise, and whether it
// reached the medium is decided by its checksum when it is read. Thread-safe.
class DataFlusher {
 public:
  using FlushFile = std::function<int(int fd)>;  // As fdatasync: 0 or an errno.

  // Both outlive the calls of Flush and FlushAll.
  DataFlusher(const StoreFiles* files, NvmeTier* l3, FlushFile flush_file);

  // Of one file; kUnavailable, now and from then on, names it. One flush at a time: of two at once
  // only one might be told of an error.
  absl::Status Flush(size_t file) ABSL_LOCKS_EXCLUDED(mutex_);
  // Of all but the files that were given up and hold nothing. Goes on after a failure and returns
  // the first.
  absl::Status FlushAll() ABSL_LOCKS_EXCLUDED(mutex_);

  // How many files are given up, and which and why.
  uint64_t given_up_count() const ABSL_LOCKS_EXCLUDED(mutex_);
  std::string GivenUp() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct File {
    bool flushing = false;
    std::string given_up;  // Not empty: it is, and why.
  };

  // Constant.
  const StoreFiles* const files_;
  NvmeTier* const l3_;
  const FlushFile flush_file_;

  mutable Mutex mutex_;
  CondVar flushed_;
  std::vector<File> states_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn
