// What the contract of all indexes does not say: files, limits, damage, other processes.

#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "io/index.h"
#include "tests/disk_fixture.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

// No file of this process can be longer while it lives: a write beyond fails.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(uint64_t bytes) {
    before_ = std::signal(SIGXFSZ, SIG_IGN);
    EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &limit_), 0);
    rlimit limit = limit_;
    limit.rlim_cur = bytes;
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() {
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit_), 0);
    std::signal(SIGXFSZ, before_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit limit_ = {};
  void (*before_)(int) = SIG_DFL;
};

class RocksDbIndexTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Index>> Open(bool read_only = false) {
    return OpenRocksDbIndex({.path = path_, .bytes_max = 8_MiB, .read_only = read_only});
  }

  static IndexEdit Put(std::string_view key, uint64_t sequence) {
    return {.kind = IndexEdit::Kind::kPut,
            .key = {1, key},
            .record = SampleRecord("", key, TensorMeta::Bytes(100), 4096, sequence)};
  }

  // Keys that read back, and how many places the index says are damaged.
  struct Content {
    absl::Status status;
    std::vector<std::string> keys;
    int damaged = 0;
  };
  static Content Read(const Index& index) {
    Content content;
    const auto visit = [&](IndexKey key, const IndexRecord&) {
      content.keys.emplace_back(key.key);
      return true;
    };
    const auto damaged = [&](std::string_view, const absl::Status&) {
      ++content.damaged;
      return true;
    };
    content.status = index.ForEach({.record = visit, .damaged = damaged});
    return content;
  }

  void Fill(int count) {
    const absl::StatusOr<std::unique_ptr<Index>> index = Open();
    ASSERT_TRUE(index.ok()) << index.status();
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE((*index)->Commit({Put(absl::StrCat("key", i), i + 1)}, i % 100 == 0).ok());
    }
  }

  std::vector<std::string> Files(std::string_view suffix) const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      if (entry.path().string().ends_with(suffix)) files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_ / "index";
};

TEST_F(RocksDbIndexTest, KeepsWhatWasCommitted) {
  Fill(300);
  const absl::StatusOr<std::unique_ptr<Index>> index = Open();
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(Read(**index).keys.size(), 300u);
  EXPECT_EQ((*index)->Find({1, "key299"})->sequence, 300u);
}

TEST_F(RocksDbIndexTest, KeepsWhatAKilledProcessCommittedWithoutSync) {
  const pid_t child = fork();
  if (child == 0) {
    const absl::StatusOr<std::unique_ptr<Index>> index = Open();
    bool ok = index.ok();
    for (int i = 0; ok && i < 100; ++i)
      ok = (*index)->Commit({Put(absl::StrCat(i), 1)}, false).ok();
    if (!ok) _exit(1);
    raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  const absl::StatusOr<std::unique_ptr<Index>> index = Open();
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(Read(**index).keys.size(), 100u);
}

TEST_F(RocksDbIndexTest, RefusesASecondOwner) {
  // The other process begins before RocksDB has threads here, whose locks it would inherit held.
  int opened[2];
  ASSERT_EQ(pipe(opened), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(opened[1]);
    char byte = 0;
    if (read(opened[0], &byte, 1) != 1) _exit(2);
    _exit(absl::IsFailedPrecondition(Open().status()) ? 0 : 1);
  }
  const absl::StatusOr<std::unique_ptr<Index>> index = Open();
  ASSERT_TRUE(index.ok());
  const absl::StatusOr<std::unique_ptr<Index>> second = Open();
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  ASSERT_EQ(write(opened[1], "", 1), 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  close(opened[0]);
  close(opened[1]);
}

TEST_F(RocksDbIndexTest, ReadOnlySeesALiveStoreAndWritesNothing) {
  Fill(300);
  const absl::StatusOr<std::unique_ptr<Index>> owner = Open();
  ASSERT_TRUE(owner.ok());
  ASSERT_TRUE((*owner)->Commit({Put("new", 9)}, false).ok());
  const auto before = Snapshot(path_);
  {
    const absl::StatusOr<std::unique_ptr<Index>> reader = Open(/*read_only=*/true);
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ(Read(**reader).keys.size(), 301u);
    EXPECT_EQ((*reader)->Find({1, "new"})->sequence, 9u);
    EXPECT_FALSE((*reader)->Commit({Put("more", 1)}, false).ok());
    EXPECT_TRUE(absl::IsFailedPrecondition((*reader)->FingerprintId("f").status()));
    EXPECT_FALSE((*reader)->DeleteRaw("x").ok());
    EXPECT_FALSE((*reader)->DropFingerprint(1).ok());
  }
  EXPECT_EQ(Snapshot(path_), before);
  // And the owner has not noticed.
  EXPECT_TRUE((*owner)->Commit({Put("more", 10)}, true).ok());
}

TEST_F(RocksDbIndexTest, ReadOnlyOfNothingIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(Open(/*read_only=*/true).status()));
  EXPECT_FALSE(std::filesystem::exists(path_));
  ASSERT_TRUE(std::filesystem::create_directory(path_));
  EXPECT_TRUE(absl::IsNotFound(Open(/*read_only=*/true).status()));
  EXPECT_TRUE(Snapshot(path_).empty());
}

TEST_F(RocksDbIndexTest, RemainsOfAnIndexAreNotTakenForANewOne) {
  Fill(2000);
  std::filesystem::remove(path_ + "/CURRENT");
  const auto before = Snapshot(path_);
  const absl::StatusOr<std::unique_ptr<Index>> index = Open();
  EXPECT_TRUE(absl::IsDataLoss(index.status())) << index.status();
  EXPECT_THAT(std::string(index.status().message()), HasSubstr("CURRENT"));
  EXPECT_TRUE(absl::IsDataLoss(Open(/*read_only=*/true).status()));
  EXPECT_EQ(Snapshot(path_), before);
}

// Opening for inspection must find whatever is there, and never change it.
TEST_F(RocksDbIndexTest, SurvivesDamageOfAnyOfItsFiles) {
  Fill(2000);
  // A second start moves what was in the log to a table.
  ASSERT_TRUE(Open().ok());
  std::vector<std::string> files = Files("");
  std::mt19937 random(3);
  int opened = 0;
  for (const std::string& file : files) {
    const std::string good = ReadFile(file);
    if (good.empty()) continue;
    for (int i = 0; i < 12; ++i) {
      std::string bad = good;
      if (i == 0) {
        bad.clear();
      } else if (i == 1) {
        bad.resize(bad.size() / 2);
      } else {
        bad[random() % bad.size()] ^= static_cast<char>(1 + random() % 255);
      }
      WriteFile(file, bad);
      const auto before = Snapshot(path_);
      const absl::StatusOr<std::unique_ptr<Index>> index = Open(/*read_only=*/true);
      if (index.ok()) {
        ++opened;
        const Content content = Read(**index);
        EXPECT_LE(content.keys.size(), 2000u);
      } else {
        EXPECT_TRUE(absl::IsDataLoss(index.status())) << file << ": " << index.status();
      }
      EXPECT_EQ(Snapshot(path_), before) << file;
      WriteFile(file, good);
    }
  }
  EXPECT_GT(opened, 0);
  const absl::StatusOr<std::unique_ptr<Index>> index = Open();
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(Read(**index).keys.size(), 2000u);
}

TEST_F(RocksDbIndexTest, DamagedTableIsDataLossToItsOwnerAndReadOnByAnInspector) {
  Fill(2000);
  ASSERT_TRUE(Open().ok());
  const std::vector<std::string> tables = Files(".sst");
  ASSERT_FALSE(tables.empty());
  // In the first entries of the first table: the value of one of them.
  FlipByte(tables[0], 300);
  {
    const absl::StatusOr<std::unique_ptr<Index>> owner = Open();
    const absl::Status status = owner.ok() ? Read(**owner).status : owner.status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  }
  const absl::StatusOr<std::unique_ptr<Index>> reader = Open(/*read_only=*/true);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const Content content = Read(**reader);
  EXPECT_TRUE(content.status.ok()) << content.status;
  EXPECT_GE(content.keys.size(), 1900u);
  EXPECT_GE(content.damaged, 1);
}

TEST_F(RocksDbIndexTest, MissingTableIsDataLoss) {
  Fill(2000);
  ASSERT_TRUE(Open().ok());
  std::filesystem::remove(Files(".sst")[0]);
  const absl::StatusOr<std::unique_ptr<Index>> index = Open();
  EXPECT_TRUE(absl::IsDataLoss(index.status())) << index.status();
}

TEST_F(RocksDbIndexTest, GarbageEverywhere) {
  Fill(10);
  for (const std::string& file : Files("")) WriteFile(file, "garbage");
  EXPECT_FALSE(Open().ok());
  EXPECT_FALSE(Open(/*read_only=*/true).ok());
}

// A cache that turns over again and again, with as many and as long keys as its L3 can have.
TEST_F(RocksDbIndexTest, StaysWithinItsBytes) {
  std::mt19937 random(4);
  std::vector<std::string> live;
  uint64_t most = 0;
  for (int start = 0; start < 4; ++start) {
    const absl::StatusOr<std::unique_ptr<Index>> index = Open();
    ASSERT_TRUE(index.ok()) << index.status();
    for (int round = 0; round < 300; ++round) {
      std::vector<std::string> added;
      std::vector<std::string> gone;
      for (int i = 0; i < 64; ++i) {
        std::string key(200, '\0');
        for (char& byte : key) byte = static_cast<char>(random());
        added.push_back(key);
        if (live.size() > 3000) {
          std::swap(live[random() % live.size()], live.back());
          gone.push_back(live.back());
          live.pop_back();
        }
      }
      std::vector<IndexEdit> edits;
      for (const std::string& key : added) edits.push_back(Put(key, 1));
      for (const std::string& key : gone) {
        edits.push_back({.kind = IndexEdit::Kind::kDelete, .key = {1, key}});
      }
      ASSERT_TRUE((*index)->Commit(edits, round % 10 == 0).ok());
      live.insert(live.end(), added.begin(), added.end());
      if (round % 20 == 0) most = std::max(most, BytesOnDisk(path_));
    }
    EXPECT_EQ(Read(**index).keys.size(), live.size());
  }
  EXPECT_LE(std::max(most, BytesOnDisk(path_)), 8_MiB);
}

TEST_F(RocksDbIndexTest, UnwritableDirectoryIsUnavailable) {
  WriteFile(directory_ / "file", "x");
  const absl::StatusOr<std::unique_ptr<Index>> index =
      OpenRocksDbIndex({.path = directory_ / "file/index"});
  EXPECT_TRUE(absl::IsUnavailable(index.status())) << index.status();
}

// Where the log breaks off, where a memtable is written, where levels are merged.
TEST_F(RocksDbIndexTest, OpensAnewAfterAFailedWriteWithAllThatWasCommitted) {
  int committed = 0;
  for (const uint64_t limit : {uint64_t{100}, 10_KiB, 130_KiB}) {
    const absl::StatusOr<std::unique_ptr<Index>> index = Open();
    ASSERT_TRUE(index.ok()) << index.status();
    EXPECT_TRUE((*index)->Reopen().ok()) << "of one that works";
    {
      const FileSizeLimit full(limit);
      absl::Status status;
      for (int i = 0; i < 100000 && status.ok(); ++i) {
        status = (*index)->Commit({Put(absl::StrCat("key", committed), 1)}, i % 50 == 0);
        if (status.ok()) ++committed;
      }
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << limit << ": " << status;
      EXPECT_THAT(status.message(), HasSubstr("File too large"));
      // It stays so, by name, and what is there can be read.
      EXPECT_EQ((*index)->Commit({Put("more", 1)}, true).code(), absl::StatusCode::kUnavailable);
      EXPECT_EQ((*index)->Sync().code(), absl::StatusCode::kUnavailable);
    }
    const absl::Status reopened = (*index)->Reopen();
    ASSERT_TRUE(reopened.ok()) << limit << ": " << reopened;
    ASSERT_TRUE((*index)->Commit({Put(absl::StrCat("after", limit), 1)}, true).ok());
    const Content content = Read(**index);
    EXPECT_TRUE(content.status.ok()) << content.status;
    EXPECT_EQ(content.damaged, 0);
    for (int i = 0; i < committed; ++i) {
      ASSERT_TRUE((*index)->Find({1, absl::StrCat("key", i)}).ok()) << limit << ": " << i;
    }
    ASSERT_TRUE((*index)->Find({1, absl::StrCat("after", limit)}).ok());
  }
  EXPECT_GT(committed, 1000);
}

TEST_F(RocksDbIndexTest, ClosesAfterAFailedWrite) {
  Fill(10);
  for (const bool sync : {false, true}) {
    absl::StatusOr<std::unique_ptr<Index>> index = Open();
    ASSERT_TRUE(index.ok()) << index.status();
    {
      const FileSizeLimit full(100);
      EXPECT_EQ((*index)->Commit({Put("lost", 1)}, sync).code(), absl::StatusCode::kUnavailable);
      EXPECT_EQ((*index)->Reopen().code(), absl::StatusCode::kUnavailable);
      EXPECT_EQ((*index)->Commit({Put("lost", 1)}, sync).code(), absl::StatusCode::kUnavailable);
    }
    index->reset();
  }
  const absl::StatusOr<std::unique_ptr<Index>> index = Open();
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(Read(**index).keys.size(), 10u);
}

}  // namespace
}  // namespace cairn
