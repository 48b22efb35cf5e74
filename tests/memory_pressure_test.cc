// How short memory is: what is read of the system, from trees of files made for it, the per cent
// that comes of it, and the levels.

#include "src/machine/memory_pressure.h"

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/disk_fixture.h"

namespace cairn {
namespace {

using std::chrono::seconds;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kMiB = 1_MiB;
constexpr uint64_t kGiB = 1_GiB;
constexpr Deadline kStart = Deadline() + seconds(1000);

TEST(PressurePercentTest, IsWhatIsGoneOfTheReserve) {
  struct Case {
    uint64_t bytes_max;
    uint64_t bytes_free;
    uint32_t percent;
  };
  for (const Case& each : std::vector<Case>{
           {kGiB, kGiB, 0},
           {kGiB, 128 * kMiB, 0},  // An eighth.
           {kGiB, 64 * kMiB, 50},
           {kGiB, 0, 100},
           {1024 * kGiB, 8 * kGiB, 0},  // 8 GiB at most.
           {1024 * kGiB, 2 * kGiB, 75},
           {0, 0, 0},  // Not known.
       }) {
    const MemoryAmount memory = {each.bytes_max, each.bytes_free};
    EXPECT_EQ(PressurePercent(memory), each.percent) << each.bytes_max << ", " << each.bytes_free;
  }
}

TEST(PressurePercentTest, SaysWhatMayBeTakenAndWhatIsToBeGivenBack) {
  const MemoryAmount memory = {kGiB, 64 * kMiB};
  EXPECT_EQ(BytesUntil(memory, 100), static_cast<int64_t>(64 * kMiB));
  for (const uint32_t percent : {0U, 25U, 30U, 80U}) {
    const int64_t bytes = BytesUntil(memory, percent);
    EXPECT_EQ(bytes < 0, percent < 50) << percent;
    const MemoryAmount after = {kGiB, memory.bytes_free - static_cast<uint64_t>(bytes)};
    EXPECT_NEAR(PressurePercent(after), percent, 1);
  }
}

TEST(PressureGaugeTest, RisesAtOnceAndFallsALittleLater) {
  using enum PressureLevel;
  struct Step {
    uint32_t percent;
    PressureLevel level;
  };
  PressureGauge gauge;
  EXPECT_EQ(gauge.level(), kLow);
  int number = 0;
  for (const Step& step : std::vector<Step>{
           {0, kLow},
           {29, kLow},
           {30, kMedium},
           {26, kMedium},
           {25, kMedium},
           {24, kLow},
           {29, kLow},
           {79, kMedium},
           {80, kHigh},
           {71, kHigh},
           {70, kHigh},
           {69, kMedium},
           {79, kMedium},
           {100, kHigh},
           {27, kMedium},
           {0, kLow},
           {90, kHigh},
           {24, kLow},
       }) {
    EXPECT_EQ(gauge.Update(step.percent), step.level) << "step " << number << ", " << step.percent;
    ++number;
  }
}

TEST(MemoryTrendTest, SaysWhatWillBeGoneAsItFallsNow) {
  using std::chrono::milliseconds;
  MemoryTrend trend;
  EXPECT_EQ(trend.BytesGoing(), 0);
  // 100 MiB a second. Two readings say little.
  Deadline now = kStart;
  int64_t left = 300 * kMiB;
  for (int reading = 0; reading < 3; ++reading) {
    trend.Note(left, now);
    EXPECT_EQ(trend.BytesGoing(), 0) << reading;
    now += milliseconds(25);
    left -= 5 * kMiB / 2;
  }
  for (int reading = 0; reading < 20; ++reading) {
    trend.Note(left, now);
    EXPECT_EQ(trend.BytesGoing(), 50 * kMiB) << reading;
    now += milliseconds(25);
    left -= 5 * kMiB / 2;
  }
  // What is given back counts against it, and what does not fall is no loss.
  left += 200 * kMiB;
  for (int reading = 0; reading < 8; ++reading) {
    trend.Note(left, now += milliseconds(25));
    EXPECT_EQ(trend.BytesGoing(), 0) << reading;
  }
  // What was long ago is no reading: the thread was held up.
  now += seconds(2);
  trend.Note(left - 100 * kMiB, now);
  EXPECT_EQ(trend.BytesGoing(), 0);
  trend.Note(left - 110 * kMiB, now + milliseconds(100));
  EXPECT_EQ(trend.BytesGoing(), 0);
  trend.Note(left - 120 * kMiB, now + milliseconds(200));
  EXPECT_EQ(trend.BytesGoing(), 50 * kMiB);
  trend.Clear();
  trend.Note(left - 200 * kMiB, now + milliseconds(300));
  EXPECT_EQ(trend.BytesGoing(), 0);
}

// Somebody took a gigabyte at a stroke, and takes no more.
TEST(MemoryTrendTest, AStepIsNoFall) {
  MemoryTrend trend;
  Deadline now = kStart;
  for (int reading = 0; reading < 20; ++reading) {
    trend.Note(reading < 10 ? 4 * kGiB : 3 * kGiB, now += std::chrono::milliseconds(25));
    EXPECT_EQ(trend.BytesGoing(), 0) << reading;
  }
}

TEST(PressureReadingsTest, TheWorstCountsAndWhatIsMissingDoesNot) {
  PressureReadings readings;
  EXPECT_EQ(HostPercent(readings), 0u);
  EXPECT_GT(HostBytesUntil(readings, 0), int64_t{1} << 60);
  EXPECT_EQ(TightestGroup(readings), nullptr);

  readings.host = MemoryAmount{16 * kGiB, 8 * kGiB};
  EXPECT_EQ(HostPercent(readings), 0u);
  EXPECT_EQ(HostBytesUntil(readings, 100), static_cast<int64_t>(8 * kGiB));

  readings.groups = {{kGiB, 512 * kMiB}, {2 * kGiB, 64 * kMiB}, {4 * kGiB, 2 * kGiB}};
  EXPECT_EQ(HostPercent(readings), 75u);
  EXPECT_EQ(HostBytesUntil(readings, 100), static_cast<int64_t>(64 * kMiB));
  ASSERT_NE(TightestGroup(readings), nullptr);
  EXPECT_EQ(TightestGroup(readings)->bytes_max, 2 * kGiB);

  readings.stall_percent = 90;
  EXPECT_EQ(HostPercent(readings), 90u);
  // That all processes wait may be the doing of others.
  readings.stall_percent.reset();
  readings.stall_percent_host = 100;
  EXPECT_EQ(HostPercent(readings), kHighPercent - 1);
  // The GPU's memory is not what L2 is made of.
  readings = {.gpu = MemoryAmount{80 * kGiB, 0}};
  EXPECT_EQ(HostPercent(readings), 0u);
}

class PressureReaderTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    const std::string file = path_ + path;
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    WriteFile(file, text + "\n");
  }
  void WriteStalls(const std::string& path, uint64_t some_us) {
    Write(path, absl::StrCat("some avg10=0.00 avg60=0.00 avg300=0.00 total=", some_us,
                             "\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1"));
  }
  PressureReadings Read(seconds since_start = seconds(0)) {
    return reader_.Read(kStart + since_start);
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_.path();
  PressureReader reader_{path_};
};

TEST_F(PressureReaderTest, ASystemThatSaysNothingIsUnderNoPressure) {
  const PressureReadings readings = Read();
  EXPECT_FALSE(readings.host.has_value());
  EXPECT_THAT(readings.groups, IsEmpty());
  EXPECT_FALSE(readings.gpu.has_value());
  EXPECT_EQ(HostPercent(readings), 0u);

  Write("/proc/meminfo", "MemTotal: 1000 kB");  // No MemAvailable: before Linux 3.14.
  Write("/proc/pressure/memory", "");
  Write("/proc/self/cgroup", "no cgroup at all\n::::\n4:memory:/gone");
  EXPECT_EQ(HostPercent(Read(seconds(1))), 0u);
  EXPECT_FALSE(Read(seconds(2)).host.has_value());
  EXPECT_THAT(Read(seconds(3)).groups, IsEmpty());
}

TEST_F(PressureReaderTest, ReadsTheHostsMemory) {
  Write("/proc/meminfo", "MemTotal:        8000000 kB\nMemFree: 1 kB\nMemAvailable: 6000000 kB");
  const PressureReadings readings = Read();
  ASSERT_TRUE(readings.host.has_value());
  EXPECT_EQ(readings.host->bytes_max, uint64_t{8000000} << 10);
  EXPECT_EQ(readings.host->bytes_free, uint64_t{6000000} << 10);
}

TEST_F(PressureReaderTest, ReadsEveryGroupOfVersion1) {
  Write("/proc/self/cgroup", "5:cpu:/a\n4:memory:/a/b\n0::/");
  const std::string root = "/sys/fs/cgroup/memory";
  Write(root + "/memory.limit_in_bytes", "9223372036854771712");
  Write(root + "/memory.usage_in_bytes", "1");
  Write(root + "/a/memory.limit_in_bytes", absl::StrCat(2 * kGiB));
  Write(root + "/a/memory.usage_in_bytes", absl::StrCat(kGiB));
  Write(root + "/a/b/memory.limit_in_bytes", absl::StrCat(kGiB));
  Write(root + "/a/b/memory.usage_in_bytes", absl::StrCat(kGiB));
  // Files that the kernel would drop take no memory from anybody.
  Write(root + "/a/b/memory.stat", absl::StrCat("cache 0\ninactive_file 5\ntotal_inactive_file ",
                                                64 * kMiB, "\ntotal_active_file ", 32 * kMiB));
  const PressureReadings readings = Read();
  ASSERT_THAT(readings.groups, SizeIs(2));
  EXPECT_EQ(readings.groups[0].bytes_max, kGiB);
  EXPECT_EQ(readings.groups[0].bytes_free, 96 * kMiB);
  EXPECT_EQ(readings.groups[1].bytes_max, 2 * kGiB);
  EXPECT_EQ(readings.groups[1].bytes_free, kGiB);
  EXPECT_EQ(HostPercent(readings), 25u);
}

TEST_F(PressureReaderTest, ReadsEveryGroupOfVersion2) {
  Write("/proc/self/cgroup", "0::/slice/pod");
  const std::string root = "/sys/fs/cgroup";
  Write(root + "/slice/memory.max", "max");
  Write(root + "/slice/memory.current", absl::StrCat(9 * kGiB));
  Write(root + "/slice/pod/memory.max", absl::StrCat(kGiB));
  Write(root + "/slice/pod/memory.current", absl::StrCat(kGiB + kMiB));
  Write(root + "/slice/pod/memory.stat", absl::StrCat("anon 7\ninactive_file ", kMiB));
  PressureReadings readings = Read();
  ASSERT_THAT(readings.groups, SizeIs(1));
  EXPECT_EQ(readings.groups[0].bytes_free, 0u);
  EXPECT_EQ(HostPercent(readings), 100u);
  // Over its limit for a moment.
  Write(root + "/slice/pod/memory.current", absl::StrCat(2 * kGiB));
  readings = Read();
  ASSERT_THAT(readings.groups, SizeIs(1));
  EXPECT_EQ(readings.groups[0].bytes_free, 0u);
}

TEST_F(PressureReaderTest, InsideOfAContainerTheGroupIsTheRootOfWhatIsMounted) {
  Write("/proc/self/cgroup", "0::/");
  Write("/sys/fs/cgroup/memory.max", absl::StrCat(kGiB));
  Write("/sys/fs/cgroup/memory.current", absl::StrCat(kMiB));
  WriteStalls("/sys/fs/cgroup/memory.pressure", 0);
  EXPECT_THAT(Read().groups, SizeIs(1));
  WriteStalls("/sys/fs/cgroup/memory.pressure", 900'000);
  EXPECT_EQ(Read(seconds(1)).stall_percent, 90u);
}

TEST_F(PressureReaderTest, WaitingIsThatSinceTheReadingBefore) {
  Write("/proc/self/cgroup", "0::/pod");
  const std::string pod = "/sys/fs/cgroup/pod";
  Write(pod + "/memory.current", "1");
  WriteStalls(pod + "/memory.pressure", 5'000'000);
  WriteStalls("/proc/pressure/memory", 7'000'000);
  PressureReadings readings = Read();
  EXPECT_FALSE(readings.stall_percent.has_value()) << "since when?";
  EXPECT_FALSE(readings.stall_percent_host.has_value());

  WriteStalls(pod + "/memory.pressure", 6'000'000);
  WriteStalls("/proc/pressure/memory", 8'800'000);
  readings = Read(seconds(2));
  EXPECT_EQ(readings.stall_percent, 50u);
  EXPECT_EQ(readings.stall_percent_host, 90u);
  readings = Read(seconds(4));
  EXPECT_EQ(readings.stall_percent, 0u);

  // Not there for a moment, and begun anew: nothing can be said of the time between.
  std::filesystem::remove(path_ + "/proc/pressure/memory");
  EXPECT_FALSE(Read(seconds(5)).stall_percent_host.has_value());
  WriteStalls("/proc/pressure/memory", 1'000);
  EXPECT_FALSE(Read(seconds(6)).stall_percent_host.has_value());
  EXPECT_EQ(Read(seconds(7)).stall_percent_host, 0u);
  WriteStalls("/proc/pressure/memory", 500);
  EXPECT_FALSE(Read(seconds(8)).stall_percent_host.has_value());
}

TEST_F(PressureReaderTest, WhatTheWholeSystemWaitsForIsNoGroupsOwn) {
  // The root of all groups has no memory.current.
  Write("/proc/self/cgroup", "0::/");
  WriteStalls("/sys/fs/cgroup/memory.pressure", 0);
  Read();
  WriteStalls("/sys/fs/cgroup/memory.pressure", 1'000'000);
  EXPECT_FALSE(Read(seconds(1)).stall_percent.has_value());
}

}  // namespace
}  // namespace cairn
