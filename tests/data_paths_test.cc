// Several data paths: what is where, that all drives are used, how much of them, and the tools.

#include <map>
#include <vector>

#include "tests/data_paths_fixture.h"
#include "tests/faulty_io.h"
#include "tests/loop_mount.h"
#ifdef CAIRN_STORE_INSPECT
#include "tests/run_store_inspect.h"
#endif

namespace cairn {
namespace {

using absl::StatusCode;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// ---- Spreading ----

class SpreadTest : public DataPathsTest, public ::testing::WithParamInterface<int> {};

INSTANTIATE_TEST_SUITE_P(Drives, SpreadTest, ::testing::Values(1, 2, 3));

// Counts the bytes of every write by the drive that it goes to, in the order of submission.
TEST_P(SpreadTest, WritesAndReadsUseAllDrivesInTurn) {
  MakeDrives(GetParam());
  options_.l3_bytes_max = 128 * kMiB;
  Mutex mutex;
  std::vector<int> writes;
  std::map<int, uint64_t> reads;
  FaultyIo* io = nullptr;
  Open(WrappedIn(&io));
  io->SetPlan([&](const IoOp& op, uint64_t) -> FaultyIo::Fault {
    const MutexLock lock(mutex);
    // Files are added in order of their numbers.
    const int drive = op.file % GetParam();
    if (op.kind == IoOp::Kind::kWrite) writes.push_back(drive);
    if (op.kind == IoOp::Kind::kRead) ++reads[drive];
    return {};
  });
  PutSome();
  ASSERT_THAT(writes, SizeIs(kTensors));
  for (size_t i = 1; i < writes.size(); ++i) {
    EXPECT_EQ(writes[i], (writes[i - 1] + 1) % GetParam()) << i;
  }
  for (int i = 0; i < kTensors; ++i) {
    ASSERT_TRUE(store_->Evict(absl::StrCat("k", i), Level::kL3Nvme).ok());
  }
  ExpectSome();
  ASSERT_THAT(reads, SizeIs(GetParam()));
  for (const auto& [drive, count] : reads) EXPECT_EQ(count, reads[0]) << drive;
  io = nullptr;
}

TEST_P(SpreadTest, TensorsLargeAndSmallComeBackFromAllDrives) {
  MakeDrives(GetParam());
  Open();
  PutSome();
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(Put(absl::StrCat("small", i), 100 + i).ok());
  ASSERT_TRUE(Put("large", 4 * kMiB).ok());
  Close();
  // The index stays; no byte of a tensor is beside it.
  EXPECT_FALSE(std::filesystem::exists(directory_ / "data"));
  for (const std::string& drive : options_.data_paths) {
    const std::string folder = FolderIn(drive);
    ASSERT_NE(folder, "") << drive;
    bool written = false;
    for (const auto& file : std::filesystem::directory_iterator(folder)) {
      written |= ReadFile(file.path()).find("CAIRNREC") != std::string::npos;
    }
    EXPECT_TRUE(written) << folder;
  }
  ExpectWhole();
  Open();
  for (int i = 0; i < 300; ++i) Expect(absl::StrCat("small", i), 100 + i);
  Expect("large", 4 * kMiB);
}

TEST_P(SpreadTest, AllTogetherStayWithinTheBound) {
  MakeDrives(GetParam());
  options_.l3_bytes_max = 64 * kMiB;
  constexpr uint64_t kDirectories = 64 * kKiB;
  Open();
  EXPECT_LE(BytesOfAll(), 64 * kMiB + kDirectories);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 100; ++i) {
      ASSERT_TRUE(Put(absl::StrCat("r", round, "k", i), 500'000).ok());
    }
    EXPECT_LE(BytesOfAll(), 64 * kMiB + kDirectories);
  }
  EXPECT_GT(store_->Stats().l3.bytes_used, 45 * kMiB);
  // Each drive has its share, whatever was evicted.
  std::map<std::string, uint64_t> share;
  for (const std::string& drive : options_.data_paths) share[drive] = BytesOnDisk(drive);
  for (const auto& [drive, bytes] : share) {
    EXPECT_GE(bytes, (GetParam() == 3 ? 16 : 54 / GetParam()) * kMiB) << drive;
  }
  Close();
}

TEST_P(SpreadTest, GrowsAndShrinksOnAllDrives) {
  MakeDrives(GetParam());
  options_.l3_bytes_max = 64 * kMiB;
  Open();
  PutSome(10);
  Close();
  options_.l3_bytes_max = 160 * kMiB;
  Open();
  ExpectSome(10);
  PutSome(50, 1);
  EXPECT_GT(BytesOfAll(), 140 * kMiB);
  Close();
  for (const std::string& drive : options_.data_paths) {
    EXPECT_GE(BytesOnDisk(drive), 32 * kMiB) << drive;
  }
  options_.l3_bytes_max = 64 * kMiB;
  Open();
  EXPECT_LE(BytesOfAll(), 64 * kMiB + 64 * kKiB);
  for (int i = 0; i < 50; ++i) {
    const absl::Status status = GetStatus(absl::StrCat("k", i));
    if (status.ok()) Expect(absl::StrCat("k", i), kTensorBytes, 1);
    EXPECT_TRUE(status.ok() || absl::IsNotFound(status)) << status;
  }
}

// ---- Space ----

TEST_F(DataPathsTest, ASmallDriveIsNamedAndNothingIsLeftBehind) {
  const std::string impediment = LoopMount::Impediment();
  if (!impediment.empty()) GTEST_SKIP() << impediment;
  const LoopMount small(24 * kMiB);
  MakeDrives(2);
  options_.data_paths[1] = small.path();
  options_.l3_bytes_max = 64 * kMiB;
  const uint64_t bytes_free = small.bytes_free();
  const absl::Status status = OpenStatus();
  ExpectStatus(status, StatusCode::kResourceExhausted, "are needed under " + small.path());
  ExpectStatus(status, StatusCode::kResourceExhausted, absl::StrCat(bytes_free));
  EXPECT_EQ(small.bytes_free(), bytes_free);
  EXPECT_FALSE(std::filesystem::exists(directory_));
  EXPECT_TRUE(std::filesystem::is_empty(Drive(0)));
  // With less it fits, and says so again when it is to grow.
  options_.l3_bytes_max = 42 * kMiB;
  Open();
  PutSome(40);
  Close();
  options_.l3_bytes_max = 90 * kMiB;
  ExpectStatus(OpenStatus(), StatusCode::kResourceExhausted, "are needed under " + small.path());
  options_.l3_bytes_max = 42 * kMiB;
  Open();
  ExpectSome(40);
  Close();
}

// ---- The tools ----

#ifdef CAIRN_STORE_INSPECT
class DataPathsToolTest : public DataPathsTest {
 protected:
  RunResult RunTool(const std::string& command) const {
    return RunStoreInspect(command + " " + directory_.string(), drives_ / "errors");
  }
};

TEST_F(DataPathsToolTest, FindTheDrivesByThemselves) {
  MakeDrives(2);
  Open();
  PutSome();
  EXPECT_EQ(RunTool("verify").exit_code, 0);  // Beside its owner.
  Close();
  const RunResult summary = RunTool("summary");
  EXPECT_EQ(summary.exit_code, 0);
  EXPECT_THAT(summary.output, HasSubstr(FolderIn(Drive(0)) + ": 1 files"));
  EXPECT_THAT(summary.output, HasSubstr(FolderIn(Drive(1)) + ": 1 files"));
  EXPECT_THAT(RunTool("keys").output, HasSubstr("k59"));
  EXPECT_THAT(RunTool("show --json k1").output, HasSubstr(Drive(1)));

  std::filesystem::remove_all(directory_ / "index");
  ExpectStatus(OpenStatus(), StatusCode::kDataLoss, "store-inspect rebuild-index");
  EXPECT_EQ(RunTool("rebuild-index").exit_code, 0);
  EXPECT_EQ(RunTool("verify").exit_code, 0);
  ExpectWhole();
}

TEST_F(DataPathsToolTest, NameADriveThatIsNotThere) {
  MakeDrives(2);
  Open();
  PutSome();
  Close();
  std::filesystem::remove_all(directory_ / "index");
  std::filesystem::rename(Drive(1), Drive(9));
  const RunResult verified = RunTool("verify");
  EXPECT_EQ(verified.exit_code, 1);
  EXPECT_THAT(verified.output, HasSubstr("the drive is not mounted"));
  // Half of the tensors would be forgotten.
  const RunResult rebuilt = RunTool("rebuild-index");
  EXPECT_EQ(rebuilt.exit_code, 2);
  EXPECT_THAT(rebuilt.errors, HasSubstr(Drive(1)));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "index"));
  std::filesystem::rename(Drive(9), Drive(1));
  EXPECT_EQ(RunTool("rebuild-index").exit_code, 0);
  ExpectWhole();
}
#endif

}  // namespace
}  // namespace cairn
