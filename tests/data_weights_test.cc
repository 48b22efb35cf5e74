// Several data paths with weights: what each drive holds and takes, when the store is opened again,
// and where a drive is full or drained.

#include <chrono>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "io/superblock.h"
#include "tests/data_paths_fixture.h"
#include "tests/faulty_io.h"
#include "tests/loop_mount.h"
#ifdef CAIRN_STORE_INSPECT
#include "tests/run_store_inspect.h"
#endif

namespace cairn {
namespace {

using absl::StatusCode;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr PutOptions kOnDevice = {.durability = Durability::kOnDevice};
constexpr uint64_t kDirectoryBytes = 64 * kKiB;

// Two drives, of which the first has three times as much as the second: file after file they are
// 0, 0, 1, 0.
class DataPathsWeightTest : public DataPathsTest {
 protected:
  DataPathsWeightTest() {
    MakeDrives(2);
    options_.data_weights = {3, 1};
    options_.l3_bytes_max = 72 * kMiB;  // Four files of 16 MiB.
  }

  static int DriveOf(const IoOp& op) { return op.file % 4 == 2 ? 1 : 0; }
  // Notes the drive of every request; writes to `failing` fail.
  void OpenWatched(int failing = -1) {
    Open(WrappedIn(&io_));
    Watch(failing);
  }
  void Watch(int failing) {
    io_->SetPlan([this, failing](const IoOp& op, uint64_t) -> FaultyIo::Fault {
      const MutexLock lock(mutex_);
      if (op.kind == IoOp::Kind::kWrite) writes_.push_back(DriveOf(op));
      if (op.kind == IoOp::Kind::kRead) reads_.push_back(DriveOf(op));
      if (op.kind != IoOp::Kind::kWrite || DriveOf(op) != failing) return {};
      return {.kind = FaultyIo::Kind::kFail, .status = absl::UnavailableError("EIO")};
    });
  }
  std::vector<int> TakeWrites() {
    const MutexLock lock(mutex_);
    return std::exchange(writes_, {});
  }
  // Of four requests one is to the second drive: in any four that follow one another.
  static void ExpectByWeight(const std::vector<int>& drives) {
    for (size_t i = 0; i + 4 <= drives.size(); ++i) {
      EXPECT_EQ(drives[i] + drives[i + 1] + drives[i + 2] + drives[i + 3], 1) << i;
    }
  }
  void ExpectShares(uint64_t first, uint64_t second) {
    EXPECT_NEAR(static_cast<double>(BytesOnDisk(Drive(0))), static_cast<double>(first),
                kDirectoryBytes);
    EXPECT_NEAR(static_cast<double>(BytesOnDisk(Drive(1))), static_cast<double>(second),
                kDirectoryBytes);
  }
  uint32_t FormatVersion() const {
    return static_cast<uint8_t>(ReadFile(directory_ / "superblock")[8]);
  }

  FaultyIo* io_ = nullptr;
  Mutex mutex_;
  std::vector<int> writes_;
  std::vector<int> reads_;
};

// ---- Shares ----

TEST_F(DataPathsWeightTest, DrivesHoldAndTakeByTheirWeights) {
  options_.l3_bytes_max = 136 * kMiB;
  OpenWatched();
  ExpectShares(96 * kMiB, 32 * kMiB);
  EXPECT_LE(BytesOfAll(), options_.l3_bytes_max + 2 * kDirectoryBytes);
  PutSome();
  const std::vector<int> writes = TakeWrites();
  EXPECT_EQ(writes.size(), size_t{kTensors});
  ExpectByWeight(writes);
  for (int i = 0; i < kTensors; ++i) {
    ASSERT_TRUE(store_->Evict(absl::StrCat("k", i), Level::kL3Nvme).ok());
  }
  ExpectSome();
  ExpectByWeight(reads_);
  const std::vector<DriveStats> drives = store_->Stats().drives;
  EXPECT_EQ(drives[0].weight, 3u);
  EXPECT_EQ(drives[1].weight, 1u);
  EXPECT_EQ(drives[0].requests, 3 * drives[1].requests);
  EXPECT_EQ(drives[0].bytes_used, 3 * drives[1].bytes_used);
  EXPECT_EQ(drives[1].bytes_max, 32 * kMiB - 4096);
  EXPECT_EQ(drives[0].bytes_max, 96 * kMiB - 4 * 4096);
  EXPECT_EQ(drives[0].bytes_used + drives[1].bytes_used, store_->Stats().l3.bytes_used);
}

TEST_F(DataPathsWeightTest, TensorsOfAllSizesAreSharedByBytes) {
  Open();
  std::mt19937_64 random(20260103);
  for (int i = 0; i < 150; ++i) {
    const uint64_t bytes = random() % 3 == 0 ? 100 + random() % 10'000 : random() % 600'000;
    ASSERT_TRUE(Put(absl::StrCat("k", i), 1 + bytes, 0, kOnDevice).ok());
  }
  const std::vector<DriveStats> drives = store_->Stats().drives;
  EXPECT_GT(drives[1].bytes_used, 4 * kMiB);
  EXPECT_NEAR(static_cast<double>(drives[0].bytes_used),
              static_cast<double>(3 * drives[1].bytes_used), 4.0 * 700'000);
}

TEST_F(DataPathsWeightTest, GrowsAndShrinksByWeight) {
  Open();
  PutSome();
  ExpectShares(48 * kMiB, 16 * kMiB);
  Close();
  options_.l3_bytes_max = 136 * kMiB;
  Open();
  ExpectShares(96 * kMiB, 32 * kMiB);
  ExpectSome();
  Close();
  options_.l3_bytes_max = 72 * kMiB;
  Open();
  ExpectShares(48 * kMiB, 16 * kMiB);
  PutSome();
  Close();
  ExpectWhole();
}

TEST_F(DataPathsWeightTest, ADriveTooSmallForItsShareIsNamed) {
  const std::string impediment = LoopMount::Impediment();
  if (!impediment.empty()) GTEST_SKIP() << impediment;
  const LoopMount small(48 * kMiB);
  options_.data_paths[1] = small.path();
  options_.l3_bytes_max = 136 * kMiB;
  options_.data_weights = {1, 3};
  ExpectStatus(OpenStatus(), StatusCode::kResourceExhausted,
               absl::StrCat(96 * kMiB - 4096, " bytes (96 MiB) are needed under ", small.path()));
  EXPECT_FALSE(std::filesystem::exists(directory_));
  options_.data_weights = {3, 1};
  Open();
  PutSome();
  Close();
  ExpectWhole();
}

// ---- Opened again ----

TEST_F(DataPathsWeightTest, WhatWasMadeWithWeightsKeepsThem) {
  Open();
  PutSome();
  Close();
  EXPECT_EQ(FormatVersion(), kWeightedFormatVersion);
  for (const std::vector<uint32_t>& same : std::vector<std::vector<uint32_t>>{{}, {3, 1}, {6, 2}}) {
    options_.data_weights = same;
    ExpectWhole();
  }
  options_.data_weights = {1, 3};
  ExpectRefused("was made with the data weights 3:1 and was opened with 1:3");
  options_.data_weights = {2, 2};
  ExpectRefused("was made with the data weights 3:1 and was opened with 2:2");
  // A drive that is mounted elsewhere has its weight there.
  std::filesystem::rename(Drive(1), Drive(5));
  options_.data_paths[1] = Drive(5);
  options_.data_weights.clear();
  ExpectWhole();
  EXPECT_EQ(FormatVersion(), kWeightedFormatVersion);
  options_.data_paths.clear();
  ExpectWhole();
}

TEST_F(DataPathsWeightTest, WhatWasMadeWithoutWeightsIsAsItWas) {
  options_.data_weights.clear();
  Open();
  PutSome();
  EXPECT_EQ(store_->Stats().drives[0].weight, 1u);
  Close();
  EXPECT_EQ(FormatVersion(), kFormatVersion);
  options_.data_weights = {5, 5};
  ExpectWhole();
  EXPECT_EQ(FormatVersion(), kFormatVersion);
  options_.data_weights = {3, 1};
  ExpectRefused("was made with the data weights 1:1 and was opened with 3:1");
}

TEST_F(DataPathsWeightTest, WeightsThatAreAlikeMakeAStoreWithout) {
  options_.data_weights = {64, 64};
  Open();
  PutSome();
  Close();
  EXPECT_EQ(FormatVersion(), kFormatVersion);
  options_.data_weights.clear();
  ExpectWhole();
}

TEST_F(DataPathsWeightTest, ACreationThatWasCutOffIsClearedAwayWhateverItsWeights) {
  Open();
  Close();
  std::filesystem::rename(directory_ / "superblock", directory_ / "superblock.new");
  std::filesystem::remove_all(directory_ / "index");
  std::filesystem::remove(directory_ / Admission::kFileName);
  options_.data_weights = {1, 3};
  Open();
  ExpectShares(16 * kMiB, 48 * kMiB);
  PutSome();
  Close();
  EXPECT_NE(FolderIn(Drive(0)), "");
  EXPECT_NE(FolderIn(Drive(1)), "");
  ExpectWhole();
}

TEST_F(DataPathsWeightTest, WeightsThatCannotBeAreRefusedAndNothingIsMade) {
  const auto expect = [&](std::vector<uint32_t> weights, std::string_view text) {
    options_.data_weights = std::move(weights);
    ExpectStatus(OpenStatus(), StatusCode::kInvalidArgument, text);
    EXPECT_FALSE(std::filesystem::exists(directory_));
    EXPECT_TRUE(std::filesystem::is_empty(Drive(0)));
  };
  expect({3}, "data_weights.size() is 1: must be 0, or one for each of 2 data_paths");
  expect({3, 1, 1}, "data_weights.size() is 3");
  expect({3, 0}, "data_weights is 0: must be 1 to 64");
  expect({65, 1}, "data_weights is 65: must be 1 to 64");
  // The second drive comes too late to have a file.
  expect({64, 1}, "in each of 2 data paths");
  options_.data_paths.clear();
  expect({3, 1}, "one for each of 0 data_paths");
}

// ---- Drives that are full or drained ----

TEST_F(DataPathsWeightTest, WhereADriveIsFullTheOtherTakesAll) {
  OpenWatched();
  const PutOptions kept = {.durability = Durability::kOnDevice,
                           .retention = Retention::kKeep,
                           .timeout = absl::Milliseconds(500)};
  std::map<int, std::vector<std::string>> keys;  // By drive.
  int number = 0;
  const auto put = [&] {
    const std::string key = absl::StrCat("k", number++);
    TakeWrites();
    if (!Put(key, 1'000'000, 0, kept).ok()) return -1;
    const std::vector<int> writes = TakeWrites();
    EXPECT_THAT(writes, Each(writes.front()));
    keys[writes[0]].push_back(key);
    return writes[0];
  };
  const auto fill = [&] {
    std::vector<int> drives;
    for (int drive = put(); drive >= 0; drive = put()) drives.push_back(drive);
    return drives;
  };
  const auto erase = [&](int drive) {
    for (const std::string& key : keys[drive]) ASSERT_TRUE(store_->Erase(key).ok());
    keys[drive].clear();
  };
  ExpectByWeight(fill());
  const size_t heavy = keys[0].size();
  const size_t light = keys[1].size();
  EXPECT_EQ(heavy, 3 * light);
  for (const int drive : {1, 0}) {
    erase(drive);
    const std::vector<int> drives = fill();
    EXPECT_THAT(drives, Each(drive));
    EXPECT_EQ(drives.size(), drive == 0 ? heavy : light);
  }
  // Neither has anything to make up for.
  erase(0);
  erase(1);
  ExpectByWeight(fill());
}

TEST_F(DataPathsWeightTest, WhatIsDrainedLeavesItsShareToTheOthers) {
  OpenWatched();
  PutSome(20);
  Watch(/*failing=*/0);
  PutSome(20, 1);
  const Deadline end = SteadyNow() + std::chrono::seconds(30);
  while (store_->Stats().drives[0].drained.empty() && SteadyNow() < end) {
    SleepFor(std::chrono::milliseconds(10));
  }
  ASSERT_NE(store_->Stats().drives[0].drained, "");
  TakeWrites();
  PutSome(20, 2);
  EXPECT_THAT(TakeWrites(), Each(1));
  ExpectSome(20, 2);
  const std::vector<DriveStats> drives = store_->Stats().drives;
  EXPECT_EQ(drives[0].bytes_max, drives[0].bytes_used);
  EXPECT_EQ(drives[1].bytes_max, 16 * kMiB - 4096);
  EXPECT_EQ(drives[1].drained, "");
  Reopen();
  ExpectSome(20, 2);
}

// ---- The tools ----

#ifdef CAIRN_STORE_INSPECT
TEST_F(DataPathsWeightTest, ToolsFindWhatIsWhere) {
  const auto run = [this](const std::string& command) {
    return RunStoreInspect(command + " " + directory_.string(), drives_ / "errors");
  };
  Open();
  PutSome();
  Close();
  const RunResult summary = run("summary");
  EXPECT_EQ(summary.exit_code, 0);
  EXPECT_THAT(summary.output, HasSubstr(FolderIn(Drive(0)) + ": 3 files, 48 MiB, weight 3"));
  EXPECT_THAT(summary.output, HasSubstr(FolderIn(Drive(1)) + ": 1 files, 16 MiB, weight 1"));
  EXPECT_THAT(summary.output, HasSubstr("format       2"));
  EXPECT_EQ(run("verify").exit_code, 0);
  std::vector<int> second;
  for (int i = 0; i < 8; ++i) {
    const std::string shown = run(absl::StrCat("show --json k", i)).output;
    if (shown.find(Drive(1)) != std::string::npos) second.push_back(i);
  }
  EXPECT_THAT(second, ElementsAre(2, 6));

  std::filesystem::remove_all(directory_ / "index");
  EXPECT_EQ(run("rebuild-index").exit_code, 0);
  EXPECT_EQ(run("verify").exit_code, 0);
  ExpectWhole();
}
#endif

}  // namespace
}  // namespace cairn
