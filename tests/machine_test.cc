// What is read of a machine, from trees of files made for it, and what is recommended by it.

#include "cairn/machine.h"

#include <filesystem>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/machine/detect.h"
#include "src/machine/readings.h"
#include "tests/disk_fixture.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kGiB = 1_GiB;

class MachineTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    const std::string file = path_ + path;
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    WriteFile(file, text + "\n");
  }

  void WriteCpu(int cpu, int package, int core) {
    const std::string topology = absl::StrCat("/sys/devices/system/cpu/cpu", cpu, "/topology/");
    Write(topology + "physical_package_id", absl::StrCat(package));
    Write(topology + "core_id", absl::StrCat(core));
  }

  void WriteCache(int index, const std::string& type, int level, const std::string& size,
                  const std::string& cpus) {
    const std::string cache = absl::StrCat("/sys/devices/system/cpu/cpu0/cache/index", index, "/");
    Write(cache + "type", type);
    Write(cache + "level", absl::StrCat(level));
    Write(cache + "size", size);
    Write(cache + "shared_cpu_list", cpus);
  }

  // Four threads on two cores, 8 GB, one SSD.
  void MakeLaptop() {
    Write("/sys/devices/system/cpu/online", "0-3");
    for (int cpu = 0; cpu < 4; ++cpu) WriteCpu(cpu, 0, cpu % 2);
    WriteCache(0, "Data", 1, "32K", "0,2");
    WriteCache(1, "Instruction", 1, "32K", "0,2");
    WriteCache(2, "Unified", 2, "256K", "0,2");
    WriteCache(3, "Unified", 3, "6144K", "0-3");
    Write("/sys/devices/system/node/online", "0");
    Write("/sys/devices/system/node/node0/cpulist", "0-3");
    Write("/sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       8000000 kB");
    Write("/proc/meminfo", "MemTotal:        8000000 kB\nMemFree: 1 kB\nMemAvailable: 6000000 kB");
    Write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0");
    Write("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never");
    Write("/sys/devices/nvme0n1/queue/nr_requests", "1023");
    Write("/sys/devices/nvme0n1/queue/max_sectors_kb", "128");
    Write("/sys/devices/nvme0n1/queue/rotational", "0");
    std::filesystem::create_directories(path_ + "/sys/devices/nvme0n1/nvme0n1p2");
    std::filesystem::create_directories(path_ + "/sys/dev/block");
    std::filesystem::create_directory_symlink("../../devices/nvme0n1/nvme0n1p2",
                                              path_ + "/sys/dev/block/259:2");
  }

  Machine Read(uint32_t cpus_allowed = 4) {
    return ReadMachine({.root = path_,
                        .cpus_allowed = cpus_allowed,
                        .memlock_bytes_max = std::numeric_limits<uint64_t>::max(),
                        .device_number = (259 << 8) | 2});
  }

  static std::string Reason(const RecommendedOptions& recommended, const std::string& option) {
    for (const RecommendedOption& choice : recommended.choices) {
      if (choice.option == option) return choice.reason;
    }
    return "";
  }

  const TemporaryDirectory directory_;
  const std::string path_ = directory_.path();
};

TEST_F(MachineTest, ReadsALaptop) {
  MakeLaptop();
  const Machine machine = Read();
  EXPECT_EQ(machine.cpus, 4U);
  EXPECT_EQ(machine.cores_machine, 2U);
  ASSERT_THAT(machine.caches, SizeIs(3));
  EXPECT_EQ(machine.caches[2].level, 3U);
  EXPECT_EQ(machine.caches[2].bytes, uint64_t{6} << 20);
  EXPECT_EQ(machine.caches[2].cpus_sharing, 4U);
  ASSERT_THAT(machine.numa_nodes, SizeIs(1));
  EXPECT_EQ(machine.numa_nodes[0].memory_bytes, 8000000_KiB);
  EXPECT_EQ(machine.memory_bytes, 8000000_KiB);
  EXPECT_EQ(machine.memory_bytes_available, 6000000_KiB);
  EXPECT_EQ(machine.memory_limit_bytes, 0U);
  EXPECT_EQ(machine.transparent_huge_pages, "madvise");
  // Of a partition: what its disk has.
  EXPECT_EQ(machine.drive.device, "nvme0n1p2");
  EXPECT_EQ(machine.drive.queue_depth, 1023U);
  EXPECT_EQ(machine.drive.request_bytes_max, uint64_t{128} << 10);
  EXPECT_FALSE(machine.drive.rotational);
}

TEST_F(MachineTest, KnowsNothingOfAnEmptySystem) {
  const Machine machine = Read(0);
  EXPECT_EQ(machine.cores_machine, 0U);
  EXPECT_THAT(machine.caches, IsEmpty());
  EXPECT_THAT(machine.numa_nodes, IsEmpty());
  EXPECT_EQ(machine.memory_bytes, 0U);
  EXPECT_EQ(machine.drive.device, "");
  const RecommendedOptions recommended = RecommendOptions(machine, "/nvme/store");
  EXPECT_TRUE(recommended.options.Validate().ok());
  EXPECT_EQ(recommended.options.l2_bytes_max, StoreOptions().l2_bytes_max);
}

TEST_F(MachineTest, CountsTheNodesOfAServer) {
  Write("/sys/devices/system/cpu/online", "0-95,128-223");
  Write("/sys/devices/system/node/online", "0-1");
  Write("/sys/devices/system/node/node0/cpulist", "0-95");
  Write("/sys/devices/system/node/node1/cpulist", "128-223");
  const Machine machine = Read(192);
  EXPECT_EQ(machine.cores_machine, 192U);
  ASSERT_THAT(machine.numa_nodes, SizeIs(2));
  EXPECT_EQ(machine.numa_nodes[0].cpus, 96U);
  EXPECT_EQ(machine.numa_nodes[1].cpus, 96U);
  const RecommendedOptions recommended = RecommendOptions(machine, "/nvme/store");
  EXPECT_EQ(recommended.options.stripe_count, 4096U);
  EXPECT_EQ(recommended.options.io_threads, 32U);
  EXPECT_TRUE(recommended.options.Validate().ok());
  EXPECT_THAT(Reason(recommended, "l2_numa_node"), HasSubstr("interleaved over 2"));

  Machine with_gpu = machine;
  with_gpu.gpus = {{.name = "A GPU", .memory_bytes_free = 80 * kGiB, .numa_node = 1}};
  const RecommendedOptions near_gpu = RecommendOptions(with_gpu, "/nvme/store");
  EXPECT_THAT(Reason(near_gpu, "l2_numa_node"), HasSubstr("node 1, where A GPU is attached"));
  EXPECT_EQ(near_gpu.options.l2_numa_node, -1);
}

TEST_F(MachineTest, HeedsTheTightestControlGroupOfVersion2) {
  MakeLaptop();
  Write("/proc/self/cgroup", "0::/serving/model");
  Write("/sys/fs/cgroup/serving/memory.max", "4294967296");
  Write("/sys/fs/cgroup/serving/memory.current", "1073741824");
  Write("/sys/fs/cgroup/serving/memory.stat",
        "anon 5\ninactive_file 268435456\nactive_file 268435456");
  Write("/sys/fs/cgroup/serving/model/memory.max", "max");
  const Machine machine = Read();
  EXPECT_EQ(machine.memory_limit_bytes, 4 * kGiB);
  EXPECT_EQ(machine.memory_limit_bytes_used, kGiB / 2);
  EXPECT_EQ(machine.MemoryBytesUsable(), 4 * kGiB - kGiB / 2);
  const RecommendedOptions recommended = RecommendOptions(machine, "/nvme/store");
  EXPECT_EQ(recommended.options.l2_bytes_max, 7 * kGiB / 8);
  EXPECT_THAT(Reason(recommended, "l2_bytes_max"), HasSubstr("control group"));
}

TEST_F(MachineTest, HeedsAControlGroupOfVersion1AndKnowsItsWordForNoLimit) {
  MakeLaptop();
  Write("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/a/b\n0::/");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  EXPECT_EQ(Read().memory_limit_bytes, 0U);
  Write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2147483648");
  Write("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "3221225472");
  Write("/sys/fs/cgroup/memory/a/memory.stat",
        "cache 3\ntotal_inactive_file 1073741820\ntotal_active_file 4");
  EXPECT_EQ(Read().memory_limit_bytes, 2 * kGiB);
  EXPECT_EQ(Read().MemoryBytesUsable(), 0U);
}

TEST_F(MachineTest, FilesThatReadOtherwiseAreNoFigures) {
  MakeLaptop();
  Write("/sys/devices/system/cpu/online", "x-y,,7-");
  Write("/proc/meminfo", "MemTotal: many kB\nMemAvailable:");
  Write("/sys/kernel/mm/transparent_hugepage/enabled", "]madvise[");
  Write("/sys/devices/nvme0n1/queue/nr_requests", "99999999999999999999999");
  const Machine machine = Read();
  EXPECT_EQ(machine.memory_bytes, 0U);
  EXPECT_EQ(machine.memory_bytes_available, 0U);
  EXPECT_EQ(machine.transparent_huge_pages, "");
  EXPECT_EQ(machine.drive.queue_depth, 0U);
}

TEST(ParseCpuListTest, TakesSinglesAndRunsAndEndsWhatDoesNot) {
  EXPECT_THAT(ParseCpuList("0-2,5,9-9\n"), ElementsAre(0, 1, 2, 5, 9));
  EXPECT_THAT(ParseCpuList(""), IsEmpty());
  EXPECT_THAT(ParseCpuList("0-4294967295"), SizeIs(65536));
}

TEST_F(MachineTest, RecommendsByWhatIsFree) {
  MakeLaptop();
  Machine machine = Read();
  machine.drive.directory = "/nvme";
  machine.drive.bytes_total = 500 * kGiB;
  machine.drive.bytes_free = 100 * kGiB;
  RecommendedOptions recommended = RecommendOptions(machine, "/nvme/store");
  EXPECT_EQ(recommended.options.path, "/nvme/store");
  EXPECT_EQ(recommended.options.l1_bytes_max, 0U);
  EXPECT_EQ(recommended.options.l3_bytes_max, 50 * kGiB);
  EXPECT_LE(recommended.options.l2_bytes_max, machine.memory_bytes_available / 4);
  EXPECT_GT(recommended.options.l2_bytes_max, kGiB);
  EXPECT_TRUE(recommended.options.Validate().ok());

  machine.gpus.push_back({.ordinal = 3, .name = "a GPU", .memory_bytes_free = 64 * kGiB});
  machine.memlock_bytes_max = 8 << 20;
  recommended = RecommendOptions(machine, "/nvme/store");
  EXPECT_EQ(recommended.options.l1_bytes_max, 4 * kGiB);
  EXPECT_THAT(recommended.options.gpus, ElementsAre(3));
  EXPECT_THAT(Reason(recommended, "l2_bytes_max"), HasSubstr("memlock allows 8 MiB"));

  // A full disk and a full machine: the least that a store takes.
  machine.drive.bytes_free = 0;
  machine.memory_bytes_available = 1;
  machine.gpus[0].memory_bytes_free = 5;
  recommended = RecommendOptions(machine, "/nvme/store");
  EXPECT_EQ(recommended.options.l1_bytes_max, 0U);
  EXPECT_EQ(recommended.options.l3_bytes_max, StoreOptions::kL3BytesMin);
  EXPECT_EQ(recommended.options.l2_bytes_max, StoreOptions::kL2BytesMin);
  EXPECT_TRUE(recommended.options.Validate().ok());
}

TEST_F(MachineTest, DetectsTheOneItRunsOn) {
  const Machine machine = DetectMachine(path_ + "/not/there/yet");
  EXPECT_EQ(machine.drive.directory, path_);
  EXPECT_GE(machine.cpus, 1U);
  EXPECT_GT(machine.memory_bytes, 0U);
  EXPECT_GT(machine.drive.bytes_total, machine.drive.bytes_free / 2);
  EXPECT_EQ(machine.gpus.empty(), !machine.gpu_refusal.empty());
  const RecommendedOptions recommended = RecommendOptions(machine, path_);
  EXPECT_TRUE(recommended.options.Validate().ok()) << recommended.options.Validate();
}

TEST(AttentionTileTest, FitsThreeTilesIntoSharedMemory) {
  constexpr uint64_t kShared = 48 << 10;
  EXPECT_EQ(AttentionTileRows(kShared, 64, DType::kFp32), 64U);
  EXPECT_EQ(AttentionTileRows(kShared, 128, DType::kFp32), 32U);
  EXPECT_EQ(AttentionTileRows(kShared, 256, DType::kFp32), 16U);
  EXPECT_EQ(AttentionTileRows(kShared, 512, DType::kFp32), 8U);
  EXPECT_EQ(AttentionTileRows(kShared, 128, DType::kBf16), 64U);
  EXPECT_EQ(AttentionTileRows(kShared, 80, DType::kFp32), 32U);  // 51 rows would fit.
  EXPECT_EQ(AttentionTileRows(227 << 10, 128, DType::kFp32), 128U);
  EXPECT_EQ(AttentionTileRows(kShared, 4097, DType::kFp32), 0U);
  EXPECT_EQ(AttentionTileRows(kShared, 0, DType::kFp32), 0U);
  EXPECT_EQ(AttentionTileRows(0, 64, DType::kFp32), 0U);
}

}  // namespace
}  // namespace cairn
