// The job files that come with tier-bench, each beside its twin for fio.

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "bench/tier/job_file.h"
#include "bench/tier/job_options.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/strings.h"
#include "tests/disk_fixture.h"

namespace cairn::bench {
namespace {

std::vector<Job> Parse(const std::string& text, const std::string& path) {
  Job defaults;
  defaults.directory = "/d";
  absl::StatusOr<std::vector<Job>> jobs = ParseJobFile(text, path, defaults);
  EXPECT_TRUE(jobs.ok()) << jobs.status();
  return jobs.ok() ? *std::move(jobs) : std::vector<Job>();
}

// What is left of a file for fio without the words that only fio has.
std::string CommonWords(const std::string& text) {
  std::string common;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const absl::string_view name = line.substr(0, line.find('='));
    const bool option = !line.empty() && line.front() != '[' && line.front() != ';';
    if (!option || FindJobOption(ToStd(name)) != nullptr) absl::StrAppend(&common, line, "\n");
  }
  return common;
}

void ExpectTheSameWork(const Job& ours, const Job& fios) {
  EXPECT_EQ(ours.name, fios.name);
  EXPECT_EQ(ours.access, fios.access);
  EXPECT_EQ(ours.read_percent, fios.read_percent);
  EXPECT_EQ(ours.block_bytes, fios.block_bytes);
  EXPECT_EQ(ours.size, fios.size);
  EXPECT_EQ(ours.io_size, fios.io_size);
  EXPECT_EQ(ours.depth, fios.depth);
  EXPECT_EQ(ours.clones, fios.clones);
  EXPECT_EQ(ours.runtime_s, fios.runtime_s);
  EXPECT_EQ(ours.time_based, fios.time_based);
  EXPECT_EQ(ours.ramp_s, fios.ramp_s);
  EXPECT_EQ(ours.stonewall, fios.stonewall);
  // fio has no word for a put that is flushed, but to flush behind each.
  const bool flushed = ours.durability == Durability::kFlushed;
  EXPECT_EQ(flushed ? 1 : ours.sync_every, fios.sync_every);
}

TEST(TierBenchJobs, HaveTwinsThatDoTheSameWork) {
  const std::filesystem::path folder = CAIRN_JOBS_DIR;
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.insert(entry.path().stem());
  }
  EXPECT_FALSE(names.empty());
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const std::vector<Job> ours = Parse(ReadFile(folder / (name + ".job")), name + ".job");
    const std::vector<Job> fios =
        Parse(CommonWords(ReadFile(folder / (name + ".fio"))), name + ".fio");
    ASSERT_EQ(ours.size(), fios.size());
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_TRUE(Validate(ours[i]).ok()) << Validate(ours[i]);
      ExpectTheSameWork(ours[i], fios[i]);
    }
  }
}

}  // namespace
}  // namespace cairn::bench
