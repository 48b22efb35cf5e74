// Stores that are in use, half made, damaged, or no stores at all.

#include <sys/stat.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "io/checksum.h"
#include "io/little_endian.h"
#include "io/store_files.h"
#include "tests/store_files_fixture.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

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
  const Superblock superblock = {.uuid = {1, 2, 3},
                                 .data_file_bytes = 16_MiB,
                                 .file_count = 3,
                                 .data_paths = {"/nvme0", "/nvme1/kv"},
                                 .data_weights = {3, 1}};
  std::string block = EncodeSuperblock(superblock);
  ASSERT_TRUE(DecodeSuperblock(block).ok());
  EXPECT_EQ(DecodeSuperblock(block)->data_paths, superblock.data_paths);
  EXPECT_EQ(DecodeSuperblock(block)->data_weights, superblock.data_weights);
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

// As one who knows the checksum would write it.
TEST_F(StoreFilesTest, WeightsThatCannotBeAreDamage) {
  ASSERT_TRUE(Open().ok());
  const std::string own = ReadFile(path_ + "/superblock");
  const auto decode = [](std::string block) {
    FieldWriter(&block[kBlockBytes - 8], 8)
        .U64(StructureChecksum(std::string_view(block).substr(0, kBlockBytes - 8)));
    return DecodeSuperblock(block).status();
  };
  const std::string block = EncodeSuperblock({.uuid = {1},
                                              .data_file_bytes = 16_MiB,
                                              .file_count = 3,
                                              .data_paths = {"/nvme0", "/nvme1/kv"},
                                              .data_weights = {64, 1}});
  EXPECT_TRUE(decode(block).ok());
  EXPECT_EQ(DecodeSuperblock(block)->data_weights, std::vector<uint32_t>({64, 1}));
  constexpr size_t kVersion = 8;
  constexpr size_t kPathCount = 44;
  constexpr size_t kWeight = 50;
  for (const uint32_t weight : {0u, 65u, 255u, 256u, 0xffffu}) {
    std::string hostile = block;
    hostile[kWeight] = static_cast<char>(weight & 0xff);
    hostile[kWeight + 1] = static_cast<char>(weight >> 8);
    EXPECT_TRUE(absl::IsDataLoss(decode(hostile))) << weight << ": " << decode(hostile);
    std::string on_disk = hostile;
    FieldWriter(&on_disk[kBlockBytes - 8], 8)
        .U64(StructureChecksum(std::string_view(on_disk).substr(0, kBlockBytes - 8)));
    WriteFile(path_ + "/superblock", on_disk);
    const auto before = Snapshot(path_);
    EXPECT_TRUE(absl::IsDataLoss(Open().status()));
    EXPECT_TRUE(absl::IsDataLoss(StoreFiles::OpenReadOnly(path_).status()));
    EXPECT_EQ(Snapshot(path_), before);
  }
  // What no build has written: version 1 with weights, version 2 without paths.
  std::string first = block;
  first[kVersion] = 1;
  EXPECT_TRUE(absl::IsDataLoss(decode(first))) << decode(first);
  std::string none = own;
  none[kVersion] = 2;
  ASSERT_EQ(none[kPathCount], 0);
  EXPECT_TRUE(absl::IsDataLoss(decode(none))) << decode(none);
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
