// Where L2 goes on machines with several NUMA nodes: what is read of a machine, from trees of files
// made for it, what is planned by it, and what a store does with that.

#include "tiers/numa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "src/base/strings.h"
#include "src/machine/numa_topology.h"
#include "tests/disk_fixture.h"
#include "tests/l1_fixture.h"
#include "tiers/host_device.h"

namespace cairn {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kGiB = 1_GiB;
constexpr char kPciAddress[] = "0000:81:00.0";

// Two sockets of two nodes each: 12 to the neighbour, 20 and 22 to the others.
NumaTopology FourNodes(std::vector<uint64_t> gib_free) {
  constexpr uint32_t kDistances[4][4] = {
      {10, 12, 20, 22}, {12, 10, 22, 20}, {20, 22, 10, 12}, {22, 20, 12, 10}};
  NumaTopology topology;
  for (uint32_t i = 0; i < 4; ++i) {
    NumaNodeMemory node = {.node = i, .has_cpus = true, .bytes_free = gib_free[i] * kGiB};
    for (uint32_t j = 0; j < 4; ++j) node.distances[j] = kDistances[i][j];
    topology.nodes.push_back(std::move(node));
  }
  return topology;
}

NumaTopology TwoNodes(uint64_t gib_free_0, uint64_t gib_free_1) {
  NumaTopology topology = FourNodes({gib_free_0, gib_free_1, 0, 0});
  topology.nodes.resize(2);
  return topology;
}

std::string Plan(const NumaTopology& topology, uint64_t bytes,
                 std::optional<uint32_t> wanted = std::nullopt) {
  const auto ranges = PlanNumaPlacement(topology, bytes, wanted);
  if (!ranges.ok()) return std::string(ToStd(ranges.status().message()));
  uint64_t end = 0;
  for (const NumaRange& range : *ranges) {
    EXPECT_EQ(range.offset, end);
    EXPECT_EQ(range.offset % (2_MiB), 0U);
    EXPECT_GT(range.bytes, 0U);
    end += range.bytes;
  }
  EXPECT_TRUE(ranges->empty() || end == bytes);
  return DescribeNumaPlacement(*ranges);
}

TEST(NumaPlanTest, WithoutAGpuAllNodesTakeTurns) {
  EXPECT_EQ(Plan(TwoNodes(64, 32), 16 * kGiB), "16 GiB interleaved over nodes 0, 1");
  EXPECT_EQ(Plan(FourNodes({8, 8, 8, 8}), 16 * kGiB), "16 GiB interleaved over nodes 0, 1, 2, 3");
  // The process may not use the others.
  EXPECT_EQ(Plan(FourNodes({0, 8, 0, 8}), 4 * kGiB), "4 GiB interleaved over nodes 1, 3");
}

TEST(NumaPlanTest, TheGpusNodeIsFilledFirstThenTheNearest) {
  NumaTopology topology = TwoNodes(64, 64);
  topology.device_node = 1;
  EXPECT_EQ(Plan(topology, 16 * kGiB), "16 GiB on node 1");
  EXPECT_EQ(Plan(topology, 64 * kGiB), "56 GiB on node 1; 8 GiB on node 0");

  NumaTopology four = FourNodes({16, 16, 16, 16});
  four.device_node = 3;
  EXPECT_EQ(Plan(four, 50 * kGiB),
            "14 GiB on node 3; 14 GiB on node 2; 14 GiB on node 1; 8 GiB on node 0");
  // What has no room anywhere is said of all.
  EXPECT_EQ(Plan(four, 60 * kGiB),
            "14 GiB on node 3; 14 GiB on node 2; 14 GiB on node 1; 14 GiB on node 0; 4 GiB "
            "interleaved over nodes 0, 1, 2, 3");
  // A node without memory of its own has neighbours all the same.
  four.nodes[3].bytes_free = 0;
  EXPECT_EQ(Plan(four, 20 * kGiB), "14 GiB on node 2; 6 GiB on node 1");
}

TEST(NumaPlanTest, AHostsWordGoesBeforeTheGpu) {
  NumaTopology topology = FourNodes({16, 16, 16, 16});
  topology.device_node = 3;
  EXPECT_EQ(Plan(topology, 8 * kGiB, 0), "8 GiB on node 0");
  EXPECT_EQ(Plan(topology, 20 * kGiB, 0), "14 GiB on node 0; 6 GiB on node 1");
}

TEST(NumaPlanTest, ANodeWithoutCpusIsForThoseWhoNameIt) {
  NumaTopology topology = TwoNodes(64, 64);
  NumaNodeMemory far = {.node = 2, .has_cpus = false, .bytes_free = 512 * kGiB};
  topology.nodes.push_back(far);
  EXPECT_EQ(Plan(topology, 16 * kGiB), "16 GiB interleaved over nodes 0, 1");
  EXPECT_EQ(Plan(topology, 16 * kGiB, 2), "16 GiB on node 2");
  topology.device_node = 1;
  EXPECT_EQ(Plan(topology, 120 * kGiB),
            "56 GiB on node 1; 56 GiB on node 0; 8 GiB interleaved over nodes 0, 1");
}

TEST(NumaPlanTest, OneNodeIsAskedNothing) {
  NumaTopology topology = TwoNodes(64, 0);
  topology.device_node = 0;
  EXPECT_EQ(Plan(topology, 16 * kGiB), "");
  EXPECT_EQ(Plan(topology, 16 * kGiB, 0), "");
  EXPECT_EQ(Plan({}, 16 * kGiB), "");
  EXPECT_EQ(Plan({}, 16 * kGiB, 0), "");
}

TEST(NumaPlanTest, ANodeThatIsNotThereIsRefusedWithThoseThatAre) {
  EXPECT_EQ(Plan(FourNodes({8, 0, 8, 8}), kGiB, 7),
            "StoreOptions::l2_numa_node is 7: must be -1, or a node with memory that this process "
            "may use: 0, 2, 3");
  EXPECT_THAT(Plan(FourNodes({8, 0, 8, 8}), kGiB, 1), HasSubstr("is 1: must be"));
  EXPECT_THAT(Plan({}, kGiB, 1), HasSubstr("may use: 0"));
}

// A store on a machine of files: L2 of 16 MiB, and what it asks of the system is written down.
class StoreNumaTest : public L1Test {
 protected:
  StoreNumaTest() { options_.l1_bytes_max = 0; }

  void Write(const std::string& path, const std::string& text) {
    const std::string file = root_.path() + path;
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    WriteFile(file, text + "\n");
  }
  void WriteNode(int node, const std::string& cpus, const std::string& distances, uint64_t mib) {
    const std::string folder = absl::StrCat("/sys/devices/system/node/node", node);
    Write(folder + "/cpulist", cpus);
    Write(folder + "/distance", distances);
    Write(folder + "/meminfo",
          absl::StrCat("Node ", node, " MemTotal: 99999999 kB\nNode ", node,
                       " MemFree: ", mib * 512, " kB\nNode ", node, " Inactive(file): ", mib * 256,
                       " kB\nNode ", node, " Active(file): ", mib * 256, " kB"));
  }
  void MakeTwoNodes(uint64_t mib_0, uint64_t mib_1) {
    Write("/sys/devices/system/node/online", "0-1");
    WriteNode(0, "0-3", "10 21", mib_0);
    WriteNode(1, "4-7", "21 10", mib_1);
  }
  StoreSeams Seams(absl::Status answer = absl::OkStatus()) {
    StoreSeams seams;
    seams.machine_root = root_.path();
    seams.place_memory = [this, answer](absl::Span<std::byte> memory,
                                        absl::Span<const uint32_t> nodes) {
      asked_.push_back(absl::StrCat(memory.size() / kMiB, ":", absl::StrJoin(nodes, ",")));
      return answer;
    };
    seams.open_device = [this](DeviceKind, int ordinal) -> absl::StatusOr<std::unique_ptr<Device>> {
      auto device = std::make_unique<FaultyDevice>(NewHostDevice({.ordinal = ordinal}));
      device->poses_as_gpu = gpu_;
      device->pci_address = kPciAddress;
      return device;
    };
    return seams;
  }

  const TemporaryDirectory root_;
  bool gpu_ = false;
  std::vector<std::string> asked_;
};

TEST_F(StoreNumaTest, IsInterleavedWithoutAGpu) {
  MakeTwoNodes(1024, 1024);
  Open(Seams());
  EXPECT_THAT(asked_, ElementsAre("16:0,1"));
  EXPECT_EQ(store_->Stats().l2_numa_placement, "16 MiB interleaved over nodes 0, 1");
  EXPECT_THAT(store_->Stats().ToJson(), HasSubstr("interleaved over nodes 0, 1"));
  ASSERT_TRUE(Put("t", kMiB).ok());
  Expect("t", kMiB);
}

TEST_F(StoreNumaTest, PrefersTheGpusNodeAsFarAsItHasRoom) {
  MakeTwoNodes(1024, 16);
  gpu_ = true;
  Write(absl::StrCat("/sys/bus/pci/devices/", kPciAddress, "/numa_node"), "1");
  Open(Seams());
  EXPECT_THAT(asked_, ElementsAre("14:1", "2:0"));
  EXPECT_EQ(store_->Stats().l2_numa_placement, "14 MiB on node 1; 2 MiB on node 0");
}

TEST_F(StoreNumaTest, AGpuOfNoNodeIsNoReason) {
  MakeTwoNodes(1024, 1024);
  gpu_ = true;
  Write(absl::StrCat("/sys/bus/pci/devices/", kPciAddress, "/numa_node"), "-1");
  Open(Seams());
  EXPECT_THAT(asked_, ElementsAre("16:0,1"));
}

TEST_F(StoreNumaTest, PrefersTheNodeThatTheHostNames) {
  MakeTwoNodes(1024, 1024);
  options_.l2_numa_node = 1;
  Open(Seams());
  EXPECT_THAT(asked_, ElementsAre("16:1"));
}

TEST_F(StoreNumaTest, OneNodeIsAskedNothing) {
  Write("/sys/devices/system/node/online", "0");
  WriteNode(0, "0-3", "10", 1024);
  options_.l2_numa_node = 0;
  Open(Seams());
  EXPECT_THAT(asked_, IsEmpty());
  EXPECT_EQ(store_->Stats().l2_numa_placement, "");
  Reopen();
}

TEST_F(StoreNumaTest, NodesThatTheProcessMayNotUseAreNone) {
  MakeTwoNodes(1024, 1024);
  Write("/proc/self/status", "Name: x\nMems_allowed:\t1\nMems_allowed_list:\t0");
  Open(Seams());
  EXPECT_THAT(asked_, IsEmpty());
  store_.reset();
  options_.l2_numa_node = 1;
  ExpectStatus(OpenStore(options_, Seams()).status(), absl::StatusCode::kInvalidArgument,
               "StoreOptions::l2_numa_node is 1: must be -1, or a node with memory that this "
               "process may use: 0");
}

TEST_F(StoreNumaTest, ARefusalIsSaidOnceAndIsNoError) {
  MakeTwoNodes(1024, 16);
  options_.l2_numa_node = 1;
  Open(Seams(absl::UnavailableError("mbind: not permitted")));
  EXPECT_THAT(asked_, SizeIs(1));
  EXPECT_EQ(store_->Stats().l2_numa_placement, "");
  ASSERT_TRUE(Put("t", kMiB).ok());
  Expect("t", kMiB);
  const MutexLock lock(log_mutex_);
  EXPECT_THAT(log_, Contains(HasSubstr("mbind: not permitted")).Times(1));
}

TEST_F(StoreNumaTest, ANegativeNodeIsRefused) {
  options_.l2_numa_node = -2;
  ExpectStatus(options_.Validate(), absl::StatusCode::kInvalidArgument, "l2_numa_node is -2");
}

// The system itself. Where it refuses, in a container perhaps, that is a status with a reason.
TEST(NumaSystemTest, TheNodeOfThisMachineIsTaken) {
  const NumaTopology topology = ReadNumaTopology(Readings(""), "");
  if (topology.nodes.empty()) GTEST_SKIP() << "the system does not tell its nodes";
  const uint32_t node = topology.nodes.front().node;
  EXPECT_GT(topology.nodes.front().bytes_free, 0U);
  for (const std::vector<uint32_t>& nodes : {std::vector{node}, std::vector{node, node + 1}}) {
    const auto arena =
        Arena::Create(4 * kMiB, {.ranges = {{0, 2 * kMiB, nodes}, {2 * kMiB, 2 * kMiB, {node}}}});
    ASSERT_TRUE(arena.ok()) << arena.status();
    const absl::Status placed = (*arena)->placement_status();
    if (!placed.ok()) {
      EXPECT_TRUE(absl::IsUnavailable(placed)) << placed;
      GTEST_SKIP() << placed;
    }
    (*arena)->Populate((*arena)->memory());
    (*arena)->memory().back() = std::byte{1};
  }
}

}  // namespace
}  // namespace cairn
