#include "io/store_files.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/store_files_fixture.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

// ---- Creating and opening ----

TEST_F(StoreFilesTest, CreatesAndOpensAgain) {
  StoreUuid uuid;
  {
    const Files files = Open();
    ASSERT_TRUE(files.ok()) << files.status();
    EXPECT_TRUE((*files)->created());
    uuid = (*files)->uuid();
    ASSERT_THAT((*files)->files(), SizeIs(2));
    EXPECT_EQ((*files)->files()[0].bytes, (*files)->data_file_bytes());
    EXPECT_EQ((*files)->offset_end(), (*files)->data_file_bytes() + (*files)->files()[1].bytes);
    EXPECT_EQ((*files)->index_path(), path_ + "/index");
    EXPECT_TRUE((*files)->problems().empty());
  }
  const Files files = Open();
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_FALSE((*files)->created());
  EXPECT_EQ((*files)->uuid(), uuid);
  EXPECT_THAT((*files)->files(), SizeIs(2));
}

TEST_F(StoreFilesTest, TakesAllOfItsBytesAtOnceAndNoMore) {
  const Files files = Open(96_MiB);
  ASSERT_TRUE(files.ok());
  const uint64_t index_bytes = StoreFiles::IndexBytesReserved(96_MiB);
  // Directories and what the file system keeps of a file are not the store's.
  EXPECT_LE(BytesOnDisk(path_), 96_MiB - index_bytes + 64_KiB);
  EXPECT_GE(BytesOnDisk(path_), 96_MiB - index_bytes - 1_MiB);
}

TEST_F(StoreFilesTest, KeepsItsOwnFileSize) {
  ASSERT_TRUE(
      StoreFiles::Open({.path = path_, .bytes_max = 96_MiB, .data_file_bytes = 16_MiB}).ok());
  const Files files =
      StoreFiles::Open({.path = path_ + "//", .bytes_max = 96_MiB, .data_file_bytes = 32_MiB});
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ((*files)->data_file_bytes(), 16_MiB);
  EXPECT_THAT((*files)->files(), SizeIs(6));
}

TEST_F(StoreFilesTest, FileLargerThanTheStore) {
  const Files files =
      StoreFiles::Open({.path = path_, .bytes_max = 40_MiB, .data_file_bytes = 256_MiB});
  ASSERT_TRUE(files.ok());
  ASSERT_THAT((*files)->files(), SizeIs(1));
  EXPECT_EQ((*files)->files()[0].bytes, 32_MiB - 4096);
}

TEST_F(StoreFilesTest, RefusesSizesThatCannotBe) {
  EXPECT_TRUE(absl::IsInvalidArgument(Open(8_MiB).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Open(0).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      StoreFiles::Open({.path = path_, .bytes_max = 40_MiB, .data_file_bytes = 5000}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(StoreFiles::Open({.bytes_max = 40_MiB}).status()));
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(StoreFilesTest, ReadsBlocks) {
  const Files files = Open();
  ASSERT_TRUE(files.ok());
  const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(4096, 8192),
                                                           &std::free);
  const absl::Span<std::byte> blocks(static_cast<std::byte*>(memory.get()), 8192);
  ASSERT_TRUE((*files)->ReadBlocks(0, blocks).ok());
  const absl::StatusOr<DataFileHeader> header =
      DecodeDataFileHeader({static_cast<const char*>(memory.get()), 4096});
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->uuid, (*files)->uuid());
  ASSERT_TRUE((*files)->ReadBlocks((*files)->data_file_bytes(), blocks).ok());
  EXPECT_TRUE(absl::IsDataLoss((*files)->ReadBlocks((*files)->offset_end() - 4096, blocks)));
  EXPECT_TRUE(absl::IsDataLoss((*files)->ReadBlocks((*files)->data_file_bytes() - 4096, blocks)));
  EXPECT_TRUE(absl::IsDataLoss((*files)->ReadBlocks(~uint64_t{4095}, blocks)));
}

TEST_F(StoreFilesTest, IsDirectWhereTheFileSystemAllows) {
  const Files files = Open();
  ASSERT_TRUE(files.ok());
  const int probe = open(directory_.path().c_str(), O_TMPFILE | O_RDWR | O_DIRECT, 0600);
  EXPECT_EQ((*files)->direct(), probe >= 0);
  if (probe >= 0) close(probe);
  for (const StoreFiles::File& file : (*files)->files()) {
    EXPECT_EQ((fcntl(file.fd, F_GETFL) & O_DIRECT) != 0, (*files)->direct());
    EXPECT_NE(fcntl(file.fd, F_GETFD) & FD_CLOEXEC, 0);
  }
}

// A kernel that knows neither fallocate nor O_DIRECT, as some file systems do not: a filter on the
// system calls of a child stands for it.
bool RefuseFallocateAndDirect() {
  const sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_fallocate, 5, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_fcntl, 0, 5),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SETFL, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_DIRECT, 2, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
  };
  const sock_fprog program = {.len = std::size(filter), .filter = const_cast<sock_filter*>(filter)};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST_F(StoreFilesTest, WorksWithoutFallocateAndDirectIo) {
  EXPECT_TRUE(InChild([&] {
    if (!RefuseFallocateAndDirect()) return false;
    const Files files = Open();
    return files.ok() && !(*files)->direct() && (*files)->files().size() == 2;
  }));
  // Written, not left as holes.
  EXPECT_GE(BytesOnDisk(path_), 40_MiB - 8_MiB - 4096);
  const Files files = Open();
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_FALSE((*files)->created());
}

// A file system in memory: often without direct I/O.
TEST_F(StoreFilesTest, WorksOnTmpfs) {
  struct statfs file_system;
  constexpr long kTmpfsMagic = 0x01021994;  // NOLINT(google-runtime-int): as statfs has it.
  if (statfs("/dev/shm", &file_system) != 0 || file_system.f_type != kTmpfsMagic ||
      access("/dev/shm", W_OK) != 0) {
    GTEST_SKIP() << "no tmpfs at /dev/shm";
  }
  std::string path = "/dev/shm/cairn-XXXXXX";
  ASSERT_NE(mkdtemp(path.data()), nullptr);
  {
    const Files files = StoreFiles::Open({.path = path, .bytes_max = 40_MiB});
    EXPECT_TRUE(files.ok()) << files.status();
    EXPECT_TRUE(StoreFiles::OpenReadOnly(path).ok());
  }
  std::filesystem::remove_all(path);
}

// ---- Paths and permissions ----

TEST_F(StoreFilesTest, MissingParentIsUnavailable) {
  const Files files = StoreFiles::Open({.path = directory_ / "a/b", .bytes_max = 40_MiB});
  EXPECT_TRUE(absl::IsUnavailable(files.status())) << files.status();
  EXPECT_FALSE(std::filesystem::exists(directory_ / "a"));
}

TEST_F(StoreFilesTest, FileAsParentIsUnavailable) {
  WriteFile(directory_ / "file", "x");
  const Files files = StoreFiles::Open({.path = directory_ / "file/store", .bytes_max = 40_MiB});
  EXPECT_TRUE(absl::IsUnavailable(files.status())) << files.status();
}

TEST_F(StoreFilesTest, FileAsPathIsRefused) {
  WriteFile(path_, "x");
  EXPECT_TRUE(absl::IsFailedPrecondition(Open().status())) << Open().status();
  EXPECT_EQ(ReadFile(path_), "x");
}

// In a child that is nobody, so that it means something to root too.
TEST_F(StoreFilesTest, NoPermissionIsUnavailable) {
  ASSERT_TRUE(Open().ok());
  constexpr uid_t kNobody = 65534;
  const bool root = geteuid() == 0;
  ASSERT_EQ(chmod(directory_.path().c_str(), 0555), 0);
  EXPECT_TRUE(InChild([&] {
    if (root && (setgid(kNobody) != 0 || setuid(kNobody) != 0)) return false;
    return absl::IsUnavailable(
        StoreFiles::Open({.path = directory_ / "new", .bytes_max = 40_MiB}).status());
  }));
  // The files of an existing store, too, are not taken for lost ones.
  ASSERT_EQ(chmod(path_.c_str(), 0755), 0);
  ASSERT_EQ(chmod((path_ + "/data").c_str(), 0755), 0);
  ASSERT_EQ(chmod((path_ + "/superblock").c_str(), 0444), 0);
  ASSERT_EQ(chmod(Data(0).c_str(), 0), 0);
  EXPECT_TRUE(InChild([&] {
    if (root && (setgid(kNobody) != 0 || setuid(kNobody) != 0)) return false;
    return absl::IsUnavailable(Open().status()) &&
           absl::IsUnavailable(StoreFiles::OpenReadOnly(path_).status());
  }));
  ASSERT_EQ(chmod(directory_.path().c_str(), 0755), 0);
}

TEST_F(StoreFilesTest, TooFewDescriptorsSaysWhatToRaise) {
  EXPECT_TRUE(InChild([&] {
    const rlimit limit = {.rlim_cur = 64, .rlim_max = 64};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
    const Files files = Open();
    return absl::IsUnavailable(files.status()) &&
           Message(files.status()).find("ulimit -n") != std::string::npos &&
           !std::filesystem::exists(path_);
  }));
}

// ---- Room ----

TEST_F(StoreFilesTest, TooSmallADiskLeavesNothingBehind) {
  const Files files = Open(uint64_t{1} << 50);
  EXPECT_TRUE(absl::IsResourceExhausted(files.status()) || absl::IsUnavailable(files.status()))
      << files.status();
  EXPECT_FALSE(std::filesystem::exists(path_));
  const Files wide = StoreFiles::Open(
      {.path = path_, .bytes_max = uint64_t{1} << 50, .data_file_bytes = uint64_t{1} << 40});
  EXPECT_TRUE(absl::IsUnavailable(wide.status()) || absl::IsResourceExhausted(wide.status()));
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(StoreFilesTest, SaysHowManyBytesAreNeededAndFree) {
  // More than the disk has, in few files.
  const Files files = StoreFiles::Open(
      {.path = path_, .bytes_max = uint64_t{1} << 46, .data_file_bytes = uint64_t{1} << 40});
  ASSERT_TRUE(absl::IsResourceExhausted(files.status())) << files.status();
  EXPECT_THAT(Message(files.status()), HasSubstr("are needed under"));
  EXPECT_THAT(Message(files.status()), HasSubstr("are free"));
  EXPECT_FALSE(std::filesystem::exists(path_));
}

// An allocation that fails half way: a limit on the size of files stands for a full disk.
TEST_F(StoreFilesTest, FailureHalfWayLeavesNothingBehind) {
  EXPECT_TRUE(InChild([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {.rlim_cur = 12_MiB, .rlim_max = 12_MiB};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return false;
    return absl::IsResourceExhausted(Open().status()) && !std::filesystem::exists(path_);
  }));
  ASSERT_TRUE(std::filesystem::create_directory(path_));
  EXPECT_TRUE(InChild([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {.rlim_cur = 12_MiB, .rlim_max = 12_MiB};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return false;
    return absl::IsResourceExhausted(Open().status());
  }));
  EXPECT_TRUE(std::filesystem::is_empty(path_));
}

TEST_F(StoreFilesTest, FailedGrowthRemovesOnlyTheNewFiles) {
  ASSERT_TRUE(Open().ok());
  const auto before = Snapshot(path_ + "/data");
  EXPECT_TRUE(InChild([&] {
    signal(SIGXFSZ, SIG_IGN);
    // The second of the new files is larger than the first data files are.
    const rlimit limit = {.rlim_cur = 15_MiB, .rlim_max = 15_MiB};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return false;
    return absl::IsResourceExhausted(Open(90_MiB).status());
  }));
  std::vector<std::string> names;
  for (const auto& [name, state] : before) names.push_back(name);
  std::vector<std::string> now;
  for (const auto& [name, state] : Snapshot(path_ + "/data")) now.push_back(name);
  EXPECT_EQ(now, names);
  const Files files = Open();
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT((*files)->files(), SizeIs(2));
}

// ---- Growing and shrinking ----

TEST_F(StoreFilesTest, GrowsByFilesBehindTheLast) {
  std::vector<StoreFiles::File> before;
  {
    const Files files = Open();
    ASSERT_TRUE(files.ok());
    before = (*files)->files();
  }
  const Files files = Open(90_MiB);
  ASSERT_TRUE(files.ok()) << files.status();
  ASSERT_GT((*files)->files().size(), before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ((*files)->files()[i].bytes, before[i].bytes);
  }
  EXPECT_LE(BytesOnDisk(path_) + StoreFiles::IndexBytesReserved(90_MiB), 90_MiB + 64_KiB);
  EXPECT_TRUE((*files)->problems().empty());
}

TEST_F(StoreFilesTest, ShrinksFromTheEndWhenTold) {
  const Files files = Open(90_MiB);
  ASSERT_TRUE(files.ok());
  const uint64_t end = (*files)->offset_end();
  const size_t count = (*files)->files().size();
  EXPECT_EQ((*files)->OffsetEndWithin(90_MiB), end);
  ASSERT_TRUE((*files)->ShrinkTo(90_MiB).ok());
  EXPECT_THAT((*files)->files(), SizeIs(count));

  const uint64_t smaller = (*files)->OffsetEndWithin(60_MiB);
  EXPECT_LT(smaller, end);
  ASSERT_TRUE((*files)->ShrinkTo(60_MiB).ok());
  EXPECT_EQ((*files)->offset_end(), smaller);
  EXPECT_LE(BytesOnDisk(path_) + StoreFiles::IndexBytesReserved(60_MiB), 60_MiB + 64_KiB);
  EXPECT_EQ((*files)->OffsetEndWithin(16_MiB), 0u);
  EXPECT_TRUE(absl::IsInvalidArgument((*files)->ShrinkTo(16_MiB)));
  EXPECT_EQ((*files)->offset_end(), smaller);
}

TEST_F(StoreFilesTest, OpenWithLessGivesNothingBackByItself) {
  ASSERT_TRUE(Open(90_MiB).ok());
  uint64_t end = 0;
  {
    const Files files = Open(60_MiB);
    ASSERT_TRUE(files.ok());
    end = (*files)->offset_end();
    EXPECT_GT(end, (*files)->OffsetEndWithin(60_MiB));
    ASSERT_TRUE((*files)->ShrinkTo(60_MiB).ok());
  }
  const Files files = Open(60_MiB);
  ASSERT_TRUE(files.ok());
  EXPECT_LT((*files)->offset_end(), end);
  EXPECT_TRUE((*files)->problems().empty());
}

TEST_F(StoreFilesTest, RemovesWhatAShrinkThatWasCutOffLeft) {
  ASSERT_TRUE(Open(90_MiB).ok());
  std::filesystem::copy_file(Data(2), directory_ / "kept");
  {
    const Files files = Open(90_MiB);
    ASSERT_TRUE((*files)->ShrinkTo(60_MiB).ok());
  }
  std::filesystem::copy_file(directory_ / "kept", Data(2));
  ASSERT_TRUE(Open(60_MiB).ok());
  EXPECT_FALSE(std::filesystem::exists(Data(2)));
}

TEST_F(StoreFilesTest, NeverGrowsOverAForeignFile) {
  ASSERT_TRUE(Open().ok());
  WriteFile(Data(2), "a file of someone else");
  const Files files = Open(90_MiB);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT((*files)->files(), SizeIs(2));
  ASSERT_THAT((*files)->problems(), SizeIs(1));
  EXPECT_THAT((*files)->problems()[0], HasSubstr("000002.data"));
  EXPECT_EQ(ReadFile(Data(2)), "a file of someone else");
}

}  // namespace
}  // namespace cairn
