#pragma once

#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/disk_fixture.h"

namespace cairn {

// A small ext4 file system of its own, in a file behind a loop device. Needs root.
class LoopMount {
 public:
  // Empty, or why there can be none on this machine.
  static std::string Impediment() {
    if (geteuid() != 0) return "needs root";
    if (!Run("command -v mkfs.ext4 && command -v losetup && command -v mount")) {
      return "needs mkfs.ext4, losetup and mount: packages e2fsprogs and mount";
    }
    return Run("losetup -f") ? "" : "no loop devices";
  }

  explicit LoopMount(uint64_t bytes, uint32_t sector_bytes = 512) : sector_bytes_(sector_bytes) {
    EXPECT_EQ(mkdir(path().c_str(), 0755), 0);
    WriteFile(image(), "");
    std::filesystem::resize_file(image(), bytes);
    // No reserve for root, and what the journal takes is known.
    EXPECT_TRUE(Attach(absl::StrCat("mkfs.ext4 -q -b 4096 -m 0 -J size=4 $loop && ")));
  }
  ~LoopMount() {
    if (mounted_ && !Run("umount " + path())) Run("umount -l " + path());
  }
  LoopMount(const LoopMount&) = delete;
  LoopMount& operator=(const LoopMount&) = delete;

  std::string path() const { return directory_ / "mount"; }
  void Remount() {
    EXPECT_TRUE(Run("umount " + path()));
    mounted_ = false;
    EXPECT_TRUE(Attach(""));
  }
  uint64_t bytes_free() const {
    struct statvfs state;
    return statvfs(path().c_str(), &state) == 0 ? state.f_bavail * state.f_frsize : 0;
  }

 private:
  std::string image() const { return directory_ / "image"; }

  static bool Run(const std::string& command) {
    // NOLINTNEXTLINE(cert-env33-c): mount and losetup have no other interface worth having.
    return std::system(("( " + command + " ) >/dev/null 2>&1").c_str()) == 0;
  }
  // The device goes by itself with the mount: it was told to once it was in use.
  bool Attach(const std::string& first) {
    mounted_ = Run(absl::StrCat("loop=$(losetup --show -f -b ", sector_bytes_, " ", image(),
                                ") && { ", first, "mount -t ext4 $loop ", path(),
                                "; mounted=$?; losetup -d $loop; exit $mounted; }"));
    return mounted_;
  }

  TemporaryDirectory directory_;
  const uint32_t sector_bytes_;
  bool mounted_ = false;
};

}  // namespace cairn
