// What a data file takes of a file system.

#include "io/data_file.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "tests/store_files_fixture.h"

namespace cairn {
namespace {

uint32_t CountExtentsFrom(int fd, uint64_t offset) {
  struct fiemap map = {};
  map.fm_start = offset;
  map.fm_length = FIEMAP_MAX_OFFSET - offset;
  return ioctl(fd, FS_IOC_FIEMAP, &map) == 0 ? map.fm_mapped_extents : 0;
}

class DataFileTest : public StoreFilesTest {
 protected:
  absl::StatusOr<FileDescriptor> Format(uint64_t bytes) {
    const std::string path = directory_ / "file";
    absl::StatusOr<FileDescriptor> fd = OpenFile(path, O_RDWR | O_CREAT | O_EXCL);
    if (!fd.ok()) return fd;
    const DataFileHeader header = {.data_file_bytes = bytes, .bytes = bytes};
    const absl::Status formatted = FormatDataFile(fd->get(), path, header, /*prewrite=*/false);
    if (!formatted.ok()) return formatted;
    return fd;
  }
  static bool OnExt4(int fd) {
    struct statfs file_system;
    return fstatfs(fd, &file_system) == 0 && file_system.f_type == EXT4_SUPER_MAGIC;
  }
};

TEST_F(DataFileTest, IsAsLongAsItsHeaderSays) {
  const absl::StatusOr<FileDescriptor> fd = Format(64_MiB);
  ASSERT_TRUE(fd.ok()) << fd.status();
  struct stat file;
  ASSERT_EQ(fstat(fd->get(), &file), 0);
  EXPECT_EQ(static_cast<uint64_t>(file.st_size), 64_MiB);
  EXPECT_LE(static_cast<uint64_t>(file.st_blocks) * 512, 64_MiB + DataFileTailBytes(64_MiB));
}

// Else first writes free a block of its extents over and over, and wait for a discard each time.
TEST_F(DataFileTest, NeverHasSoFewExtentsThatTheInodeHoldsThem) {
  const absl::StatusOr<FileDescriptor> fd = Format(64_MiB);
  ASSERT_TRUE(fd.ok()) << fd.status();
  if (!OnExt4(fd->get())) GTEST_SKIP() << "not on ext4";
  EXPECT_EQ(CountExtentsFrom(fd->get(), 64_MiB), 4u);
  const std::string bytes(1_MiB, 'x');
  for (uint64_t offset = 0; offset < 64_MiB; offset += bytes.size()) {
    ASSERT_TRUE(WriteAt(fd->get(), offset, bytes, "file").ok());
  }
  ASSERT_TRUE(SyncFile(fd->get(), "file").ok());
  EXPECT_GE(CountExtentsFrom(fd->get(), 0), 5u);
}

// 513 MiB are five extents at least: ext4 knows none of more than 128 MiB.
TEST_F(DataFileTest, ALargeOneNeedsNothingBehindIt) {
  EXPECT_EQ(DataFileTailBytes(1024_MiB), 0u);
  EXPECT_EQ(DataFileTailBytes(513_MiB), 0u);
  EXPECT_GT(DataFileTailBytes(512_MiB), 0u);
  EXPECT_EQ(DataFileTailBytes(16_MiB), 0u);
}

TEST_F(DataFileTest, WhatItTakesBeyondItsBytesIsTheIndexs) {
  const Files files = Open(256_MiB);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_GE((*files)->files().front().bytes, 64_MiB);
  // A file of many extents may have a block for them whatever its size: it is not the store's.
  const uint64_t others = (*files)->files().size() * kBlockBytes;
  EXPECT_LE(BytesOnDisk(path_) + (*files)->index_bytes_max(), 256_MiB + others);
  EXPECT_GE((*files)->index_bytes_max(), StoreFiles::IndexBytesReserved(256_MiB) / 8 * 7);
}

}  // namespace
}  // namespace cairn
