// What a process does to a store: forbidden calls, too little memory, signals, clocks, devices that
// hang.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <csignal>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/disk_fixture.h"
#include "tests/faulty_io.h"
#include "tests/forbid_call.h"
#include "tests/manual_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;

constexpr uint64_t kTensorBytes = 100'000;

// ---- In a process of its own, which ends with 0 when all is well ----

void CheckOrExit(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "%s\n", what.c_str());
  std::_Exit(1);
}

// A store works here, on the engine of this name, and said so. Does not return.
[[noreturn]] void UseStore(const std::string& engine, const std::string& said) {
  {
    TemporaryDirectory directory;
    std::vector<std::string> lines;
    StoreOptions options;
    options.path = directory / "store";
    options.l2_bytes_max = 8 * kMiB;
    options.l3_bytes_max = 48 * kMiB;
    options.log = [&lines](std::string_view line) { lines.emplace_back(line); };
    const std::vector<std::byte> content = ContentOf("k", kTensorBytes);
    for (const bool first : {true, false}) {
      absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(options);
      CheckOrExit(store.ok(), store.status().ToString());
      CheckOrExit((*store)->Stats().io_engine == engine, absl::StrJoin(lines, "\n"));
      if (first) {
        const absl::Status put =
            (*store)->Put("k", ViewOf(content), {.durability = Durability::kFlushed});
        CheckOrExit(put.ok(), put.ToString());
      }
      const absl::StatusOr<TensorHandle> handle = (*store)->Get("k", {});
      CheckOrExit(handle.ok(), handle.status().ToString());
      CheckOrExit(std::memcmp(handle->view().data, content.data(), kTensorBytes) == 0, "bytes");
    }
    const std::string all = absl::StrJoin(lines, "\n");
    CheckOrExit(all.find(said) != std::string::npos, all);
  }
  std::_Exit(0);
}

[[noreturn]] void UseStoreWithout(uint32_t call) {
  CheckOrExit(ForbidCall(call), "no seccomp");
  UseStore("posix", "seccomp");
}

[[noreturn]] void UseStoreWithLittleLockedMemory() {
  // Enough for the rings of both times, whose memory the kernel gives back late; not for L2.
  const rlimit limit = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
  CheckOrExit(setrlimit(RLIMIT_MEMLOCK, &limit) == 0, "setrlimit");
  // The limit does not bind root.
  CheckOrExit(geteuid() != 0 || setresuid(65534, 65534, 65534) == 0, "setresuid");
  UseStore("uring", "L2, 8 MiB, is not registered with the I/O engine");
}

[[noreturn]] void OpenStoreWithFewFiles() {
  {
    const rlimit limit = {.rlim_cur = 20, .rlim_max = 20};
    CheckOrExit(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
    const TemporaryDirectory directory;
    StoreOptions options;
    options.path = directory / "store";
    options.l2_bytes_max = 8 * kMiB;
    options.l3_bytes_max = 48 * kMiB;
    const absl::Status status = Store::Open(options).status();
    CheckOrExit(absl::IsUnavailable(status), status.ToString());
    CheckOrExit(status.ToString().find("ulimit -n") != std::string::npos, status.ToString());
  }
  std::_Exit(0);
}

class ScoreboardLimitsTest : public ::testing::Test {
 protected:
  // A process of its own from the start, not a fork of this one with its threads.
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(ScoreboardLimitsTest, StoreFallsBackWhereIoUringIsForbidden) {
  EXPECT_EXIT(UseStoreWithout(SYS_io_uring_setup), ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(UseStoreWithout(SYS_io_uring_enter), ::testing::ExitedWithCode(0), "");
}

TEST_F(ScoreboardLimitsTest, StoreWorksWithoutTheRightToLockMemory) {
  if (!AsyncIo::Open({.kind = IoEngineKind::kUring}).ok()) GTEST_SKIP() << "no io_uring here";
  EXPECT_EXIT(UseStoreWithLittleLockedMemory(), ::testing::ExitedWithCode(0), "");
}

TEST_F(ScoreboardLimitsTest, StoreSaysWhichLimitOnFilesToRaise) {
  EXPECT_EXIT(OpenStoreWithFewFiles(), ::testing::ExitedWithCode(0), "");
}

// ---- In this one ----

class ScoreboardProcessTest : public StoreTest {
 protected:
  StoreSeams Manual() { return WrappedIn(&manual_); }

  ManualIo* manual_ = nullptr;
};

TEST_F(ScoreboardProcessTest, AStoreOnTmpfsIsBufferedAndSaysSo) {
  struct statfs file_system;
  constexpr long kTmpfsMagic = 0x01021994;  // NOLINT(google-runtime-int): as statfs has it.
  if (statfs("/dev/shm", &file_system) != 0 || file_system.f_type != kTmpfsMagic) {
    GTEST_SKIP() << "no tmpfs at /dev/shm";
  }
  std::string path = "/dev/shm/cairn-XXXXXX";
  ASSERT_NE(mkdtemp(path.data()), nullptr);
  options_.path = path;
  Open();
  // Kernels of late take direct I/O on tmpfs.
  if (!store_->Stats().io_direct) {
    const MutexLock lock(log_mutex_);
    EXPECT_NE(absl::StrJoin(log_, "\n").find("refuses O_DIRECT"), std::string::npos);
  }
  ASSERT_TRUE(Put("k", kTensorBytes, 0, {.durability = Durability::kFlushed}).ok());
  Reopen();
  Expect("k", kTensorBytes);
  Close();
  std::filesystem::remove_all(path);
}

TEST_F(ScoreboardProcessTest, AHungDiskIsADeadlineAndNotAHang) {
  options_.prefetch_queue_max = 4;
  Open();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Put(absl::StrCat("k", i), kTensorBytes).ok());
  Reopen();
  Close();
  Open(Manual());
  const absl::Duration soon = absl::Milliseconds(20);
  EXPECT_TRUE(Put("memory", kTensorBytes).ok());
  Expect("memory", kTensorBytes);
  ExpectStatus(
      Put("device", kTensorBytes, 0, {.durability = Durability::kOnDevice, .timeout = soon}),
      StatusCode::kDeadlineExceeded, "goes on");
  ExpectStatus(store_->Get("k0", {.timeout = soon}).status(), StatusCode::kDeadlineExceeded, "k0");
  std::vector<std::string> names;
  for (int i = 1; i < 20; ++i) names.push_back(absl::StrCat("k", i));
  const std::vector<TensorKey> keys(names.begin(), names.end());
  EXPECT_LT(store_->Prefetch(keys, {}), keys.size());
  EXPECT_GT(store_->Stats().prefetches_dropped, 0u);
  manual_->Release();
  ASSERT_TRUE(store_->Flush().ok());
  Expect("memory", kTensorBytes);
  Expect("device", kTensorBytes);
  for (int i = 0; i < 20; ++i) Expect(absl::StrCat("k", i), kTensorBytes);
}

TEST_F(ScoreboardProcessTest, ASlowDiskIsOnlySlow) {
  StoreSeams seams;
  seams.wrap_io = [](std::unique_ptr<AsyncIo> inner) {
    return std::make_unique<FaultyIo>(std::move(inner), [](const IoOp&, uint64_t) {
      return FaultyIo::Fault{.kind = FaultyIo::Kind::kDelay,
                             .delay = std::chrono::milliseconds(100)};
    });
  };
  Open(seams);
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(
        Put(absl::StrCat("k", i), kTensorBytes, 0, {.durability = Durability::kFlushed}).ok());
    ASSERT_TRUE(store_->Evict(absl::StrCat("k", i), Level::kL3Nvme).ok());
  }
  ExpectStatus(store_->Get("k0", {.timeout = absl::Milliseconds(1)}).status(),
               StatusCode::kDeadlineExceeded, "k0");
  for (int i = 0; i < 5; ++i) Expect(absl::StrCat("k", i), kTensorBytes);
  EXPECT_EQ(store_->Stats().read_errors + store_->Stats().write_errors, 0u);
}

TEST_F(ScoreboardProcessTest, AnExhaustedPoolRefusesEveryVerbAndLeaksNothing) {
  Open();
  ASSERT_TRUE(Put("cold", kMiB).ok());
  ASSERT_TRUE(store_->Evict("cold", Level::kL3Nvme).ok());
  std::vector<TensorHandle> handles;
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(Put(absl::StrCat("hot", i), kMiB).ok());
    handles.push_back(*store_->Get(absl::StrCat("hot", i), {}));
  }
  const absl::Duration soon = absl::Milliseconds(20);
  for (int round = 0; round < 3; ++round) {
    ExpectStatus(Put("more", kMiB, 0, {.timeout = soon}), StatusCode::kResourceExhausted, "L2");
    ExpectStatus(store_->Get("cold", {.timeout = soon}).status(), StatusCode::kResourceExhausted,
                 "L2");
    store_->Prefetch({"cold"}, {});
    auto queue = CompletionQueue::Create(4);
    ASSERT_TRUE(store_->GetAsync({"cold"}, {.timeout = soon}, **queue, 0).ok());
    Completion completion;
    ASSERT_EQ((*queue)->Wait({&completion, 1}, absl::Minutes(1)), 1u);
    ExpectStatus(completion.status, StatusCode::kResourceExhausted, "L2");
  }
  handles.clear();
  Expect("cold", kMiB);
  ASSERT_TRUE(Put("more", kMiB).ok());
  ASSERT_EQ(*store_->ErasePrefix(""), 10u);
  for (int i = 0; i < 1000 && store_->Stats().l2.bytes_used > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(store_->Stats().l2.bytes_used, 0u);
  EXPECT_EQ(store_->Stats().l3.bytes_used, 0u);
}

// Signals that interrupt system calls, a thousand a second, while a store is made, used and opened
// again.
TEST_F(ScoreboardProcessTest, AStormOfSignalsChangesNothing) {
  static std::atomic<int> signals = 0;
  struct sigaction action = {};
  action.sa_handler = [](int) { signals.fetch_add(1); };  // And no SA_RESTART.
  struct sigaction before = {};
  ASSERT_EQ(sigaction(SIGALRM, &action, &before), 0);
  const itimerval storm = {.it_interval = {0, 1000}, .it_value = {0, 1000}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &storm, nullptr), 0);
  Open();
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 30; ++i) {
      const Durability durability = i % 2 == 0 ? Durability::kFlushed : Durability::kInMemory;
      EXPECT_TRUE(Put(absl::StrCat("k", i), kTensorBytes, round, {.durability = durability}).ok());
    }
    Reopen();
    for (int i = 0; i < 30; ++i) Expect(absl::StrCat("k", i), kTensorBytes, round);
  }
  Close();
  const itimerval calm = {};
  ASSERT_EQ(setitimer(ITIMER_REAL, &calm, nullptr), 0);
  ASSERT_EQ(sigaction(SIGALRM, &before, nullptr), 0);
  EXPECT_GT(signals.load(), 0);
}

// The wall clock decides of a time to live, and of nothing else.
TEST_F(ScoreboardProcessTest, AClockThatJumpsEndsOnlyTimesToLive) {
  constexpr int64_t kYearMs = int64_t{365} * 24 * 3600 * 1000;
  constexpr int64_t kTtlMs = 1'000'000;
  std::atomic<int64_t> now = 50 * kYearMs;
  StoreSeams seams;
  seams.now_unix_ms = [&now] { return now.load(); };
  std::mt19937_64 random(7);
  Open(seams);
  absl::StatusOr<LeadingHits> leased;
  int64_t expires = 0;  // Of "mortal"; and the latest that a clock ever said since its put.
  int64_t latest = 0;
  for (uint64_t round = 1; round <= 200; ++round) {
    now = 50 * kYearMs + static_cast<int64_t>(random() % (20 * kYearMs)) - 10 * kYearMs;
    latest = std::max(latest, now.load());
    ASSERT_TRUE(Put("ever", kTensorBytes, round).ok());
    Expect("ever", kTensorBytes, round);
    if (expires != 0) {
      if (now >= expires) {
        ExpectStatus(GetStatus("mortal"), StatusCode::kNotFound, "mortal");
      } else if (latest < expires) {
        Expect("mortal", kTensorBytes);
      }
    }
    if (round % 10 == 0) {
      ASSERT_TRUE(Put("mortal", kTensorBytes, 0, {.ttl = absl::Milliseconds(kTtlMs)}).ok());
      expires = now + kTtlMs;
      latest = now;
      now += round % 20 == 0 ? kTtlMs - 1 : kTtlMs;
      latest = now;
      const StatusCode expected = now < expires ? StatusCode::kOk : StatusCode::kNotFound;
      EXPECT_EQ(GetStatus("mortal").code(), expected);
    }
    if (round % 50 == 0) {
      Close();
      Open(seams);
      Expect("ever", kTensorBytes, round);
    }
  }
  // A lease goes by the steady clock.
  leased = store_->CountLeading({"ever"}, {.duration = absl::Hours(1)});
  ASSERT_EQ(leased->count, 1u);
  now += 30 * kYearMs;
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Put(absl::StrCat("fill", i), kMiB).ok());
  Expect("ever", kTensorBytes, 200);
  leased->lease.Release();
  Close();  // Before the clock.
}

}  // namespace
}  // namespace cairn
