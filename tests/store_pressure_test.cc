// What a store does when memory runs short: it gives L2's memory back, keeps what it has
// acknowledged, and grows again.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/manual_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

constexpr uint64_t kL2Bytes = 32 * kMiB;
constexpr uint64_t kSectionBytes = 2 * kMiB;
constexpr uint64_t kTensorBytes = 256 * kKiB;
constexpr uint64_t kHostBytes = 8192 * kMiB;

class StorePressureTest : public StoreTest {
 protected:
  StorePressureTest() {
    options_.l2_bytes_max = kL2Bytes;
    options_.l3_bytes_max = 160 * kMiB;
  }

  // A store that is told by Set how short memory is.
  void OpenWithReadings(StoreSeams seams = {}) {
    seams.read_pressure = [this] {
      const MutexLock lock(readings_mutex_);
      return readings_;
    };
    Open(std::move(seams));
  }
  void Set(const PressureReadings& readings) {
    const MutexLock lock(readings_mutex_);
    readings_ = readings;
  }
  // So many bytes too few for the pressure to be what ends giving back.
  static PressureReadings ShortOf(uint64_t bytes) {
    // 1 GiB is to stay free, three quarters of it after all was done.
    return {.host = MemoryAmount{kHostBytes, 768 * kMiB - bytes}};
  }
  static PressureReadings Plenty() { return {.host = MemoryAmount{kHostBytes, kHostBytes}}; }
  // There is no end of giving back, and some memory left.
  static PressureReadings Short() { return {.host = MemoryAmount{kHostBytes, 150 * kMiB}}; }
  // Until there is no more to give back: a host of 8 GiB that is full.
  static PressureReadings Full() { return {.host = MemoryAmount{kHostBytes, 0}}; }

  PressureStats Pressure() { return store_->Stats().pressure; }
  void AwaitUsable(uint64_t bytes) {
    AwaitPressure([bytes](const PressureStats& stats) { return stats.l2_bytes_usable == bytes; });
  }
  // What is usable shrinks when a section is chosen, before it is given back; and grows before that
  // is counted.
  void AwaitGivenBack(uint64_t bytes) {
    AwaitPressure(
        [bytes](const PressureStats& stats) { return stats.l2_bytes_given_back >= bytes; });
  }
  void AwaitTakenBack(uint64_t bytes) {
    AwaitPressure(
        [bytes](const PressureStats& stats) { return stats.l2_bytes_taken_back >= bytes; });
  }
  void AwaitReadings(uint64_t more) {
    const uint64_t wanted = Pressure().readings + more;
    AwaitPressure([wanted](const PressureStats& stats) { return stats.readings >= wanted; });
  }

  static std::string Key(int number) { return absl::StrCat("t", number); }
  void PutTensors(int count) {
    for (int i = 0; i < count; ++i) ASSERT_TRUE(Put(Key(i), kTensorBytes).ok()) << i;
    ASSERT_TRUE(store_->Flush().ok());
  }
  int CountInL2(int count) {
    int in_l2 = 0;
    for (int i = 0; i < count; ++i) in_l2 += store_->Describe(Key(i))->in_l2 ? 1 : 0;
    return in_l2;
  }
  // Of the arena, by the kernel. Its place is found by a tensor that lies in it, and never changes.
  uint64_t ResidentBytes(const std::byte* arena) {
    std::vector<unsigned char> pages(kL2Bytes / 4096);
    EXPECT_EQ(::mincore(const_cast<std::byte*>(arena), kL2Bytes, pages.data()), 0);
    uint64_t resident = 0;
    for (const unsigned char page : pages) resident += page & 1;
    return resident * 4096;
  }

  Mutex readings_mutex_;
  PressureReadings readings_ = Plenty();
};

constexpr int kTensors = 120;  // What L2 holds, nearly.

TEST_F(StorePressureTest, HighPressureGivesMemoryBackAndLosesNothing) {
  OpenWithReadings();
  PutTensors(kTensors);
  const std::byte* first = nullptr;
  for (int i = 0; i < kTensors; ++i) {
    const TensorHandle handle = *store_->Get(Key(i), {});
    const auto* const data = reinterpret_cast<const std::byte*>(handle.view().data);
    if (first == nullptr || data < first) first = data;
  }
  const std::byte* const arena = first;
  EXPECT_EQ(Pressure().l2_bytes_usable, kL2Bytes);
  const uint64_t resident_before = ResidentBytes(arena);
  EXPECT_GE(resident_before, kTensors * kTensorBytes);

  Set(Full());
  AwaitUsable(kL2Bytes / 8);
  PressureStats stats = Pressure();
  EXPECT_EQ(stats.level, PressureLevel::kHigh);
  EXPECT_EQ(stats.percent, 100u);
  EXPECT_EQ(stats.times_high, 1u);
  AwaitGivenBack(kL2Bytes / 8 * 7);
  stats = Pressure();
  EXPECT_GE(stats.l2_evictions, kTensors * 3u / 4);
  const StatsSnapshot all = store_->Stats();
  EXPECT_GE(all.l2.evictions, stats.l2_evictions);
  EXPECT_LE(all.l2.bytes_used, kL2Bytes / 8);
  EXPECT_EQ(all.l2.bytes_max, kL2Bytes);
  EXPECT_LE(ResidentBytes(arena), kL2Bytes / 8) << "of " << resident_before;
  // All is there, read through the little that is left; and new ones go through it too.
  for (int i = 0; i < kTensors; ++i) Expect(Key(i), kTensorBytes);
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(Put(absl::StrCat("new", i), kTensorBytes).ok());
  for (int i = 0; i < 40; ++i) Expect(absl::StrCat("new", i), kTensorBytes);
  EXPECT_LE(ResidentBytes(arena), kL2Bytes / 8);

  Set(Plenty());
  AwaitTakenBack(kL2Bytes / 8 * 7);
  EXPECT_EQ(Pressure().l2_bytes_usable, kL2Bytes);
  EXPECT_EQ(Pressure().level, PressureLevel::kLow);
  for (int i = 0; i < kTensors; ++i) Expect(Key(i), kTensorBytes);
  EXPECT_GE(CountInL2(kTensors), kTensors * 9 / 10);
  EXPECT_GE(ResidentBytes(arena), kTensors * kTensorBytes * 9 / 10);
  EXPECT_NE(store_->Stats().ToJson().find("\"pressure\": {\n    \"level\": \"low\""),
            std::string::npos);
}

TEST_F(StorePressureTest, NoMoreIsGivenBackThanIsShort) {
  OpenWithReadings();
  PutTensors(kTensors);
  // High, and then what a host that was given 9 MiB would say.
  Set({.host = MemoryAmount{kHostBytes, 768 * kMiB - 9 * kMiB}, .stall_percent = 90});
  AwaitUsable(kL2Bytes - 10 * kMiB);
  Set(ShortOf(0));
  AwaitReadings(5);
  const PressureStats stats = Pressure();
  EXPECT_LT(stats.l2_bytes_given_back, kL2Bytes / 2);
  EXPECT_EQ(stats.l2_bytes_usable, kL2Bytes - stats.l2_bytes_given_back);
  // Three quarters of the reserve are free: no pressure, and no growth before all of it is.
  EXPECT_EQ(stats.level, PressureLevel::kMedium);
  EXPECT_EQ(stats.l2_bytes_taken_back, 0u);
}

TEST_F(StorePressureTest, WaitingAloneGivesBackLittleByLittle) {
  options_.l2_bytes_min = kL2Bytes / 2;
  OpenWithReadings();
  PutTensors(kTensors);
  PressureReadings waiting = Plenty();
  waiting.stall_percent = 95;
  Set(waiting);
  AwaitGivenBack(kL2Bytes / 2);
  AwaitReadings(5);
  const PressureStats stats = Pressure();
  EXPECT_GE(stats.readings, kL2Bytes / 2 / kSectionBytes);
  EXPECT_EQ(stats.l2_bytes_given_back, kL2Bytes / 2) << "no less than l2_bytes_min stays";
  EXPECT_EQ(stats.l2_bytes_usable, kL2Bytes / 2);
}

TEST_F(StorePressureTest, WhatIsPinnedStaysAndMayBeRead) {
  OpenWithReadings();
  PutTensors(kTensors);
  std::vector<TensorHandle> pinned;
  for (int i = 0; i < kTensors; i += 10) pinned.push_back(*store_->Get(Key(i), {}));
  Set(Full());
  AwaitUsable(kL2Bytes / 8);
  AwaitReadings(60);  // Those that cannot be given back are not waited for for ever.
  for (size_t i = 0; i < pinned.size(); ++i) {
    const std::vector<std::byte> expected = ContentOf(Key(static_cast<int>(i) * 10), kTensorBytes);
    EXPECT_EQ(std::memcmp(pinned[i].view().data, expected.data(), kTensorBytes), 0) << i;
  }
  pinned.clear();
  AwaitGivenBack(kL2Bytes / 8 * 7);
  for (int i = 0; i < kTensors; ++i) Expect(Key(i), kTensorBytes);
}

TEST_F(StorePressureTest, WhatIsNotWrittenYetLeavesWhenItIs) {
  ManualIo* io = nullptr;
  OpenWithReadings(WrappedIn(&io));
  constexpr int kDirty = 40;
  for (int i = 0; i < kDirty; ++i) ASSERT_TRUE(Put(Key(i), kTensorBytes).ok());
  Set(Short());
  AwaitPressure(
      [](const PressureStats& stats) { return stats.l2_bytes_given_back > kL2Bytes / 2; });
  EXPECT_EQ(CountInL2(kDirty), kDirty);
  io->Release();
  ASSERT_TRUE(store_->Flush().ok());
  AwaitGivenBack(kL2Bytes / 8 * 7);
  for (int i = 0; i < kDirty; ++i) Expect(Key(i), kTensorBytes);
}

// Better some that can be computed anew than a process that is killed.
TEST_F(StorePressureTest, AtTheLastWhatIsNotWrittenYetIsGivenUp) {
  ManualIo* io = nullptr;
  OpenWithReadings(WrappedIn(&io));
  constexpr int kDirty = 40;
  for (int i = 0; i < kDirty; ++i) {
    const Retention retention = i % 2 == 0 ? Retention::kCache : Retention::kKeep;
    ASSERT_TRUE(Put(Key(i), kTensorBytes, 0, {.retention = retention}).ok());
  }
  std::thread promised([this] {
    EXPECT_TRUE(Put("promised", kTensorBytes, 0, {.durability = Durability::kOnDevice}).ok());
  });
  while (!store_->Describe("promised").ok()) SleepFor(std::chrono::milliseconds(1));
  const auto lost = [this] { return store_->Stats().decisions[size_t(Decision::kLost)]; };
  Set(Short());
  AwaitReadings(10);
  EXPECT_EQ(lost(), 0u);
  Set(Full());
  while (lost() < kDirty / 4) SleepFor(std::chrono::milliseconds(1));
  io->Release();
  promised.join();
  ASSERT_TRUE(store_->Flush().ok());
  AwaitGivenBack(kL2Bytes / 8 * 7);
  uint64_t gone = 0;
  for (int i = 0; i < kDirty; ++i) {
    if (i % 2 == 0 && absl::IsNotFound(GetStatus(Key(i)))) {
      ++gone;
    } else {
      Expect(Key(i), kTensorBytes);
    }
  }
  Expect("promised", kTensorBytes);
  EXPECT_EQ(gone, lost());
}

// Others could take what is left before all that waits for a slow device has been written.
TEST_F(StorePressureTest, NoMoreIsDirtyThanOthersMayTakeBeforeMemoryIsShort) {
  ManualIo* io = nullptr;
  OpenWithReadings(WrappedIn(&io));
  const auto puts = [this](int first) {
    int count = 0;
    for (; Put(Key(first + count), kTensorBytes, 0, {.timeout = absl::Milliseconds(300)}).ok();) {
      ++count;
    }
    return static_cast<uint64_t>(count) * kTensorBytes;
  };
  // High is where a fifth of 1 GiB is left.
  const uint64_t high = (uint64_t{1} << 30) / 100 * 20;
  Set({.host = MemoryAmount{kHostBytes, high + 5 * kMiB}});
  AwaitReadings(5);
  EXPECT_EQ(puts(0), 5 * kMiB);
  Set(Plenty());
  AwaitReadings(5);
  EXPECT_EQ(puts(1000), kL2Bytes / 2 - 5 * kMiB);
  io->Release();
}

TEST_F(StorePressureTest, MediumPressureHoldsPrefetchesBackAndHighStopsThem) {
  OpenWithReadings();
  PutTensors(kTensors);
  Close();
  options_.prefetch_ahead_bytes_max = 16 * kTensorBytes;
  OpenWithReadings();
  std::vector<std::string> names;
  for (int i = 0; i < kTensors; ++i) names.push_back(Key(i));
  const std::vector<TensorKey> keys(names.begin(), names.end());

  Set({.host = MemoryAmount{kHostBytes, 512 * kMiB}});  // 50 %.
  AwaitPressure([](const PressureStats& stats) { return stats.level == PressureLevel::kMedium; });
  ASSERT_TRUE(store_->WillNeed(keys, {}).ok());
  while (store_->Stats().prefetches < 2) std::this_thread::yield();
  AwaitReadings(2);
  StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.prefetches, 2u) << "an eighth of 16";
  EXPECT_EQ(store_->Prefetch({keys.data() + 50, 3}, {}), 0u);
  EXPECT_EQ(Pressure().prefetches_refused, 3u);
  EXPECT_EQ(Pressure().l2_bytes_given_back, 0u);

  Set(Full());
  AwaitPressure([](const PressureStats& now) { return now.level == PressureLevel::kHigh; });
  Expect(Key(0), kTensorBytes);
  Expect(Key(1), kTensorBytes);
  EXPECT_EQ(store_->Prefetch({keys.data() + 50, 3}, {}), 0u);
  EXPECT_EQ(store_->Stats().prefetches, 2u);
  EXPECT_EQ(Pressure().prefetches_refused, 6u);

  Set(Plenty());
  AwaitPressure([](const PressureStats& now) { return now.level == PressureLevel::kLow; });
  Expect(Key(0), kTensorBytes);  // Who asks makes those begin that wait.
  while (store_->Stats().prefetches < 10) std::this_thread::yield();
}

TEST_F(StorePressureTest, OpenTakesWhatThereIsAndGrowsLater) {
  // What Open takes is free no more when it has taken it; and others take some meanwhile. The
  // eighth that L2 has in any case is not asked for.
  StoreSeams seams;
  seams.read_pressure = [this, read = uint64_t{0}]() mutable {
    const MutexLock lock(readings_mutex_);
    const uint64_t taken = read++ * (kSectionBytes + kMiB);
    if (taken > 10 * kMiB) return readings_;
    return PressureReadings{.host = MemoryAmount{kHostBytes, 1034 * kMiB - taken}};
  };
  Set({.host = MemoryAmount{kHostBytes, 1024 * kMiB}});
  Open(std::move(seams));
  EXPECT_EQ(Pressure().l2_bytes_usable, 10 * kMiB);
  {
    const MutexLock lock(log_mutex_);
    EXPECT_EQ(std::count_if(log_.begin(), log_.end(),
                            [](const std::string& line) {
                              return line.find("L2 begins with 10485760 of") != std::string::npos;
                            }),
              1);
  }
  PutTensors(kTensors);
  for (int i = 0; i < kTensors; ++i) Expect(Key(i), kTensorBytes);
  EXPECT_LE(store_->Stats().l2.bytes_used, 10 * kMiB);
  // More than there is now, if not than there may be.
  PutOptions hurry;
  hurry.timeout = absl::Milliseconds(50);
  ExpectStatus(Put("large", 12 * kMiB, 0, hurry), absl::StatusCode::kResourceExhausted,
               "of 10485760 in use");
  Set(Plenty());
  AwaitUsable(kL2Bytes);
  EXPECT_TRUE(Put("large", 12 * kMiB).ok());
  Expect("large", 12 * kMiB);
}

TEST_F(StorePressureTest, TheOptionTurnsItOff) {
  options_.heed_memory_pressure = false;
  Set(Full());
  OpenWithReadings();
  PutTensors(kTensors);
  const PressureStats stats = Pressure();
  EXPECT_EQ(stats.readings, 0u);
  EXPECT_EQ(stats.l2_bytes_usable, kL2Bytes);
  EXPECT_EQ(CountInL2(kTensors), kTensors);
}

TEST_F(StorePressureTest, LessThanNothingCannotBeKept) {
  options_.l2_bytes_min = kL2Bytes + 1;
  EXPECT_EQ(options_.Validate().code(), absl::StatusCode::kInvalidArgument);
  options_.l2_bytes_min = kL2Bytes;
  EXPECT_TRUE(options_.Validate().ok());
}

// Readers and writers, while L2 shrinks and grows under them.
TEST_F(StorePressureTest, ReadersAndWritersNoticeNothing) {
  OpenWithReadings();
  constexpr int kThreads = 3;
  constexpr int kEach = 60;
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> done = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937_64 random(static_cast<uint64_t>(thread));
      std::vector<uint64_t> versions(kEach, 0);
      for (uint64_t step = 0; !stop; ++step) {
        const int number = static_cast<int>(random() % kEach);
        const std::string key = absl::StrCat(thread, "/", number);
        const uint64_t size = 4 * kKiB << (number % 8);
        if (versions[number] == 0 || random() % 4 == 0) {
          ASSERT_TRUE(Put(key, size, ++versions[number]).ok());
        } else {
          Expect(key, size, versions[number]);
        }
        ++done;
      }
    });
  }
  for (int round = 0; round < 4; ++round) {
    Set(Short());  // Not full: what a slow disk has not written yet may not be given up.
    AwaitUsable(kL2Bytes / 8);
    const uint64_t before = done;
    while (done < before + 50) std::this_thread::yield();
    Set(Plenty());
    AwaitPressure([](const PressureStats& stats) { return stats.l2_bytes_usable >= kL2Bytes / 4; });
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(Pressure().times_high, 4u);
}

}  // namespace
}  // namespace cairn
