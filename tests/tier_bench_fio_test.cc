// How tier-bench has fio do the same, and what it reads of it.

#include <string>
#include <vector>

#include "bench/tier/fio_command.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace cairn::bench {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

TEST(TierBenchFio, SaysTheSameInFiosWords) {
  Job job;
  job.name = "x";
  job.access = Access::kRandRead;
  job.block_bytes = 1 << 20;
  job.depth = 4;
  const DataFiles files = {.paths = {"/d/0.data", "/d/1.data"}, .first_offset = 1 << 20};
  const FioJob fio_job = {.job = &job, .files = files};
  const Words words = FioCommand({&fio_job, 1}, 2, "/proc/1/fd/5");
  for (const char* word :
       {"fio", "--readonly", "--ioengine=io_uring", "--direct=1", "--iomem=mmaphuge:/proc/1/fd/5",
        "--fixedbufs=1", "--registerfiles=1", "--name=x", "--filename=/d/0.data:/d/1.data",
        "--offset=1048576", "--rw=randread", "--file_service_type=random", "--bs=1048576",
        "--iodepth=4", "--numjobs=1", "--runtime=2000ms"}) {
    EXPECT_THAT(words, Contains(word));
  }
  job.access = Access::kRandReadWrite;
  job.sync_every = 8;
  const Words mixed = FioCommand({&fio_job, 1}, 2, "");
  EXPECT_THAT(mixed, AllOf(Contains("--rwmixread=50"), Contains("--fdatasync=8"),
                           Contains("--iomem=mmap"), Not(Contains("--readonly"))));
  job.durability = Durability::kFlushed;
  EXPECT_THAT(FioCommand({&fio_job, 1}, 2, ""), Contains("--fdatasync=1"));
}

TEST(TierBenchFio, ReadsItsFigures) {
  const auto by_name = FioFigures(R"(note: first
{"jobs": [
  {"jobname": "a", "usr_cpu": 10, "sys_cpu": 15.5, "write": {"bw_bytes": 20, "iops": 2},
   "read": {"bw_bytes": 100, "clat_ns": {"percentile": {"50.000000": 7, "99.900000": 9}}}},
  {"jobname": "a", "usr_cpu": 1,
   "read": {"bw_bytes": 3, "clat_ns": {"percentile": {"50.000000": 8}}}}]})");
  ASSERT_TRUE(by_name.ok()) << by_name.status();
  const RunFigures& figures = by_name->at("a");
  EXPECT_EQ(figures.bytes_per_s(), 123);
  EXPECT_EQ(figures.write.ios_per_s, 2);
  EXPECT_THAT(figures.read.clat_ns, ElementsAre(8, 0, 9));
  EXPECT_DOUBLE_EQ(figures.cores, 0.265);
  EXPECT_EQ(FioFigures("fio: no such thing").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(FioFigures("{\"jobs\": 3}").status().code(), absl::StatusCode::kDataLoss);
}

TEST(TierBenchFio, SaysWhenThereIsNone) {
  const auto output = RunCommand({"/nowhere/fio", "--version"});
  EXPECT_EQ(output.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(output.status().message()),
              HasSubstr("cannot run /nowhere/fio: No such file or directory (is the package fio "
                        "installed?)"));
  EXPECT_THAT(std::string(RunCommand({"sh", "-c", "echo why; exit 3"}).status().message()),
              HasSubstr("sh failed: why"));
  // fio prints its JSON even so.
  EXPECT_EQ(RunCommand({"sh", "-c", "echo why; echo '{}'; exit 3"}).status().message(),
            "sh failed: why");
}

}  // namespace
}  // namespace cairn::bench
