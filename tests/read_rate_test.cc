#include "tiers/read_rate.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace cairn {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr double kPrior = 1 << 30;

class ReadRateTest : public ::testing::Test {
 protected:
  void Begin(uint64_t bytes) { rate_.Begin(bytes, now_); }
  void End(uint64_t bytes, bool ok = true) { rate_.End({.bytes = bytes, .ok = ok}, now_); }
  // Eight MiB, in requests of one, that all together take so long.
  void ReadFor(microseconds duration) {
    Begin(8 * kMiB);
    for (int i = 0; i < 8; ++i) {
      now_ += duration / 8;
      End(kMiB);
    }
  }
  double MiBPerSecond() { return static_cast<double>(rate_.bytes_per_second(now_)) / kMiB; }

  Deadline now_ = Deadline(seconds(1000));
  ReadRate rate_{1};
};

TEST_F(ReadRateTest, BeginsWithAGibibyteASecondForEachDrive) {
  EXPECT_EQ(rate_.bytes_per_second(now_), uint64_t{1} << 30);
  EXPECT_EQ(rate_.latency_us(), 100);
  EXPECT_EQ(rate_.Arrival(kMiB, now_), absl::Microseconds(100) + absl::Seconds(1.0 / 1024));
  ReadRate four(4);
  EXPECT_EQ(four.bytes_per_second(now_), uint64_t{4} << 30);
}

TEST_F(ReadRateTest, WhatIsUnderWayComesFirst) {
  Begin(3 * kMiB / 4);
  EXPECT_EQ(rate_.bytes_under_way(), 3 * kMiB / 4);
  EXPECT_EQ(rate_.Arrival(kMiB / 4, now_), absl::Microseconds(100) + absl::Seconds(1.0 / 1024));
  EXPECT_EQ(rate_.Arrival(0, now_), absl::Microseconds(100) + absl::Seconds(0.75 / 1024));
  End(3 * kMiB / 4);
  EXPECT_EQ(rate_.bytes_under_way(), 0u);
  EXPECT_EQ(rate_.Arrival(0, now_), absl::Microseconds(100));
}

TEST_F(ReadRateTest, LearnsBytesByBusyTimeAndNotByRequest) {
  // Requests that overlap: each has taken 80 ms when it ends, together they bring 100 MiB/s.
  for (int i = 0; i < 100; ++i) ReadFor(milliseconds(80));
  EXPECT_NEAR(MiBPerSecond(), 100, 1);
}

TEST_F(ReadRateTest, IdleTimeIsNoSlowness) {
  for (int i = 0; i < 100; ++i) {
    ReadFor(milliseconds(80));
    now_ += seconds(60);
  }
  EXPECT_NEAR(MiBPerSecond(), 100, 1);
}

TEST_F(ReadRateTest, FollowsADeviceThatBecomesSlower) {
  for (int i = 0; i < 100; ++i) ReadFor(milliseconds(8));
  EXPECT_NEAR(MiBPerSecond(), 1000, 10);
  // After a second of what is busy time a third is of before.
  for (int i = 0; i < 10; ++i) ReadFor(milliseconds(100));
  EXPECT_GT(MiBPerSecond(), 200);
  EXPECT_LT(MiBPerSecond(), 500);
  for (int i = 0; i < 60; ++i) ReadFor(milliseconds(100));
  EXPECT_NEAR(MiBPerSecond(), 80, 4);
}

TEST_F(ReadRateTest, TheFirstReadsOutweighTheBeginning) {
  ReadFor(milliseconds(800));
  EXPECT_LT(MiBPerSecond(), 25);
}

TEST_F(ReadRateTest, ALongTransferIsLearntFromWhileItLasts) {
  Begin(1024 * kMiB);
  for (int i = 0; i < 500; ++i) {
    now_ += milliseconds(10);
    End(kMiB);
  }
  EXPECT_NEAR(MiBPerSecond(), 100, 2);
}

TEST_F(ReadRateTest, ADeviceThatAnswersNoMoreIsSlow) {
  for (int i = 0; i < 100; ++i) ReadFor(milliseconds(8));
  const absl::Duration before = rate_.Arrival(kMiB, now_);
  Begin(2 * kMiB);
  now_ += seconds(30);
  EXPECT_LT(MiBPerSecond(), 1);
  EXPECT_GT(rate_.Arrival(kMiB, now_), 1000 * before);
  EXPECT_LT(rate_.Arrival(kMiB, now_), absl::InfiniteDuration());
}

TEST_F(ReadRateTest, WhatFailsBringsNothing) {
  for (int i = 0; i < 40; ++i) {
    Begin(2 * kMiB);
    now_ += milliseconds(50);
    End(kMiB, /*ok=*/false);
    End(kMiB);
  }
  EXPECT_EQ(rate_.bytes_under_way(), 0u);
  // The second of the two is alone under way and ends with it, at once.
  EXPECT_NEAR(MiBPerSecond(), 20, 10);
}

TEST_F(ReadRateTest, SmallReadsTellTheLatencyAndNotTheRate) {
  for (int i = 0; i < 100; ++i) {
    Begin(64 << 10);
    now_ += milliseconds(4);
    rate_.End({.bytes = 64 << 10, .ok = true, .service_us = 4000}, now_);
  }
  EXPECT_EQ(rate_.bytes_per_second(now_), static_cast<uint64_t>(kPrior));
  EXPECT_NEAR(static_cast<double>(rate_.latency_us()), 4000, 10);
  // Large ones, of which each waits for the others, tell nothing of it; nor does what failed.
  Begin(8 * kMiB);
  now_ += milliseconds(1);
  for (int i = 0; i < 8; ++i) {
    rate_.End({.bytes = kMiB, .ok = true, .service_us = 900'000}, now_);
  }
  Begin(4096);
  rate_.End({.bytes = 4096, .ok = false, .service_us = 900'000}, now_);
  EXPECT_NEAR(static_cast<double>(rate_.latency_us()), 4000, 10);
}

// For ThreadSanitizer, and for what may be lost when threads cross the bounds of a busy time.
TEST_F(ReadRateTest, ThreadsMayBeginAndEndAtOnce) {
  constexpr int kThreads = 4;
  constexpr int kReads = 20'000;
  std::vector<std::jthread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < kReads; ++i) {
        rate_.Begin(kMiB, SteadyNow());
        rate_.End({.bytes = kMiB, .ok = true, .service_us = 1}, SteadyNow());
      }
    });
  }
  threads.clear();
  EXPECT_EQ(rate_.bytes_under_way(), 0u);
  EXPECT_GT(rate_.bytes_per_second(SteadyNow()), 0u);
  // Not busy any more: time passes and nothing changes.
  const uint64_t learnt = rate_.bytes_per_second(SteadyNow());
  EXPECT_EQ(rate_.bytes_per_second(SteadyNow() + seconds(60)), learnt);
}

}  // namespace
}  // namespace cairn
