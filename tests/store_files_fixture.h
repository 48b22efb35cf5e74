#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "io/data_file.h"
#include "io/store_files.h"
#include "tests/disk_fixture.h"

namespace cairn {

// Opens and breaks the files of one store in a temporary directory.
class StoreFilesTest : public ::testing::Test {
 protected:
  using Files = absl::StatusOr<std::unique_ptr<StoreFiles>>;

  Files Open(uint64_t bytes_max = 40_MiB, absl::Duration lock_wait = absl::ZeroDuration()) {
    return StoreFiles::Open({.path = path_, .bytes_max = bytes_max, .lock_wait = lock_wait});
  }
  std::string Data(uint32_t number) const { return DataFilePath(path_ + "/data", number); }

  // Whether a child process finds the store as the function says.
  template <typename Function>
  static bool InChild(Function function) {
    const pid_t child = fork();
    if (child == 0) _exit(function() ? 0 : 1);
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_ / "store";
};

inline std::string Message(const absl::Status& status) { return std::string(status.message()); }

}  // namespace cairn
