#include "io/store_files.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "io/data_file.h"
#include "io/store_layout.h"
#include "tests/disk_fixture.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

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

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// ---- Sizes ----

TEST(StoreLayoutTest, IndexIsASixtyFourthWithinBounds) {
  EXPECT_EQ(StoreFiles::IndexBytesReserved(32_MiB), 8_MiB);
  EXPECT_EQ(StoreFiles::IndexBytesReserved(1_GiB), 16_MiB);
  EXPECT_EQ(StoreFiles::IndexBytesReserved(uint64_t{1} << 50), 4_GiB);
}

TEST(StoreLayoutTest, SmallStoresGetTwoFilesOrMore) {
  EXPECT_EQ(ChooseDataFileBytes(uint64_t{1} << 40), 256_MiB);
  EXPECT_EQ(ChooseDataFileBytes(512_MiB), 256_MiB);
  EXPECT_EQ(ChooseDataFileBytes(511_MiB), 254_MiB);
  EXPECT_EQ(ChooseDataFileBytes(20_MiB), 16_MiB);
  EXPECT_THAT(PlanFiles(24_MiB - 4096, 16_MiB), ::testing::ElementsAre(16_MiB, 8_MiB - 4096));
  EXPECT_THAT(PlanFiles(33_MiB - 1, 16_MiB), ::testing::ElementsAre(16_MiB, 16_MiB));
  EXPECT_THAT(PlanFiles(33_MiB, 16_MiB), ::testing::ElementsAre(16_MiB, 16_MiB, 1_MiB));
  EXPECT_THAT(PlanFiles(1_MiB - 1, 16_MiB), SizeIs(0));
}

TEST(StoreLayoutTest, NamesOfDataFiles) {
  EXPECT_EQ(DataFilePath("d", 7), "d/000007.data");
  EXPECT_EQ(DataFileNumber("000007.data"), 7);
  EXPECT_EQ(DataFileNumber("1234567.data"), 1234567);
  for (const char* name : {"7.data", "0000007.data", "000007.dat", "+00007.data", "x00007.data",
                           "000007.data~", ".data", "99999999999.data", "-00001.data"}) {
    EXPECT_EQ(DataFileNumber(name), -1) << name;
  }
}

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
    ASSERT_TRUE((*files)->ShrinkTo(40_MiB).ok());
  }
  std::filesystem::copy_file(directory_ / "kept", Data(2));
  ASSERT_TRUE(Open(40_MiB).ok());
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

// ---- The lock ----

TEST_F(StoreFilesTest, RefusesTwoInOneProcess) {
  const Files first = Open();
  ASSERT_TRUE(first.ok());
  const Files second = Open();
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_THAT(Message(second.status()), HasSubstr("this process"));
}

TEST_F(StoreFilesTest, RefusesAndNamesAnotherProcess) {
  const Files first = Open();
  ASSERT_TRUE(first.ok());
  const std::string name = absl::StrCat("process ", getpid());
  EXPECT_TRUE(InChild([&] {
    // The child has a copy of the parent's description: drop it, as exec would.
    for (const StoreFiles::File& file : (*first)->files()) close(file.fd);
    const Files files = Open();
    return absl::IsFailedPrecondition(files.status()) &&
           Message(files.status()).find(name) != std::string::npos;
  }));
}

TEST_F(StoreFilesTest, WaitsForADyingOwner) {
  absl::StatusOr<std::unique_ptr<StoreFiles>> first = Open();
  ASSERT_TRUE(first.ok());
  std::jthread dying([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    first->reset();
  });
  const Files second = Open(40_MiB, absl::Minutes(1));
  EXPECT_TRUE(second.ok()) << second.status();
}

TEST_F(StoreFilesTest, LockIsFreeAfterTheOwnerWasKilled) {
  const pid_t child = fork();
  if (child == 0) {
    const Files files = Open();
    if (files.ok()) raise(SIGKILL);
    _exit(1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  const Files files = Open(40_MiB, absl::Seconds(2));
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_FALSE((*files)->created());
}

TEST_F(StoreFilesTest, InspectionNeitherTakesNorHeedsTheLock) {
  const Files owner = Open();
  ASSERT_TRUE(owner.ok());
  const auto before = Snapshot(path_);
  {
    const Files reader = StoreFiles::OpenReadOnly(path_);
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ((*reader)->uuid(), (*owner)->uuid());
    EXPECT_EQ((*reader)->offset_end(), (*owner)->offset_end());
  }
  EXPECT_EQ(Snapshot(path_), before);
}

// ---- Creation that is cut off ----

TEST_F(StoreFilesTest, CompletesWhatAKilledCreationLeft) {
  for (int i = 0; i < 30; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      Open(72_MiB).IgnoreError();
      _exit(0);
    }
    // From before the first file to after the last.
    std::this_thread::sleep_for(std::chrono::microseconds(150 * i));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    {
      const Files files = Open(72_MiB, absl::Seconds(2));
      ASSERT_TRUE(files.ok()) << files.status();
      EXPECT_TRUE((*files)->problems().empty());
      EXPECT_EQ((*files)->files().size(), 2u + 1u);
    }
    std::filesystem::remove_all(path_);
  }
}

// Every state that a creation goes through, made by hand.
TEST_F(StoreFilesTest, CompletesEveryStateOfACreation) {
  const auto check = [&](const char* state) {
    const Files files = Open();
    ASSERT_TRUE(files.ok()) << state << ": " << files.status();
    EXPECT_TRUE((*files)->created()) << state;
    EXPECT_THAT((*files)->files(), SizeIs(2)) << state;
    EXPECT_FALSE(std::filesystem::exists(Data(5))) << state;
  };
  std::filesystem::create_directory(path_);
  check("an empty directory");

  std::filesystem::remove(path_ + "/superblock");
  check("all but the superblock");

  std::filesystem::rename(path_ + "/superblock", path_ + "/superblock.new");
  check("a superblock that was not renamed");

  std::filesystem::rename(path_ + "/superblock", path_ + "/superblock.new");
  std::filesystem::resize_file(path_ + "/superblock.new", 100);
  WriteFile(Data(1), "");
  WriteFile(Data(5), std::string(100'000, '\0'));
  check("files without a header");

  std::filesystem::remove(path_ + "/superblock");
  std::filesystem::remove(Data(0));
  check("no first file");

  std::filesystem::remove_all(path_);
  std::filesystem::create_directories(path_ + "/data");
  std::filesystem::create_directories(path_ + "/lost+found");
  check("no file at all");
}

TEST_F(StoreFilesTest, TwoThatCreateAtOnceMakeOneStore) {
  for (int i = 0; i < 10; ++i) {
    std::vector<pid_t> children;
    for (int process = 0; process < 3; ++process) {
      const pid_t child = fork();
      if (child == 0) _exit(Open(40_MiB, absl::Minutes(1)).ok() ? 0 : 1);
      children.push_back(child);
    }
    for (const pid_t child : children) {
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      EXPECT_EQ(status, 0);
    }
    const Files files = Open();
    ASSERT_TRUE(files.ok()) << files.status();
    EXPECT_FALSE((*files)->created());
    EXPECT_TRUE((*files)->problems().empty());
    std::filesystem::remove_all(path_);
  }
}

// ---- What is not ours ----

TEST_F(StoreFilesTest, RefusesDirectoriesOfOthers) {
  struct Case {
    std::string file;
    std::string bytes;
  };
  const Case cases[] = {
      {"readme.txt", "hello"},
      {"index/CURRENT", "MANIFEST-000001\n"},
      {"data/notes.txt", ""},
      {"data/000000.data", "not a header"},
      {"data/000000.data", std::string(5000, '\0') + "x"},
      {"data/000000.data/file", ""},
      {"data", "a file"},
  };
  for (const Case& foreign : cases) {
    const std::filesystem::path file = path_ + "/" + foreign.file;
    std::filesystem::create_directories(file.parent_path());
    WriteFile(file, foreign.bytes);
    const auto before = Snapshot(path_);
    const absl::Status status = Open().status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << foreign.file << ": " << status;
    EXPECT_THAT(Message(status), HasSubstr(foreign.file.substr(0, 4)));
    EXPECT_EQ(Snapshot(path_), before);
    EXPECT_TRUE(absl::IsNotFound(StoreFiles::OpenReadOnly(path_).status()));
    std::filesystem::remove_all(path_);
  }
}

TEST_F(StoreFilesTest, RefusesToReplaceFilledDataFilesWithoutASuperblock) {
  ASSERT_TRUE(Open().ok());
  FlipByte(Data(0), 4096);
  std::filesystem::remove(path_ + "/superblock");
  EXPECT_TRUE(absl::IsFailedPrecondition(Open().status()));
}

TEST_F(StoreFilesTest, SuperblockOfAnotherVersion) {
  ASSERT_TRUE(Open().ok());
  FlipByte(path_ + "/superblock", 8, 1 ^ 9);
  const Files files = Open();
  EXPECT_TRUE(absl::IsFailedPrecondition(files.status())) << files.status();
  EXPECT_THAT(Message(files.status()), HasSubstr("format version 9, this build reads 1"));
  EXPECT_TRUE(absl::IsFailedPrecondition(StoreFiles::OpenReadOnly(path_).status()));
}

TEST_F(StoreFilesTest, EveryFlippedByteOfTheSuperblockIsSeen) {
  const Superblock superblock = {.uuid = {1, 2, 3}, .data_file_bytes = 16_MiB, .file_count = 3};
  std::string block = EncodeSuperblock(superblock);
  ASSERT_TRUE(DecodeSuperblock(block).ok());
  std::string header = EncodeDataFileHeader(
      {.uuid = {1, 2, 3}, .data_file_bytes = 16_MiB, .bytes = 8_MiB, .number = 2});
  ASSERT_TRUE(DecodeDataFileHeader(header).ok());
  for (size_t i = 0; i < kBlockBytes; ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      block[i] = static_cast<char>(block[i] ^ (1 << bit));
      header[i] = static_cast<char>(header[i] ^ (1 << bit));
      ASSERT_FALSE(DecodeSuperblock(block).ok()) << i;
      ASSERT_FALSE(DecodeDataFileHeader(header).ok()) << i;
      block[i] = static_cast<char>(block[i] ^ (1 << bit));
      header[i] = static_cast<char>(header[i] ^ (1 << bit));
    }
    ASSERT_FALSE(DecodeSuperblock(std::string_view(block).substr(0, i)).ok());
  }
  EXPECT_FALSE(DecodeSuperblock(header).ok());
  EXPECT_FALSE(DecodeDataFileHeader(block).ok());
}

TEST_F(StoreFilesTest, DamagedSuperblockIsDataLossAndChangesNothing) {
  ASSERT_TRUE(Open().ok());
  FlipByte(path_ + "/superblock", 100);
  const auto before = Snapshot(path_);
  EXPECT_TRUE(absl::IsDataLoss(Open().status())) << Open().status();
  EXPECT_TRUE(absl::IsDataLoss(StoreFiles::OpenReadOnly(path_).status()));
  EXPECT_EQ(Snapshot(path_), before);
  WriteFile(path_ + "/superblock", "");
  EXPECT_TRUE(absl::IsDataLoss(Open().status()));
}

// ---- Damage to data files ----

class BadDataFileTest : public StoreFilesTest {
 protected:
  void ExpectBad(uint32_t number, const char* what) {
    for (const bool read_only : {true, false}) {
      const std::string content =
          std::filesystem::exists(Data(number)) ? ReadFile(Data(number)) : "";
      const Files files = read_only ? StoreFiles::OpenReadOnly(path_) : Open(72_MiB);
      ASSERT_TRUE(files.ok()) << files.status();
      ASSERT_THAT((*files)->problems(), SizeIs(1));
      EXPECT_THAT((*files)->problems()[0], HasSubstr(what));
      EXPECT_THAT((*files)->problems()[0], HasSubstr(absl::StrCat("00000", number, ".data")));
      EXPECT_EQ((*files)->files()[number].fd, -1);
      EXPECT_EQ((*files)->files()[number].bytes, 0u);
      EXPECT_GE((*files)->files()[1 - number].fd, 0);
      EXPECT_EQ(std::filesystem::exists(Data(number)) ? ReadFile(Data(number)) : "", content);
    }
  }
  void SetUp() override { ASSERT_TRUE(Open(72_MiB).ok()); }
};

TEST_F(BadDataFileTest, Missing) {
  std::filesystem::remove(Data(1));
  ExpectBad(1, "missing");
}
TEST_F(BadDataFileTest, FirstMissing) {
  std::filesystem::remove(Data(0));
  ExpectBad(0, "missing");
  // Still only one owner.
  const Files first = Open(72_MiB);
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Open(72_MiB).status()));
}
TEST_F(BadDataFileTest, Truncated) {
  std::filesystem::resize_file(Data(1), 1_MiB);
  ExpectBad(1, "truncated");
}
TEST_F(BadDataFileTest, Empty) {
  std::filesystem::resize_file(Data(0), 0);
  ExpectBad(0, "ends at 0");
}
TEST_F(BadDataFileTest, DamagedHeader) {
  FlipByte(Data(0), 50);
  ExpectBad(0, "damaged");
}
TEST_F(BadDataFileTest, OtherVersion) {
  FlipByte(Data(0), 8, 1 ^ 2);
  ExpectBad(0, "format version 2");
}
TEST_F(BadDataFileTest, OfAnotherStore) {
  const std::string other = directory_ / "other";
  ASSERT_TRUE(StoreFiles::Open({.path = other, .bytes_max = 72_MiB}).ok());
  std::filesystem::copy_file(DataFilePath(other + "/data", 1), Data(1),
                             std::filesystem::copy_options::overwrite_existing);
  ExpectBad(1, "of another store");
}
TEST_F(BadDataFileTest, InThePlaceOfAnother) {
  std::filesystem::copy_file(Data(0), Data(1), std::filesystem::copy_options::overwrite_existing);
  ExpectBad(1, "is data file 0");
}
TEST_F(BadDataFileTest, NotAFile) {
  std::filesystem::remove(Data(1));
  ASSERT_EQ(mkfifo(Data(1).c_str(), 0600), 0);
  for (const bool read_only : {true, false}) {
    const Files files = read_only ? StoreFiles::OpenReadOnly(path_) : Open(72_MiB);
    ASSERT_TRUE(files.ok()) << files.status();
    EXPECT_EQ((*files)->files()[1].fd, -1);
  }
}

TEST_F(BadDataFileTest, NothingLeftToLock) {
  for (uint32_t i = 0; i < 3; ++i) std::filesystem::remove(Data(i));
  EXPECT_TRUE(absl::IsDataLoss(Open(72_MiB).status())) << Open(72_MiB).status();
  const Files reader = StoreFiles::OpenReadOnly(path_);
  ASSERT_TRUE(reader.ok());
  EXPECT_THAT((*reader)->problems(), SizeIs(3));
}

TEST_F(StoreFilesTest, ReadOnlyOfNothingIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(StoreFiles::OpenReadOnly(path_).status()));
  EXPECT_FALSE(std::filesystem::exists(path_));
}

}  // namespace
}  // namespace cairn
