// Real file systems that are small, fail, or have large sectors. As root; skipped for others.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/ioctl.h>
#include <sys/ioctl.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/crash_content.h"
#include "tests/crash_oracle.h"
#include "tests/loop_mount.h"
#include "tests/process.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kTensorBytes = 100'000;

// Takes all the space there is on a file system, and what others give back, as soon as they do.
class Ballast {
 public:
  explicit Ballast(const std::string& directory) : path_(directory + "/ballast") {
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    EXPECT_GE(fd_, 0);
    TakeAll();
    thread_ = std::thread([this] {
      while (!stop_) {
        TakeAll();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
  }
  ~Ballast() {
    stop_ = true;
    thread_.join();
    close(fd_);
    std::filesystem::remove(path_);
  }
  Ballast(const Ballast&) = delete;
  Ballast& operator=(const Ballast&) = delete;

 private:
  void TakeAll() const {
    static const std::vector<char> zeros(64_KiB);
    while (write(fd_, zeros.data(), zeros.size()) > 0) continue;
    EXPECT_EQ(errno, ENOSPC);
  }

  const std::string path_;
  int fd_ = -1;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

class ScoreboardDiskTest : public StoreTest {
 protected:
  void SetUp() override {
    const std::string impediment = LoopMount::Impediment();
    if (!impediment.empty()) GTEST_SKIP() << impediment;
  }
  void Mount(uint64_t bytes, uint32_t sector_bytes = 512) {
    mount_ = std::make_unique<LoopMount>(bytes, sector_bytes);
    options_.path = mount_->path() + "/store";
  }
  void PutSome(Durability durability) {
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(Put(absl::StrCat("k", i), kTensorBytes, 0, {.durability = durability}).ok());
    }
  }
  void ExpectSome() {
    for (int i = 0; i < 20; ++i) Expect(absl::StrCat("k", i), kTensorBytes);
  }

  // Of each key its version, 0: none; of `but` no wrong bytes.
  void ExpectAll(const std::vector<uint64_t>& versions, uint64_t size, const std::string& but) {
    for (size_t i = 0; i < versions.size(); ++i) {
      const std::string key = absl::StrCat("k", i);
      if (versions[i] != 0 && key != but) Expect(key, size, versions[i]);
    }
    const absl::Status status = GetStatus(but);
    EXPECT_TRUE(status.ok() || absl::IsNotFound(status)) << status;
  }

  std::unique_ptr<LoopMount> mount_;
};

TEST_F(ScoreboardDiskTest, ShutDownFileSystemStopsWritesAndLosesNothingFlushed) {
  Mount(96_MiB);
  Open();
  PutSome(Durability::kFlushed);
  // EXT4_IOC_SHUTDOWN, without flushing the journal: the header of the kernel is not installed.
  const uint32_t no_flush = 2;
  const int fd = open(mount_->path().c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(ioctl(fd, _IOR('X', 125, uint32_t), &no_flush), 0) << strerror(errno);
  close(fd);
  ExpectStatus(Put("late", kTensorBytes, 0, {.durability = Durability::kOnDevice}),
               StatusCode::kUnavailable, "late");
  ExpectSome();  // From L2.
  EXPECT_NE(store_->Stats().degraded, "");
  EXPECT_FALSE(store_->Close().ok());
  store_.reset();
  mount_->Remount();
  Open();
  ExpectSome();
  EXPECT_EQ(store_->Stats().checksum_failures, 0u);
  EXPECT_TRUE(Put("late", kTensorBytes, 0, {.durability = Durability::kFlushed}).ok());
}

TEST_F(ScoreboardDiskTest, TooSmallADiskIsSaidAtOpenAndGivesItsSpaceBack) {
  Mount(40_MiB);
  const uint64_t bytes_free = mount_->bytes_free();
  const absl::Status status = OpenStore(options_, {}).status();
  ExpectStatus(status, StatusCode::kResourceExhausted, "are needed");
  ExpectStatus(status, StatusCode::kResourceExhausted, "are free");
  EXPECT_FALSE(std::filesystem::exists(options_.path));
  EXPECT_EQ(mount_->bytes_free(), bytes_free);
}

TEST_F(ScoreboardDiskTest, SectorsOfFourKibibytes) {
  Mount(96_MiB, 4096);
  Open();
  EXPECT_TRUE(store_->Stats().io_direct);
  PutSome(Durability::kFlushed);
  ASSERT_TRUE(Put("odd", 1, 0, {.durability = Durability::kOnDevice}).ok());
  Reopen();
  ExpectSome();
  Expect("odd", 1);
}

// The index is the only part of a store that takes space after Open.
TEST_F(ScoreboardDiskTest, ADiskFilledByOthersStopsWritesUntilThereIsSpaceAgain) {
  Mount(96_MiB);
  Open();
  constexpr uint64_t kKeys = 1000;
  constexpr uint64_t kBytes = 3000;
  std::vector<uint64_t> versions(kKeys);
  uint64_t version = 0;
  std::string refused;
  {
    const Ballast ballast(mount_->path());
    absl::Status status;
    while (status.ok()) {
      refused = absl::StrCat("k", ++version % kKeys);
      status = Put(refused, kBytes, version, {.durability = Durability::kOnDevice});
      if (status.ok()) versions[version % kKeys] = version;
    }
    ExpectStatus(status, StatusCode::kUnavailable, "No space left on device");
    EXPECT_THAT(store_->Stats().degraded, HasSubstr("No space left on device"));
    ExpectStatus(store_->Flush(), StatusCode::kUnavailable, "index");
    ExpectAll(versions, kBytes, refused);
  }
  // Soon, with no other call than the put itself.
  absl::Status after = absl::UnavailableError("");
  while (absl::IsUnavailable(after)) {
    after = Put("after", kBytes, 0, {.durability = Durability::kFlushed});
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(after.ok()) << after;
  EXPECT_EQ(store_->Stats().degraded, "");
  store_->Flush().IgnoreError();  // Tells once more of what could not be written.
  EXPECT_TRUE(store_->Flush().ok());
  Reopen();
  EXPECT_EQ(store_->Stats().recovery_dropped, 0u);
  Expect("after", kBytes);
  ExpectAll(versions, kBytes, refused);
}

// A writer of many threads, which ends at the first call that fails, without closing its store.
TEST_F(ScoreboardDiskTest, ADiskFilledByOthersLosesNothingAcknowledged) {
  Mount(96_MiB);
  const TemporaryDirectory output;
  const char* const chosen = std::getenv("CAIRN_TEST_IO_ENGINE");
  const std::string engine = chosen == nullptr ? "auto" : chosen;
  Process writer(output.path(), {CAIRN_CRASH_CHILD, options_.path, engine, "1"});
  const std::string said = output / "process.out";
  while (ReadWholeFile(said).empty()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  auto ballast = std::make_unique<Ballast>(mount_->path());
  const ProcessEnd end = writer.Wait();
  ballast.reset();
  EXPECT_EQ(end.exit_code, 4) << "signal " << end.signal << end.err;
  EXPECT_THAT(end.err, HasSubstr("UNAVAILABLE"));
  EXPECT_THAT(end.err, HasSubstr("No space left on device"));
  absl::StatusOr<std::unique_ptr<Store>> store =
      Store::Open(CrashStoreOptions(options_.path, engine));
  ASSERT_TRUE(store.ok()) << store.status();
  CrashOracle oracle(CrashOracle::Cut::kProcess);
  oracle.Account(end.out);
  EXPECT_THAT(oracle.Check(**store, options_.path), IsEmpty());
  EXPECT_GT(oracle.tensors_found(), 0);
  EXPECT_TRUE((*store)->Close().ok());
}

}  // namespace
}  // namespace cairn
