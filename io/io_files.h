#pragma once

#include <fcntl.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "src/base/check.h"

namespace cairn {

// The files of an engine by their ids, which are small and used again. Thread-compatible.
class IoFiles {
 public:
  struct File {
    int fd = -1;
    bool direct = false;  // Opened with O_DIRECT.
  };

  explicit IoFiles(uint32_t files_max) : files_max_(files_max) {}

  absl::StatusOr<int> Add(int fd) {
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("AddFile: descriptor ", fd, ": ", std::system_category().message(errno)));
    }
    const File file = {.fd = fd, .direct = (flags & O_DIRECT) != 0};
    for (; first_free_ < files_.size(); ++first_free_) {
      if (files_[first_free_].fd >= 0) continue;
      files_[first_free_] = file;
      return static_cast<int>(first_free_);
    }
    if (files_.size() >= files_max_) {
      return absl::ResourceExhaustedError(
          absl::StrCat("AddFile: ", files_max_, " files, the most this engine takes (files_max)"));
    }
    files_.push_back(file);
    return static_cast<int>(files_.size() - 1);
  }

  void Remove(int id) {
    CAIRN_CHECK(Find(id) != nullptr);
    files_[static_cast<size_t>(id)].fd = -1;
    if (static_cast<size_t>(id) < first_free_) first_free_ = static_cast<size_t>(id);
  }

  // nullptr when there is none.
  const File* Find(int id) const {
    if (id < 0 || static_cast<size_t>(id) >= files_.size()) return nullptr;
    const File& file = files_[static_cast<size_t>(id)];
    return file.fd < 0 ? nullptr : &file;
  }

 private:
  const uint32_t files_max_;
  std::vector<File> files_;
  size_t first_free_ = 0;  // No free id is below it.
};

}  // namespace cairn
