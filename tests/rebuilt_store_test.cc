// Stores that lose their index, get it rebuilt by the tool, and serve on.

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/faulty_io.h"
#include "tests/run_store_inspect.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;
using ::testing::AnyOf;
using ::testing::Matcher;

class RebuiltStoreTest : public StoreTest {
 protected:
  ~RebuiltStoreTest() override { std::filesystem::remove(errors_path_); }

  static uint64_t SizeOf(int i) { return i % 3 == 0 ? 64 * kKiB + i * 997 : 1 + i * 131; }
  static std::string Key(int i) { return absl::StrCat("block/", i); }

  void PutAll(int count) {
    for (int i = 0; i < count; ++i) {
      PutOptions put;
      if (i % 5 == 0) put.retention = Retention::kKeep;
      if (i % 7 == 0) put.ttl = absl::Hours(24);
      ASSERT_TRUE(Put(Key(i), SizeOf(i), 0, put).ok()) << i;
    }
  }
  void RunTool(const std::string& command, const Matcher<int>& exit_code) {
    const RunResult result = RunStoreInspect(command + " " + directory_.string(), errors_path_);
    EXPECT_THAT(result.exit_code, exit_code) << result.output << result.errors;
  }
  absl::Status OpenStatus() { return OpenStore(options_, {}).status(); }
  std::string IndexPath() const { return (directory_ / "index").string(); }

  const std::string errors_path_ = directory_.string() + ".errors";
};

TEST_F(RebuiltStoreTest, ServesEveryTensorOfALostIndex) {
  constexpr int kCount = 200;
  Open();
  PutAll(kCount);
  for (int i = 0; i < kCount; i += 4) ASSERT_TRUE(Put(Key(i), SizeOf(i), 1).ok());
  Close();
  std::filesystem::remove_all(IndexPath());
  ExpectStatus(OpenStatus(), StatusCode::kDataLoss, "store-inspect rebuild-index");
  RunTool("verify", 1);
  RunTool("rebuild-index", 0);
  RunTool("verify", 0);
  Open();
  EXPECT_EQ(store_->Stats().recovered_tensors, uint64_t{kCount});
  EXPECT_EQ(store_->Stats().recovery_dropped, 0u);
  for (int i = 0; i < kCount; ++i) Expect(Key(i), SizeOf(i), i % 4 == 0 ? 1 : 0);
  // Places and numbers are free for new ones.
  for (int i = 0; i < kCount; ++i) ASSERT_TRUE(Put(Key(i), SizeOf(i), 2).ok());
  Reopen();
  for (int i = 0; i < kCount; ++i) Expect(Key(i), SizeOf(i), 2);
}

TEST_F(RebuiltStoreTest, ADamagedIndexIsSaidAndRebuilt) {
  Open();
  PutAll(50);
  Close();
  std::ofstream(IndexPath() + "/CURRENT") << "nothing\n";
  ExpectStatus(OpenStatus(), StatusCode::kDataLoss, "store-inspect rebuild-index");
  RunTool("rebuild-index", 0);
  Open();
  for (int i = 0; i < 50; ++i) Expect(Key(i), SizeOf(i));
  RunTool("rebuild-index --replace", 2);  // In use.
}

TEST_F(RebuiltStoreTest, AStoreThatWasFullOfOthersServesWhatIsLeft) {
  options_.l3_bytes_max = 32 * kMiB;
  Open();
  // Several times what fits, large and small, replaced and evicted.
  for (int i = 0; i < 1500; ++i) ASSERT_TRUE(Put(Key(i % 900), SizeOf(i % 900), i).ok()) << i;
  ASSERT_TRUE(store_->Flush().ok());
  std::vector<std::pair<std::string, uint64_t>> there;
  for (int i = 600; i < 1500; ++i) {
    const std::string key = Key(i % 900);
    if (store_->Get(key, {}).ok()) there.emplace_back(key, i);
  }
  ASSERT_GT(there.size(), 50u);
  Close();
  std::filesystem::remove_all(IndexPath());
  // A place may have been used again by a write of which nothing else is left: that looks like
  // damage.
  RunTool("rebuild-index", AnyOf(0, 1));
  RunTool("verify", 0);
  Open();
  EXPECT_EQ(store_->Stats().recovery_dropped, 0u);
  for (const auto& [key, version] : there) {
    Expect(key, SizeOf(static_cast<int>(version % 900)), version);
  }
}

// The place that failed has a sound header too, of the same write.
TEST_F(RebuiltStoreTest, AWriteThatFailedInOnePlaceIsFoundInTheOther) {
  FaultyIo* io = nullptr;
  Open(WrappedIn(&io));
  io->SetPlan([writes = 0](const IoOp& op, uint64_t) mutable -> FaultyIo::Fault {
    if (op.kind != IoOp::Kind::kWrite || writes++ % 2 != 0) return {};
    return {.kind = FaultyIo::Kind::kTear, .where = 1, .status = absl::UnavailableError("EIO")};
  });
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Put(Key(i), 100 * kKiB, 0, {.durability = Durability::kOnDevice}).ok());
  }
  EXPECT_EQ(store_->Stats().write_retries, 20u);
  Close();
  std::filesystem::remove_all(IndexPath());
  RunTool("rebuild-index", 0);
  Open();
  EXPECT_EQ(store_->Stats().recovered_tensors, 20u);
  for (int i = 0; i < 20; ++i) Expect(Key(i), 100 * kKiB);
}

// What was moved lies over places that others had before, and its old record is there still.
TEST_F(RebuiltStoreTest, WhatWasMovedIsFoundWhereItLiesNow) {
  options_.l3_bytes_max = 40 * kMiB;
  options_.unusable_share_max = 0.999;
  // One that is refused has changed nothing; of one that is to be on the device in time that would
  // not be known.
  constexpr PutOptions kKept = {.retention = Retention::kKeep, .timeout = absl::Milliseconds(40)};
  constexpr int kCount = 165;
  const auto bytes_of = [](int i) { return 130 * kKiB + i % 7 * 20 * kKiB; };
  std::map<int, uint64_t> versions;
  Open();
  // Several times over all places: some are put again, some go, and a large one has others moved.
  for (int round = 0; round < 8; ++round) {
    for (int i = 0; i < kCount; ++i) {
      if (versions.contains(i) && (i + round) % 4 != 0) continue;
      if (Put(Key(i), bytes_of(i), round, kKept).ok()) versions[i] = round;
    }
    for (int i = round % 3; i < kCount; i += 3) {
      ASSERT_TRUE(store_->Erase(Key(i)).ok());
      versions.erase(i);
    }
    for (const char* const large : {"large", "larger"}) {
      PutOptions put = kKept;
      put.timeout = absl::Seconds(1);
      Put(large, 2 * kMiB, round, put).IgnoreError();
    }
    for (const char* const large : {"large", "larger"}) ASSERT_TRUE(store_->Erase(large).ok());
  }
  EXPECT_GT(store_->Stats().decisions[size_t(Decision::kMovedL3)], 0u);
  Close();
  std::filesystem::remove_all(IndexPath());
  // What was erased may come back, or be damaged by what was put in its place since.
  RunTool("rebuild-index", AnyOf(0, 1));
  RunTool("verify", 0);
  Open();
  EXPECT_EQ(store_->Stats().recovery_dropped, 0u);
  for (const auto& [i, version] : versions) Expect(Key(i), bytes_of(i), version);
}

TEST_F(RebuiltStoreTest, WhatWasErasedMayComeBack) {
  Open();
  ASSERT_TRUE(Put("erased", 100 * kKiB).ok());
  ASSERT_TRUE(Put("kept", 100 * kKiB).ok());
  ASSERT_TRUE(store_->Flush().ok());
  ASSERT_TRUE(store_->Erase("erased").ok());
  Close();
  RunTool("rebuild-index --replace", 0);
  Open();
  Expect("kept", 100 * kKiB);
  Expect("erased", 100 * kKiB);
}

TEST_F(RebuiltStoreTest, AStoreThatWasNeverUsedNeedsNoIndex) {
  Open();
  Close();
  std::filesystem::remove_all(IndexPath());
  Open();
  ASSERT_TRUE(Put("key", 100).ok());
  Reopen();
  Expect("key", 100);
}

TEST_F(RebuiltStoreTest, AnOpenRemovesWhatACutOffRebuildingLeft) {
  Open();
  ASSERT_TRUE(Put("key", 100).ok());
  Close();
  std::filesystem::copy(IndexPath(), IndexPath() + ".new");
  Open();
  EXPECT_FALSE(std::filesystem::exists(IndexPath() + ".new"));
  Expect("key", 100);
}

}  // namespace
}  // namespace cairn
