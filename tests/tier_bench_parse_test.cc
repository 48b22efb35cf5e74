// What tier-bench understands: its command line, job files and units. Nothing is run.

#include <string>
#include <vector>

#include "bench/tier/command_line.h"
#include "bench/tier/fio_command.h"
#include "bench/tier/job_file.h"
#include "bench/tier/job_options.h"
#include "bench/tier/latency.h"
#include "bench/tier/runner.h"
#include "bench/tier/unit_order.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace cairn::bench {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

absl::StatusOr<Invocation> Parse(const Words& words, const std::string& file = "") {
  return ParseCommandLine(words, [&file](const std::string&) { return file; });
}

// What is said of words that must be refused.
std::string Refusal(const Words& words, const std::string& file = "") {
  const absl::StatusOr<Invocation> invocation = Parse(words, file);
  EXPECT_FALSE(invocation.ok());
  return std::string(invocation.status().message());
}

std::string FileRefusal(const std::string& text) {
  const absl::StatusOr<std::vector<Job>> jobs = ParseJobFile(text, "a.job", {});
  EXPECT_EQ(jobs.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(jobs.status().message());
}

TEST(TierBenchUnits, SizesArePowersOf1024) {
  EXPECT_EQ(*ParseBytes("4096"), 4096);
  EXPECT_EQ(*ParseBytes("4k"), 4096);
  EXPECT_EQ(*ParseBytes("4K"), 4096);
  EXPECT_EQ(*ParseBytes("4kb"), 4096);
  EXPECT_EQ(*ParseBytes("1.5m"), 3 << 19);
  EXPECT_EQ(*ParseBytes("2g"), uint64_t{2} << 30);
  // fio takes 1KiB for 1000 bytes: better refused than misunderstood.
  for (const char* text : {"", "0", "k", "-1", "1KiB", "1x", "1kk", "99999999t", "1 m"}) {
    EXPECT_FALSE(ParseBytes(text).ok()) << text;
  }
}

TEST(TierBenchUnits, TimesAreSecondsUnlessSaid) {
  EXPECT_DOUBLE_EQ(*ParseSeconds("10"), 10);
  EXPECT_DOUBLE_EQ(*ParseSeconds("500ms"), 0.5);
  EXPECT_DOUBLE_EQ(*ParseSeconds("200us"), 0.0002);
  EXPECT_DOUBLE_EQ(*ParseSeconds("2m"), 120);
  EXPECT_DOUBLE_EQ(*ParseSeconds("1.5s"), 1.5);
  for (const char* text : {"", "s", "10x", "-1", "1e3", "999999999999"}) {
    EXPECT_FALSE(ParseSeconds(text).ok()) << text;
  }
}

TEST(TierBenchUnits, SplitsAddUp) {
  const auto split = ParseSplit("64k/40:1m/40:16m");
  ASSERT_TRUE(split.ok());
  ASSERT_EQ(split->size(), 3);
  EXPECT_EQ((*split)[2].bytes, 16 << 20);
  EXPECT_EQ((*split)[2].percent, 20);
  EXPECT_EQ((*ParseSplit("4k:8k"))[0].percent, 50);
  for (const char* text : {"", "4k/50", "4k/60:8k/50", "4k/x:8k", "4k/100:8k", "4k/40:8k/40"}) {
    EXPECT_FALSE(ParseSplit(text).ok()) << text;
  }
}

TEST(TierBenchCommandLine, OptionsBeforeTheFirstNameAreForAllJobs) {
  const auto invocation =
      Parse({"--directory=/d", "--size", "64m", "--name=a", "--rw=randread", "--bs=1m", "--name",
             "b", "--rw=write", "--iodepth=16", "--numjobs=2", "--output-format=json+"});
  ASSERT_TRUE(invocation.ok()) << invocation.status();
  ASSERT_EQ(invocation->jobs.size(), 2);
  const Job& a = invocation->jobs[0];
  const Job& b = invocation->jobs[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.access, Access::kRandRead);
  EXPECT_EQ(a.block_bytes, 1 << 20);
  EXPECT_EQ(a.size, 64 << 20);
  EXPECT_EQ(b.directory, "/d");
  EXPECT_EQ(b.access, Access::kWrite);
  EXPECT_EQ(b.block_bytes, 4096);
  EXPECT_EQ(b.depth, 16);
  EXPECT_EQ(b.clones, 2);
  EXPECT_EQ(invocation->format, OutputFormat::kJsonPlus);
  EXPECT_THAT(b.given, ElementsAre(std::pair<std::string, std::string>("directory", "/d"),
                                   std::pair<std::string, std::string>("size", "64m"),
                                   std::pair<std::string, std::string>("rw", "write"),
                                   std::pair<std::string, std::string>("iodepth", "16"),
                                   std::pair<std::string, std::string>("numjobs", "2")));
}

TEST(TierBenchCommandLine, TakesAllOfItsWords) {
  const auto invocation = Parse({"--name=j",          "--directory=/d",   "--size=1g",
                                 "--rw=randrw",       "--rwmixread=70",   "--bssplit=4k/50:8k/50",
                                 "--io_size=2g",      "--runtime=10",     "--time_based",
                                 "--ramp_time=1s",    "--verify=pattern", "--fdatasync=8",
                                 "--group_reporting", "--randseed=7",     "--tier=store",
                                 "--engine=posix",    "--l2=32m",         "--durable=flushed",
                                 "--stonewall",       "--output=/o",      "--status-interval=500ms",
                                 "--parse-only",      "--compare-fio=3"});
  ASSERT_TRUE(invocation.ok()) << invocation.status();
  const Job& job = invocation->jobs[0];
  EXPECT_EQ(job.read_percent, 70);
  EXPECT_EQ(job.slot_bytes(), 8192);
  EXPECT_EQ(job.bytes_wanted(), uint64_t{2} << 30);
  EXPECT_EQ(job.runtime_s, 10);
  EXPECT_TRUE(job.time_based && job.verify && job.group_reporting && job.stonewall);
  EXPECT_EQ(job.ramp_s, 1);
  EXPECT_EQ(job.sync_every, 8);
  EXPECT_EQ(job.seed, 7);
  EXPECT_EQ(job.tier, Tier::kStore);
  EXPECT_EQ(job.engine, Engine::kPosix);
  EXPECT_EQ(job.l2_bytes, 32 << 20);
  EXPECT_EQ(job.durability, Durability::kFlushed);
  EXPECT_EQ(invocation->output, "/o");
  EXPECT_EQ(invocation->status_interval_s, 0.5);
  EXPECT_TRUE(invocation->parse_only);
  EXPECT_EQ(invocation->compare_pairs, 3);
  EXPECT_EQ(Parse({"--name=j", "--directory=/d", "--size=1m", "--compare-fio"})->compare_pairs, 5);
}

TEST(TierBenchCommandLine, PollsInFiosWords) {
  const Words good = {"--name=j", "--directory=/d", "--size=1g"};
  const auto with = [&good](const Words& more) {
    Words words = good;
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  EXPECT_FALSE(Parse(good)->jobs[0].polls_submissions || Parse(good)->jobs[0].polls_completions);
  const Job both = Parse(with({"--sqthread_poll=1", "--hipri"}))->jobs[0];
  EXPECT_TRUE(both.polls_submissions && both.polls_completions);
  EXPECT_FALSE(Parse(with({"--hipri=0"}))->jobs[0].polls_completions);
  EXPECT_THAT(Refusal(with({"--sqthread_poll=2"})), HasSubstr("a number from 0 to 1"));
  EXPECT_THAT(Refusal(with({"--hipri", "--engine=posix"})), HasSubstr("are io_uring's"));

  const DataFiles files = {.paths = {"/d/0.data"}};
  const FioJob fio_job = {.job = &both, .files = files};
  EXPECT_THAT(FioCommand({&fio_job, 1}, 2, ""),
              AllOf(Contains("--sqthread_poll=1"), Contains("--hipri=1")));
}

TEST(TierBenchCommandLine, RefusesByName) {
  const Words good = {"--name=j", "--directory=/d", "--size=1g"};
  const auto with = [&good](const std::string& word) {
    Words words = good;
    words.push_back(word);
    return Refusal(words);
  };
  EXPECT_EQ(with("--iodeph=4"), "unknown option --iodeph; did you mean --iodepth?");
  EXPECT_EQ(with("--ioengine=libaio"), "unknown option --ioengine; did you mean --engine?");
  EXPECT_EQ(with("--zzzzzzzzz=1"), "unknown option --zzzzzzzzz (--help lists the options)");
  EXPECT_THAT(with("--rw=sideways"),
              AllOf(HasSubstr("--rw=sideways: expected one of"), HasSubstr("randread")));
  EXPECT_THAT(with("--bs=4q"), HasSubstr("--bs=4q: expected a size"));
  EXPECT_THAT(with("--bs=4k,8k"), HasSubstr("--bs=4k,8k: expected a size"));
  EXPECT_EQ(with("--iodepth=0"), "--iodepth=0: expected a number from 1 to 4096");
  EXPECT_EQ(with("--rwmixread=101"), "--rwmixread=101: expected a number from 0 to 100");
  EXPECT_THAT(with("--verify=crc32c"), HasSubstr("pattern"));
  EXPECT_EQ(with("--runtime"), "--runtime takes a value");
  EXPECT_EQ(with("--parse-only=1"), "--parse-only takes no value");
  EXPECT_THAT(with("--output-format=xml"), HasSubstr("one of normal, json, json+"));
  EXPECT_THAT(with("--compare-fio=0"), HasSubstr("a number from 1 to 100"));
  EXPECT_THAT(Refusal({}), HasSubstr("no job"));
}

TEST(TierBenchCommandLine, RefusesJobsThatMakeNoSense) {
  const auto job = [](const Words& more) {
    Words words = {"--name=j", "--directory=/d", "--size=1m"};
    words.insert(words.end(), more.begin(), more.end());
    return Refusal(words);
  };
  EXPECT_EQ(Refusal({"--name=j", "--size=1m"}), "job j: directory is missing");
  EXPECT_EQ(Refusal({"--name=j", "--directory=/d"}), "job j: size is missing");
  EXPECT_EQ(job({"--bs=2m"}), "job j: size is less than one bs");
  EXPECT_EQ(job({"--bs=5000"}), "job j: tier=nvme needs a bs in multiples of 4k");
  EXPECT_EQ(job({"--time_based"}), "job j: time_based needs a runtime");
  EXPECT_EQ(job({"--tier=store", "--engine=null"}), "job j: engine=null is for tier=nvme");
  EXPECT_EQ(job({"--fdatasync=1"}), "job j: fdatasync is for jobs that write");
  EXPECT_EQ(job({"--durable=flushed", "--tier=store"}), "job j: durable is for jobs that write");
  EXPECT_THAT(job({"--engine=null", "--verify"}), HasSubstr("engine=null moves no bytes"));
  EXPECT_EQ(job({"--tier=gpu", "--rw=write"}),
            "job j: tier=gpu only reads: a put goes to L2 (tier=pinned)");
}

TEST(TierBenchJobFile, SectionsAndGlobals) {
  const auto jobs = ParseJobFile(
      "# a comment\n"
      "[global]\n"
      "size = 1g ; of each\n"
      "bs=1m\r\n"
      "\n"
      "[first]\n"
      "rw=randread\n"
      "time_based\n"
      "[second]   # no options\n"
      "[global]\n"
      "bs=4m\n"
      "[third]\n"
      "stonewall\n",
      "a.job", {});
  ASSERT_TRUE(jobs.ok()) << jobs.status();
  ASSERT_EQ(jobs->size(), 3);
  EXPECT_EQ((*jobs)[0].name, "first");
  EXPECT_EQ((*jobs)[0].size, 1 << 30);
  EXPECT_TRUE((*jobs)[0].time_based);
  EXPECT_EQ((*jobs)[0].access, Access::kRandRead);
  EXPECT_EQ((*jobs)[1].block_bytes, 1 << 20);
  EXPECT_EQ((*jobs)[1].access, Access::kRead);
  EXPECT_EQ((*jobs)[2].block_bytes, 4 << 20);
  EXPECT_TRUE((*jobs)[2].stonewall);
  EXPECT_EQ(GroupJobs(*jobs).size(), 2);
}

TEST(TierBenchJobFile, NamesTheLine) {
  EXPECT_EQ(FileRefusal("[a]\nrw=read\niodepht=4\n"),
            "a.job:3: unknown option iodepht; did you mean iodepth?");
  EXPECT_EQ(FileRefusal("[a]\n\nruntime=soon\n"),
            "a.job:3: runtime=soon: expected a time, such as 10, 10s, 500ms, 200us or 2m");
  EXPECT_EQ(FileRefusal("[a]\nbs\n"), "a.job:2: bs takes a value: bs=SIZE");
  EXPECT_EQ(FileRefusal("rw=read\n"), "a.job:1: an option before the first [section]");
  EXPECT_EQ(FileRefusal("[a\n"), "a.job:1: a section is [name]");
  EXPECT_EQ(FileRefusal("[]\n"), "a.job:1: a section is [name]");
  EXPECT_EQ(FileRefusal("[global]\nbs=1m\n"), "a.job: no job in it");
  EXPECT_THAT(FileRefusal("[a]\noutput=x\n"), HasSubstr("a.job:2: unknown option output"));
}

TEST(TierBenchJobFile, BeginsWithTheCommandLine) {
  const auto invocation = Parse({"--directory=/d", "--bs=1m", "x.job"}, "[a]\nsize=1g\n");
  ASSERT_TRUE(invocation.ok()) << invocation.status();
  EXPECT_EQ(invocation->jobs[0].block_bytes, 1 << 20);
  EXPECT_EQ(invocation->jobs[0].directory, "/d");
}

TEST(TierBenchJobFile, TakesAnyBytes) {
  std::string text = "[a]\nsize=1m\nrw=read\nbssplit=4k/50:8k\n# x\n[b]\n";
  for (size_t i = 0; i < text.size(); ++i) {
    for (const char byte : {'\0', '[', ']', '=', '/', '\xff', '\n'}) {
      std::string changed = text;
      changed[i] = byte;
      const auto jobs = ParseJobFile(changed, "a.job", {});
      if (jobs.ok()) continue;
      EXPECT_EQ(jobs.status().code(), absl::StatusCode::kInvalidArgument);
    }
  }
}

TEST(TierBenchOrder, RandomTouchesEachOnce) {
  Job job;
  job.access = Access::kRandRead;
  UnitOrder order(job, 0, 100);
  std::vector<uint64_t> first;
  std::vector<int> seen(100);
  for (int i = 0; i < 100; ++i) {
    first.push_back(order.Next().unit);
    ++seen[first.back()];
  }
  EXPECT_THAT(seen, ::testing::Each(1));
  EXPECT_FALSE(std::is_sorted(first.begin(), first.end()));
  UnitOrder again(job, 0, 100);
  UnitOrder other(job, 1, 100);
  std::vector<uint64_t> same;
  std::vector<uint64_t> different;
  for (int i = 0; i < 100; ++i) {
    same.push_back(again.Next().unit);
    different.push_back(other.Next().unit);
  }
  EXPECT_EQ(same, first);
  EXPECT_NE(different, first);
}

TEST(TierBenchOrder, MixesAsAsked) {
  Job job;
  job.access = Access::kRandReadWrite;
  job.read_percent = 70;
  UnitOrder order(job, 0, 1000);
  int writes = 0;
  for (int i = 0; i < 10000; ++i) writes += order.Next().write ? 1 : 0;
  EXPECT_NEAR(writes, 3000, 200);
}

TEST(TierBenchOrder, ABlockKeepsItsSize) {
  Job job;
  job.split = *ParseSplit("4k/50:8k/50");
  int small = 0;
  for (uint64_t unit = 0; unit < 1000; ++unit) {
    EXPECT_EQ(job.BytesOf(unit), job.BytesOf(unit));
    small += job.BytesOf(unit) == 4096 ? 1 : 0;
  }
  EXPECT_NEAR(small, 500, 60);
}

TEST(TierBenchLatency, CountsAsFioDoes) {
  Latency latency;
  for (uint64_t ns = 1; ns <= 100; ++ns) latency.Record(ns);
  EXPECT_EQ(latency.count(), 100);
  EXPECT_EQ(latency.min_ns(), 1);
  EXPECT_EQ(latency.max_ns(), 100);
  EXPECT_DOUBLE_EQ(latency.mean_ns(), 50.5);
  EXPECT_NEAR(latency.stddev_ns(), 29.01, 0.01);
  EXPECT_EQ(latency.PercentileNs(50), 50);  // Exact up to 128 ns.
  EXPECT_EQ(latency.PercentileNs(99), 99);
  EXPECT_EQ(latency.PercentileNs(99.99), 100);
  EXPECT_EQ(Latency().PercentileNs(50), 0);
}

TEST(TierBenchLatency, BucketsAreWithinAPercent) {
  for (uint64_t ns = 100; ns < uint64_t{1} << 33; ns = ns * 11 / 10) {
    Latency latency;
    latency.Record(ns);
    EXPECT_NEAR(static_cast<double>(latency.PercentileNs(50)), static_cast<double>(ns),
                static_cast<double>(ns) / 128);
  }
  Latency long_ago;
  long_ago.Record(UINT64_MAX);  // Past the last bucket.
  EXPECT_GT(long_ago.PercentileNs(50), uint64_t{1} << 33);
}

TEST(TierBenchLatency, AddsUp) {
  Latency all;
  Latency low;
  Latency high;
  for (uint64_t ns = 1; ns <= 2000; ++ns) {
    all.Record(ns);
    (ns <= 700 ? low : high).Record(ns);
  }
  low.Add(high);
  EXPECT_EQ(low.count(), all.count());
  EXPECT_NEAR(low.mean_ns(), all.mean_ns(), 1e-6);
  EXPECT_NEAR(low.stddev_ns(), all.stddev_ns(), 1e-6);
  EXPECT_EQ(low.PercentileNs(90), all.PercentileNs(90));
}

}  // namespace
}  // namespace cairn::bench
