// Runs the program tier-bench as a user does, on a few MiB. TIER_BENCH_PATH is where the build put
// it. No figure of time is checked.

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "bench/median.h"
#include "bench/tier/measurement.h"
#include "bench/tier/own_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "io/data_file.h"
#include "nlohmann/json.hpp"
#include "tests/disk_fixture.h"
#include "tests/process.h"

namespace cairn::bench {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

Words operator+(Words left, const Words& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

class TierBenchTest : public ::testing::Test {
 protected:
  ProcessEnd Run(const Words& words) const {
    return Process(directory_.path(), Words{TIER_BENCH_PATH} + words).Wait();
  }

  Words Job(const Words& words) const {
    return Words{"--directory=" + directory_ / "bench", "--name=j", "--size=8m"} + words;
  }

  // The one report of a run that must go well.
  Json Report(const Words& words) const {
    const ProcessEnd end = Run(Job(words) + Words{"--output-format=json"});
    EXPECT_EQ(end.exit_code, 0) << end.err;
    const Json json = Json::parse(end.out, nullptr, false);
    if (!json.is_object() || json["jobs"].size() != 1) {
      ADD_FAILURE() << end.out;
      return {};
    }
    return json["jobs"][0];
  }

  std::string DataFile(const std::string& store, uint32_t number) const {
    return DataFilePath(directory_ / ("bench/" + store + "/data"), number);
  }

  const TemporaryDirectory directory_;
};

TEST_F(TierBenchTest, NvmeReadsWhatWasAsked) {
  const Json job = Report({"--rw=randread", "--bs=256k", "--iodepth=4", "--io_size=16m"});
  EXPECT_EQ(job["error"], 0);
  EXPECT_EQ(job["read"]["io_bytes"], 16_MiB);
  EXPECT_EQ(job["read"]["total_ios"], 64);
  EXPECT_EQ(job["write"]["total_ios"], 0);
  EXPECT_EQ(job["read"]["clat_ns"]["N"], 64);
  EXPECT_GT(job["read"]["clat_ns"]["percentile"]["99.000000"], 0);
  EXPECT_EQ(job["tensor_store"]["tier"], "nvme");
  EXPECT_EQ(job["job options"]["iodepth"], "4");
}

TEST_F(TierBenchTest, NvmeWritesWhatWasAskedInPartsAndFlushes) {
  const Json job = Report({"--rw=write", "--bs=2m", "--iodepth=2", "--fdatasync=2"});
  EXPECT_EQ(job["write"]["io_bytes"], 8_MiB);
  EXPECT_EQ(job["write"]["total_ios"], 4);
  EXPECT_EQ(job["sync"]["total_ios"], 2);
  EXPECT_EQ(job["tensor_store"]["device_bytes_written"], 8_MiB);
  EXPECT_EQ(job["tensor_store"]["device_bytes_written_per_user_byte"], 1.0);
}

TEST_F(TierBenchTest, NvmeByThePosixEngine) {
  const Json job = Report({"--rw=randrw", "--bs=64k", "--iodepth=8", "--engine=posix"});
  EXPECT_EQ(job["tensor_store"]["engine"], "posix");
  EXPECT_EQ(job["read"]["io_bytes"].get<uint64_t>() + job["write"]["io_bytes"].get<uint64_t>(),
            8_MiB);
  EXPECT_GT(job["read"]["total_ios"], 0);
  EXPECT_GT(job["write"]["total_ios"], 0);
}

// What is refused here is said, and the job done all the same.
TEST_F(TierBenchTest, NvmeSaysWhatWasPolled) {
  const Words words = {"--rw=randread", "--bs=64k", "--iodepth=4", "--sqthread_poll=1",
                       "--hipri=1"};
  const Json job = Report(words);
  EXPECT_EQ(job["read"]["io_bytes"], 8_MiB);
  const Json& facts = job["tensor_store"];
  if (facts["engine"] != "uring") GTEST_SKIP() << "no io_uring here";
  const std::string refusal = facts["polling_refusal"];
  EXPECT_EQ(facts["submissions_polled"], refusal.find("SQPOLL") == refusal.npos);
  EXPECT_EQ(facts["completions_polled"], refusal.find("IOPOLL") == refusal.npos);
  EXPECT_THAT(Run(Job(words)).out, HasSubstr("     polling   : submissions="));
}

TEST_F(TierBenchTest, NvmeVerifyCatchesAFlippedByte) {
  const Words read = {"--rw=read", "--bs=64k", "--iodepth=4", "--verify=pattern"};
  EXPECT_EQ(Report(read)["tensor_store"]["verified_bytes"], 8_MiB);
  FlipByte(DataFile("tier-bench.nvme", 0), 1_MiB + 77);
  const ProcessEnd end = Run(Job(read) + Words{"--output-format=json"});
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_THAT(end.err, HasSubstr("verify: block 15 of 65536 bytes is not what it must be at byte "
                                 "77"));
  const Json job = Json::parse(end.out, nullptr, false)["jobs"][0];
  EXPECT_EQ(job["error"], EILSEQ);
  EXPECT_EQ(job["tensor_store"]["verify_failures"], 1);
}

TEST_F(TierBenchTest, NvmeVerifyReadsBackWhatWasWritten) {
  const Json job = Report({"--rw=randwrite", "--bs=512k", "--iodepth=4", "--verify"});
  EXPECT_EQ(job["write"]["io_bytes"], 8_MiB);
  EXPECT_EQ(job["read"]["io_bytes"], 0);  // Comparing is no part of the work.
  EXPECT_EQ(job["tensor_store"]["verified_bytes"], 8_MiB);
  // Without verify other bytes are written; the next verify makes them right again.
  EXPECT_EQ(Report({"--rw=write", "--bs=1m"})["error"], 0);
  EXPECT_FALSE(ReadMark(directory_ / "bench/tier-bench.nvme")->content);
  EXPECT_EQ(Report({"--rw=read", "--bs=1m", "--verify"})["error"], 0);
}

TEST_F(TierBenchTest, NullEngineNeedsNoDisk) {
  const ProcessEnd end =
      Run({"--name=n", "--engine=null", "--size=8m", "--bs=4k", "--rw=randwrite", "--iodepth=8",
           "--numjobs=2", "--group_reporting", "--output-format=json"});
  ASSERT_EQ(end.exit_code, 0) << end.err;
  const Json job = Json::parse(end.out, nullptr, false)["jobs"][0];
  EXPECT_EQ(job["write"]["io_bytes"], 16_MiB);
  EXPECT_EQ(job["tensor_store"]["engine"], "null");
}

TEST_F(TierBenchTest, StoreReadsComeFromL3) {
  const Json job = Report({"--tier=store", "--rw=randread", "--bs=1m", "--iodepth=4", "--verify"});
  EXPECT_EQ(job["read"]["io_bytes"], 8_MiB);
  EXPECT_EQ(job["tensor_store"]["l3_hits"], 8);
  EXPECT_EQ(job["tensor_store"]["l2_hits"], 0);
  EXPECT_EQ(job["tensor_store"]["verified_bytes"], 8_MiB);
  EXPECT_EQ(job["tensor_store"]["checksum_failures"], 0);
  EXPECT_EQ(job["tensor_store"].contains("caveat"), job["tensor_store"]["direct"] == false);
}

TEST_F(TierBenchTest, StoreReadsOfADamagedDiskFail) {
  const Words read = {"--tier=store", "--rw=read", "--bs=1m"};
  EXPECT_EQ(Report(read)["error"], 0);
  for (uint64_t offset = 64_KiB; offset < 16_MiB; offset += 256_KiB) {
    FlipByte(DataFile("tier-bench.store", 0), offset);
  }
  const ProcessEnd end = Run(Job(read) + Words{"--output-format=json"});
  EXPECT_EQ(end.exit_code, 1);
  const Json job = Json::parse(end.out, nullptr, false)["jobs"][0];
  EXPECT_EQ(job["error"], EIO);
  EXPECT_GT(job["tensor_store"]["checksum_failures"], 0);
}

TEST_F(TierBenchTest, StorePutsByEveryDurability) {
  for (const char* durable : {"memory", "device", "flushed"}) {
    const Json job = Report({"--tier=store", "--rw=randwrite", "--bs=256k", "--iodepth=4",
                             std::string("--durable=") + durable, "--verify"});
    EXPECT_EQ(job["write"]["io_bytes"], 8_MiB) << durable;
    EXPECT_EQ(job["write"]["total_ios"], 32) << durable;
    EXPECT_EQ(job["tensor_store"]["verified_bytes"], 8_MiB) << durable;
  }
  const Json job =
      Report({"--tier=store", "--rw=write", "--bs=1m", "--iodepth=2", "--fdatasync=4"});
  EXPECT_GT(job["tensor_store"]["device_bytes_written_per_user_byte"], 1.0);
}

TEST_F(TierBenchTest, StoreOfSeveralSizes) {
  const Json job = Report({"--tier=store", "--rw=randrw", "--bssplit=4k/50:256k/50", "--iodepth=4",
                           "--verify", "--io_size=4m"});
  EXPECT_EQ(job["error"], 0);
  EXPECT_GE(job["read"]["io_bytes"].get<uint64_t>() + job["write"]["io_bytes"].get<uint64_t>(),
            4_MiB);
}

TEST_F(TierBenchTest, PinnedReadsComeFromL2) {
  const Json read = Report({"--tier=pinned", "--rw=randread", "--bs=1m", "--verify"});
  EXPECT_EQ(read["read"]["io_bytes"], 8_MiB);
  EXPECT_EQ(read["tensor_store"]["l2_hits"], 8);
  EXPECT_EQ(read["tensor_store"]["l3_hits"], 0);
  EXPECT_GT(read["tensor_store"]["percent_of_memcpy"], 0);
  EXPECT_EQ(Report({"--tier=pinned", "--rw=write", "--bs=1m"})["write"]["io_bytes"], 8_MiB);
}

// Each is copied up, and back again to be compared.
TEST_F(TierBenchTest, GpuReadsGoFromL2ToL1) {
  const Json read = Report({"--tier=gpu", "--rw=read", "--bs=1m", "--iodepth=4", "--verify"});
  EXPECT_EQ(read["read"]["io_bytes"], 8_MiB);
  EXPECT_EQ(read["error"], 0);
  EXPECT_EQ(read["tensor_store"]["verified_bytes"], 8_MiB);
  EXPECT_EQ(read["tensor_store"]["verify_failures"], 0);
  EXPECT_EQ(read["tensor_store"]["l1_hits"], 0);
  EXPECT_EQ(read["tensor_store"]["l2_hits"], 8);
  EXPECT_EQ(read["tensor_store"]["l3_hits"], 0);
  EXPECT_GT(read["tensor_store"]["percent_of_memcpy"], 0);
  if (read["tensor_store"]["device"] == "host") {
    EXPECT_THAT(read["tensor_store"]["caveat"].get<std::string>(), HasSubstr("HostDevice"));
  }
}

TEST_F(TierBenchTest, TextIsFios) {
  const ProcessEnd end = Run(Job({"--rw=randread", "--bs=1m", "--iodepth=4"}));
  ASSERT_EQ(end.exit_code, 0) << end.err;
  EXPECT_THAT(end.out,
              AllOf(HasSubstr("j: (groupid=0, jobs=1): err= 0: "), HasSubstr("\n  read: IOPS="),
                    HasSubstr("    slat ("), HasSubstr("    clat ("), HasSubstr("     lat ("),
                    HasSubstr("    clat percentiles ("), HasSubstr("     |  1.00th=["),
                    HasSubstr("\n  cpu          : usr=")));
  EXPECT_THAT(end.out, AllOf(HasSubstr("\n  IO depths    : 1="),
                             HasSubstr("issued rwts: total=8,0,0,0 short=0,0,0,0"),
                             HasSubstr("\nRun status group 0 (all jobs):\n   READ: bw="),
                             HasSubstr("io=8192KiB (8389kB)"),
                             HasSubstr("\nSummary: clat percentiles in usec"),
                             ContainsRegex("\n  j +read +1m +4 +[0-9.]+ +[0-9]+ ")));
}

TEST_F(TierBenchTest, JsonHasFiosNames) {
  const ProcessEnd end = Run(Job({"--rw=randread", "--bs=1m", "--output-format=json+"}));
  ASSERT_EQ(end.exit_code, 0) << end.err;
  const Json json = Json::parse(end.out, nullptr, false);
  for (const char* name : {"fio version", "timestamp", "timestamp_ms", "time", "jobs"}) {
    EXPECT_TRUE(json.contains(name)) << name;
  }
  const Json& job = json["jobs"][0];
  for (const char* name : {"jobname", "groupid", "error", "elapsed", "job options", "read", "write",
                           "trim", "sync", "job_runtime", "usr_cpu", "sys_cpu", "ctx", "majf",
                           "minf", "iodepth_level", "latency_depth"}) {
    EXPECT_TRUE(job.contains(name)) << name;
  }
  for (const char* name : {"io_bytes", "io_kbytes", "bw_bytes", "bw", "iops", "runtime",
                           "total_ios", "slat_ns", "clat_ns", "lat_ns", "bw_min", "bw_max",
                           "bw_mean", "bw_dev", "bw_samples", "iops_stddev"}) {
    EXPECT_TRUE(job["read"].contains(name)) << name;
  }
  for (const char* name : {"min", "max", "mean", "stddev", "N", "percentile", "bins"}) {
    EXPECT_TRUE(job["read"]["clat_ns"].contains(name)) << name;
  }
  for (const char* name :
       {"tier", "engine", "cpu_seconds_per_gb", "percent_of_core_per_gibps", "l2_hits", "l3_hits",
        "checksum_failures", "device_bytes_written_per_user_byte"}) {
    EXPECT_TRUE(job["tensor_store"].contains(name)) << name;
  }
}

TEST_F(TierBenchTest, JobFilesRunGroupsInTurn) {
  WriteFile(directory_ / "x.job",
            "[global]\nsize=4m\nbs=256k\n[a]\nrw=write\n[b]\nrw=read\nnumjobs=2\n[c]\nstonewall\n");
  const ProcessEnd end = Run({"--directory=" + directory_ / "bench", directory_ / "x.job",
                              "--output-format=json", "--output=" + directory_ / "out.json"});
  ASSERT_EQ(end.exit_code, 0) << end.err;
  const Json jobs = Json::parse(ReadFile(directory_ / "out.json"), nullptr, false)["jobs"];
  ASSERT_EQ(jobs.size(), 4);
  EXPECT_EQ(jobs[0]["write"]["io_bytes"], 4_MiB);
  EXPECT_EQ(jobs[1]["jobname"], "b");
  EXPECT_EQ(jobs[2]["jobname"], "b");
  EXPECT_EQ(jobs[3]["groupid"], 1);
}

TEST_F(TierBenchTest, RefusesWithTwo) {
  EXPECT_EQ(Run({"--name=j", "--iodeph=1"}).exit_code, 2);
  WriteFile(directory_ / "x.job", "[a]\nsize=4m\nbs=nothing\n");
  const ProcessEnd file = Run({directory_ / "x.job"});
  EXPECT_EQ(file.exit_code, 2);
  EXPECT_THAT(file.err, HasSubstr("x.job:3: bs=nothing: expected a size"));
  EXPECT_THAT(Run({"nothing.job"}).err, HasSubstr("cannot read the job file nothing.job"));
  EXPECT_EQ(Run(Job({"--parse-only"})).out, "1 jobs\n");
  EXPECT_FALSE(std::filesystem::exists(directory_ / "bench"));
  EXPECT_EQ(Run({"--help"}).exit_code, 0);
}

TEST_F(TierBenchTest, NeverTouchesTheStoresOfOthers) {
  ASSERT_EQ(Report({"--tier=store", "--rw=read", "--bs=1m"})["error"], 0);
  const std::string store = directory_ / "bench/tier-bench.store";
  const Words in_store = {"--directory=" + store, "--name=j", "--size=4m", "--bs=1m"};
  const auto before = Snapshot(store);
  // Read as a store of somebody's: its data files, and nothing is written.
  const ProcessEnd read = Run(in_store + Words{"--rw=read"});
  EXPECT_EQ(read.exit_code, 0) << read.err;
  const ProcessEnd write = Run(in_store + Words{"--rw=write"});
  EXPECT_EQ(write.exit_code, 2);
  EXPECT_THAT(write.err, HasSubstr("is a store: tier=nvme would overwrite its tensors"));
  EXPECT_EQ(Run(in_store + Words{"--rw=write", "--tier=store"}).exit_code, 2);
  EXPECT_EQ(Run(in_store + Words{"--rw=read", "--verify"}).exit_code, 2);
  // Of the right name, and without the mark.
  std::filesystem::remove(MarkPath(store));
  const ProcessEnd unmarked = Run(Job({"--tier=store", "--rw=write", "--bs=1m"}));
  EXPECT_EQ(unmarked.exit_code, 2);
  EXPECT_THAT(unmarked.err, HasSubstr("has no mark of tier-bench's"));
  EXPECT_EQ(Snapshot(store), before);
}

TEST_F(TierBenchTest, InterruptedItReports) {
  const Words command = Words{TIER_BENCH_PATH} + Job({"--rw=read", "--bs=64k", "--time_based",
                                                      "--runtime=1h", "--status-interval=20ms"});
  Process process(directory_.path(), command);
  ASSERT_TRUE(process.WaitUntilSaid("read: IOPS="));
  process.Signal(SIGINT);
  const ProcessEnd end = process.Wait();
  EXPECT_EQ(end.exit_code, 0) << end.err;
  EXPECT_THAT(end.out, HasSubstr("Run status group 0"));
}

TEST_F(TierBenchTest, ComparesWithFio) {
  if (std::system("fio --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "there is no fio";
  for (const char* tier : {"--tier=nvme", "--tier=store"}) {
    for (const char* access : {"--rw=randread", "--rw=randwrite"}) {
      const Json job =
          Report({tier, access, "--bs=256k", "--iodepth=2", "--runtime=100ms", "--compare-fio=2"});
      ASSERT_EQ(job["fio_pairs"].size(), 2) << tier << access;
      EXPECT_GT(job["fio_pairs"][0]["fio_bw_bytes"], 0);
      EXPECT_GT(job["fio_pairs"][1]["bw_bytes"], 0);
      EXPECT_GT(job["percent_of_fio"], 0);
      const char* const direction = std::string(access) == "--rw=randread" ? "read" : "write";
      for (const char* side : {"fio", "tier-bench"}) {
        const Json& medians = job["pair_medians"][side];
        EXPECT_GT(medians[direction]["clat_ns"]["percentile"]["99.000000"], 0) << side;
        // Which fio tells by the millisecond: none, where it was given little of a busy machine.
        EXPECT_GE(medians["percent_of_core_per_gibps"], 0) << side;
      }
    }
  }
  EXPECT_THAT(Run(Job({"--tier=pinned", "--bs=1m", "--compare-fio"})).err,
              HasSubstr("tier=pinned is memory"));
}

TEST_F(TierBenchTest, SaysWhenL2ServedReadsOfL3) {
  const Words mixed = {"--tier=store", "--rw=randrw", "--bs=1m", "--durable=memory",
                       "--io_size=64m"};
  const std::string caveat = Report(mixed)["tensor_store"].value("caveat", "");
  EXPECT_THAT(caveat, HasSubstr("reads were served by L2, not by L3"));
  EXPECT_THAT(Run(Job(mixed)).out, HasSubstr("\n    ! "));
}

// What is counted of the whole process and the whole store is no report's alone.
TEST_F(TierBenchTest, JobsThatRunTogetherShareTheirCosts) {
  const ProcessEnd end =
      Run(Job({"--tier=store", "--rw=write", "--bs=256k", "--numjobs=2", "--output-format=json"}));
  ASSERT_EQ(end.exit_code, 0) << end.err;
  const Json jobs = Json::parse(end.out, nullptr, false)["jobs"];
  ASSERT_EQ(jobs.size(), 2);
  for (const Json& job : jobs) {
    EXPECT_EQ(job["write"]["io_bytes"], 8_MiB);
    const double ratio = job["tensor_store"]["device_bytes_written_per_user_byte"];
    EXPECT_LT(ratio, 1.5);  // Not 2: the other half was written by the other.
  }
}

TEST(TierBenchMeasurement, MedianOfRatios) {
  JobReport report;
  for (const double ours : {90.0, 95.0, 200.0}) {
    FioPair pair;
    pair.fio.read.bytes_per_s = 100;
    pair.ours.read = {.bytes_per_s = ours, .clat_ns = {1, ours, 3}};
    report.pairs.push_back(pair);
  }
  EXPECT_DOUBLE_EQ(report.percent_of_fio(), 95);
  EXPECT_THAT(report.OurMedians().read.clat_ns, ElementsAre(1, 95, 3));
  EXPECT_DOUBLE_EQ(report.FioMedians().bytes_per_s(), 100);
  EXPECT_DOUBLE_EQ(Median({1, 4, 2, 3}), 2.5);
  EXPECT_DOUBLE_EQ(Median({}), 0);
}

}  // namespace
}  // namespace cairn::bench
