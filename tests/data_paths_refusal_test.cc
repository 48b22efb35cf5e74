// Several data paths: drives that are missing, swapped or elsewhere, files that are lost, in the
// wrong place or of others.

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "io/store_files.h"
#include "tests/data_paths_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// ---- Data paths that are not what they were ----

TEST_F(DataPathsTest, AStoreThatIsThereKnowsItsOwn) {
  MakeDrives(2);
  Open();
  PutSome();
  Close();
  options_.data_paths.clear();
  ExpectWhole();
}

TEST_F(DataPathsTest, ADriveThatIsNotMountedRefusesTheStore) {
  MakeDrives(3);
  Open();
  PutSome();
  Close();
  std::filesystem::rename(Drive(1), Drive(9));
  ExpectRefused(Drive(1));
  // The mount point without the drive.
  std::filesystem::create_directory(Drive(1));
  ExpectRefused(Drive(1) + "/cairn-");
  ExpectRefused("not mounted");
  options_.data_paths.clear();
  ExpectRefused(Drive(1) + "/cairn-");
  std::filesystem::remove(Drive(1));
  std::filesystem::rename(Drive(9), Drive(1));
  ExpectWhole();
}

TEST_F(DataPathsTest, AMistypedPathRefusesTheStore) {
  MakeDrives(2);
  Open();
  PutSome();
  Close();
  const std::vector<std::string> right = options_.data_paths;
  std::filesystem::create_directory(Drive(7));
  options_.data_paths = {right[0], Drive(7)};
  ExpectRefused(Drive(7));
  options_.data_paths = {right[1], right[0]};
  ExpectRefused("another order");
  options_.data_paths = {right[0], right[1], Drive(7)};
  ExpectRefused("was made with 2 data paths and was opened with 3");
  options_.data_paths = {right[0]};
  ExpectRefused("was made with 2 data paths and was opened with 1");
  options_.data_paths = right;
  ExpectWhole();
}

TEST_F(DataPathsTest, TheStoresOwnDirectoryMayBeOneOfThem) {
  MakeDrives(1);
  options_.data_paths.push_back(options_.path);
  Open();
  PutSome();
  Close();
  EXPECT_NE(FolderIn(options_.path), "");
  ExpectWhole();
  // Nor is what a creation that was cut off has left there somebody else's.
  std::filesystem::remove_all(directory_);
  std::filesystem::remove_all(FolderIn(Drive(0)));
  Open();
  Close();
  std::filesystem::rename(directory_ / "superblock", directory_ / "superblock.new");
  std::filesystem::remove_all(directory_ / "index");
  std::filesystem::remove(directory_ / Admission::kFileName);
  Open();
  PutSome();
  Close();
  ExpectWhole();
  EXPECT_NE(FolderIn(options_.path), "");
  EXPECT_NE(FolderIn(Drive(0)), "");
}

TEST_F(DataPathsTest, AStoreInOneDirectoryTakesNone) {
  Open();
  PutSome();
  Close();
  MakeDrives(1);
  ExpectRefused("was made with 0 data paths");
}

TEST_F(DataPathsTest, ADriveThatIsMountedElsewhereIsRemembered) {
  MakeDrives(2);
  Open();
  PutSome();
  Close();
  std::filesystem::rename(Drive(1), Drive(5));
  options_.data_paths[1] = Drive(5) + "//";
  ExpectWhole();
  EXPECT_FALSE(std::filesystem::exists(Drive(1)));
  options_.data_paths.clear();
  ExpectWhole();
}

TEST_F(DataPathsTest, SwappedMountsRefuseTheStore) {
  MakeDrives(2);
  Open();
  PutSome();
  Close();
  const auto swap = [this] {
    std::filesystem::rename(Drive(0), Drive(2));
    std::filesystem::rename(Drive(1), Drive(0));
    std::filesystem::rename(Drive(2), Drive(1));
  };
  swap();
  ExpectRefused("another order");
  swap();
  ExpectWhole();
}

TEST_F(DataPathsTest, AFileInTheWrongFolderRefusesTheStore) {
  MakeDrives(2);
  Open();
  PutSome();
  Close();
  const std::string right = FolderIn(Drive(1)) + "/000001.data";
  const std::string wrong = FolderIn(Drive(0)) + "/000001.data";
  std::filesystem::rename(right, wrong);
  ExpectRefused(wrong);
  ExpectRefused("belongs at " + right);
  std::filesystem::rename(wrong, right);
  ExpectWhole();
}

// As in a store of one directory: the rest serves.
TEST_F(DataPathsTest, ALostFileIsReportedAndItsTensorsAreMisses) {
  MakeDrives(2);
  Open();
  PutSome();
  Close();
  std::filesystem::remove(FolderIn(Drive(1)) + "/000001.data");
  Open();
  EXPECT_THAT(log_, Contains(HasSubstr("000001.data: missing")));
  int found = 0;
  for (int i = 0; i < kTensors; ++i) {
    const absl::Status status = GetStatus(absl::StrCat("k", i));
    EXPECT_TRUE(status.ok() || absl::IsNotFound(status)) << status;
    if (status.ok()) ++found;
  }
  EXPECT_EQ(found, kTensors / 2);
  PutSome(20, 1);
  ExpectSome(20, 1);
}

TEST_F(DataPathsTest, ALostDriveIsGivenUpByMakingItsFolderAnew) {
  MakeDrives(2);
  Open();
  PutSome();
  Close();
  const std::string folder = FolderIn(Drive(1));
  std::filesystem::remove_all(folder);
  ExpectRefused(folder);
  std::filesystem::create_directory(folder);
  Open();
  EXPECT_EQ(store_->Stats().recovered_tensors, uint64_t{kTensors / 2});
  for (int i = 0; i < kTensors; i += 2) Expect(absl::StrCat("k", i), kTensorBytes);
  PutSome(kTensors, 1);
  Reopen();
  ExpectSome(kTensors, 1);
}

TEST_F(DataPathsTest, PathsThatCannotBeAreRefusedAndNothingIsMade) {
  MakeDrives(2);
  const std::vector<std::string> right = options_.data_paths;
  const auto expect = [&](std::vector<std::string> paths, StatusCode code, std::string_view text) {
    options_.data_paths = std::move(paths);
    ExpectStatus(OpenStatus(), code, text);
    EXPECT_FALSE(std::filesystem::exists(directory_));
    EXPECT_TRUE(std::filesystem::is_empty(Drive(0)));
  };
  expect({right[0], ""}, StatusCode::kInvalidArgument, "data_paths");
  expect({right[0], right[1] + "/../drive0/"}, StatusCode::kInvalidArgument, "given twice");
  expect({right[0], Drive(3)}, StatusCode::kFailedPrecondition, Drive(3) + " is not there");
  WriteFile(Drive(4), "a file");
  expect({right[0], Drive(4)}, StatusCode::kFailedPrecondition, "no directory");
  expect({right[0], std::string(5000, 'x')}, StatusCode::kInvalidArgument, "superblock");
  options_.data_file_bytes = 64 * kMiB;
  expect(right, StatusCode::kInvalidArgument, "in each of 2 data paths");
}

// ---- What is not ours ----

TEST_F(DataPathsTest, TwoStoresAndFilesOfOthersShareTheDrives) {
  MakeDrives(2);
  WriteFile(Drive(0) + "/notes.txt", "mine");
  WriteFile(Drive(0) + "/000000.data", "mine too");
  Open();
  PutSome();
  StoreOptions other_options = options_;
  other_options.path = drives_ / "other";
  absl::StatusOr<std::unique_ptr<Store>> other = OpenStore(other_options, {});
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_TRUE((*other)->Put("k0", ViewOf(ContentOf("k0", 1000, 7)), {}).ok());
  EXPECT_TRUE((*other)->Close().ok());
  Close();
  ExpectStatus(OpenStatus(), StatusCode::kOk, "");
  EXPECT_EQ(ReadFile(Drive(0) + "/notes.txt"), "mine");
  EXPECT_EQ(ReadFile(Drive(0) + "/000000.data"), "mine too");
  ExpectWhole();
}

TEST_F(DataPathsTest, GrowsOnlyUpToAForeignFile) {
  MakeDrives(2);
  options_.data_file_bytes = 16 * kMiB;
  Open();
  PutSome();
  Close();
  const std::string foreign = FolderIn(Drive(1)) + "/000003.data";
  WriteFile(foreign, "a file of someone else");
  options_.l3_bytes_max = 160 * kMiB;
  Open();
  EXPECT_THAT(log_, Contains(HasSubstr(foreign)));
  ExpectSome();
  EXPECT_EQ(ReadFile(foreign), "a file of someone else");
}

// Whatever data paths the next Open has.
TEST_F(DataPathsTest, ACreationThatWasCutOffIsClearedAway) {
  MakeDrives(2);
  Open();
  Close();
  std::filesystem::rename(directory_ / "superblock", directory_ / "superblock.new");
  std::filesystem::remove_all(directory_ / "index");
  std::filesystem::remove(directory_ / Admission::kFileName);
  std::filesystem::create_directory(Drive(2));
  options_.data_paths = {Drive(2)};
  Open();
  PutSome();
  Close();
  EXPECT_TRUE(std::filesystem::is_empty(Drive(0)));
  EXPECT_TRUE(std::filesystem::is_empty(Drive(1)));
  ExpectWhole();
  // Filled files are nobody's leftovers.
  std::filesystem::rename(directory_ / "superblock", directory_ / "superblock.new");
  std::filesystem::remove_all(directory_ / "index");
  std::filesystem::remove(directory_ / Admission::kFileName);
  ExpectRefused("was left as it is");
}

TEST_F(DataPathsTest, AKilledCreationLeavesNoSecondFolder) {
  MakeDrives(3);
  const StoreFiles::Options files = {
      .path = options_.path, .data_paths = options_.data_paths, .bytes_max = 72 * kMiB};
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      StoreFiles::Open(files).IgnoreError();
      _exit(0);
    }
    // From before the first folder to after the last file.
    std::this_thread::sleep_for(std::chrono::microseconds(200 * i));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(StoreFiles::Open(files).ok());
    for (const std::string& drive : options_.data_paths) {
      EXPECT_THAT(Snapshot(FolderIn(drive)), SizeIs(1)) << drive;
      std::filesystem::remove_all(FolderIn(drive));
    }
    std::filesystem::remove_all(directory_);
  }
}

// An allocation that fails half way: a limit on the size of files stands for a full disk.
TEST_F(DataPathsTest, ACreationThatFailsHalfWayLeavesNothingBehind) {
  MakeDrives(2);
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {.rlim_cur = 12 * kMiB, .rlim_max = 12 * kMiB};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(2);
    const absl::Status status =
        StoreFiles::Open(
            {.path = options_.path, .data_paths = options_.data_paths, .bytes_max = 50 * kMiB})
            .status();
    _exit(absl::IsResourceExhausted(status) ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_FALSE(std::filesystem::exists(directory_));
  for (const std::string& drive : options_.data_paths) {
    EXPECT_TRUE(std::filesystem::is_empty(drive)) << drive;
  }
}

TEST_F(DataPathsTest, ASecondOwnerIsRefused) {
  MakeDrives(2);
  Open();
  ExpectStatus(OpenStatus(), StatusCode::kFailedPrecondition, "in use");
  options_.data_paths.clear();
  ExpectStatus(OpenStatus(), StatusCode::kFailedPrecondition, "in use");
}

}  // namespace
}  // namespace cairn
