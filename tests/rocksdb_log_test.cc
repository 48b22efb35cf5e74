// What a loss of power leaves of the index's log: what its files have at some moment, zeros written
// ahead included.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "io/index.h"
#include "io/rocksdb_log_file.h"
#include "tests/disk_fixture.h"

namespace cairn {
namespace {

class RocksDbLogTest : public ::testing::Test {
 protected:
  static std::unique_ptr<Index> Open(const std::string& path, bool read_only = false) {
    absl::StatusOr<std::unique_ptr<Index>> index =
        OpenRocksDbIndex({.path = path, .bytes_max = 8_MiB, .read_only = read_only});
    EXPECT_TRUE(index.ok()) << index.status();
    return index.ok() ? *std::move(index) : nullptr;
  }
  static std::string Key(int number) { return absl::StrCat("key", number); }
  static void Commit(Index& index, int number, bool sync) {
    const std::string key = Key(number);
    const IndexEdit edit = {
        .kind = IndexEdit::Kind::kPut,
        .key = {1, key},
        .record = SampleRecord("", key, TensorMeta::Bytes(100), 4096, number + 1)};
    ASSERT_TRUE(index.Commit({edit}, sync).ok());
  }
  static std::set<std::string> Keys(const Index& index) {
    std::set<std::string> keys;
    const absl::Status status = index.ForEach({.record =
                                                   [&](IndexKey key, const IndexRecord&) {
                                                     keys.emplace(key.key);
                                                     return true;
                                                   },
                                               .damaged =
                                                   [](std::string_view key, const absl::Status&) {
                                                     ADD_FAILURE() << key;
                                                     return true;
                                                   }});
    EXPECT_TRUE(status.ok()) << status;
    return keys;
  }
  static std::string LogIn(const std::string& path) {
    std::string log;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.path().extension() == ".log") log = std::max(log, entry.path().string());
    }
    return log;
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_ / "index";
  const std::string copy_ = directory_ / "copy";
};

TEST_F(RocksDbLogTest, WithZerosAheadItIsReadToItsEnd) {
  constexpr size_t kCount = 300;
  {
    const std::unique_ptr<Index> index = Open(path_);
    ASSERT_NE(index, nullptr);
    for (size_t i = 0; i < kCount; ++i) Commit(*index, static_cast<int>(i), i % 3 != 0);
    EXPECT_GT(std::filesystem::file_size(LogIn(path_)), RocksDbLogFile::kAheadBytes);
    std::filesystem::copy(path_, copy_);
  }
  EXPECT_LT(std::filesystem::file_size(LogIn(path_)), RocksDbLogFile::kAheadBytes)
      << "not cut off when it was closed";
  for (const bool read_only : {true, false}) {
    const std::unique_ptr<Index> index = Open(copy_, read_only);
    ASSERT_NE(index, nullptr);
    EXPECT_EQ(Keys(*index).size(), kCount);
  }
}

// A page of what was not synced may be lost, and those behind it not.
TEST_F(RocksDbLogTest, APageLostBehindTheLastSyncLosesNothingBeforeIt) {
  constexpr int kSynced = 100;
  constexpr int kCount = 800;
  constexpr uint64_t kCommitBytesMax = 256;  // More than one takes of the log.
  constexpr uint64_t kPageBytes = 4096;
  {
    const std::unique_ptr<Index> index = Open(path_);
    ASSERT_NE(index, nullptr);
    for (int i = 0; i < kCount; ++i) Commit(*index, i, i < kSynced);
    std::filesystem::copy(path_, copy_);
  }
  {
    std::fstream log(LogIn(copy_), std::ios::in | std::ios::out | std::ios::binary);
    constexpr uint64_t kPage = kSynced * kCommitBytesMax / kPageBytes + 1;
    log.seekp(static_cast<std::streamoff>(kPage * kPageBytes));
    log << std::string(kPageBytes, '\0');
    ASSERT_TRUE(log.good());
  }
  const std::unique_ptr<Index> index = Open(copy_);
  ASSERT_NE(index, nullptr);
  const std::set<std::string> keys = Keys(*index);
  EXPECT_LT(keys.size(), size_t{kCount});
  for (int i = 0; i < kSynced; ++i) EXPECT_TRUE(keys.contains(Key(i))) << i;
}

}  // namespace
}  // namespace cairn
