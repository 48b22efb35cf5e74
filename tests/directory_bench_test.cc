// Runs directory_bench and stats_bench as a user does, shortly. No figure of time is checked.

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/disk_fixture.h"
#include "tests/process.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

class DirectoryBenchTest : public ::testing::Test {
 protected:
  ProcessEnd Run(std::vector<std::string> words) const {
    words.insert(words.end(), {"--rounds", "1", "--window-ms", "2"});
    return Process(output_.path(), words).Wait();
  }
  std::string JsonPath() const { return output_.path() + "/figures.json"; }
  nlohmann::json Json() const { return nlohmann::json::parse(std::ifstream(JsonPath())); }

  const TemporaryDirectory output_;
};

TEST_F(DirectoryBenchTest, MeasuresEveryMapWithEveryNumberOfThreads) {
  const ProcessEnd end = Run({CAIRN_DIRECTORY_BENCH, "--tensors", "1000", "--json", JsonPath()});
  EXPECT_EQ(end.exit_code, 0) << end.err;
  for (const char* const map :
       {"directory", "mutex", "shared_mutex", "TBB", "directory, as a Get", "mutex, LRU"}) {
    EXPECT_THAT(end.out, HasSubstr("| " + std::string(map) + " |"));
  }
  const nlohmann::json json = Json();
  // TBB is not everywhere.
  EXPECT_GE(json["rows"].size(), 5u * 4);
  for (const nlohmann::json& row : json["rows"]) {
    EXPECT_GT(row["operations_per_s"].get<double>(), 0) << row;
    EXPECT_GT(row["ratio_to_mutex"].get<double>(), 0) << row;
  }
}

TEST_F(DirectoryBenchTest, MeasuresCountersWithEveryNumberOfThreads) {
  const ProcessEnd end = Run({CAIRN_STATS_BENCH, "--json", JsonPath()});
  EXPECT_EQ(end.exit_code, 0) << end.err;
  for (const char* const kind : {"StatsRecorder", "mutex", "shared_mutex"}) {
    EXPECT_THAT(end.out, HasSubstr("| " + std::string(kind) + " |"));
  }
  const nlohmann::json json = Json();
  EXPECT_EQ(json["rows"].size(), 3u * 14);
  for (const nlohmann::json& row : json["rows"]) {
    EXPECT_GT(row["reads_per_s"].get<double>(), 0) << row;
  }
}

TEST_F(DirectoryBenchTest, SaysWhatItCannotWrite) {
  const ProcessEnd end = Run(
      {CAIRN_DIRECTORY_BENCH, "--tensors", "10", "--json", output_.path() + "/none/figures.json"});
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_THAT(end.err, HasSubstr("could not be written"));
}

}  // namespace
}  // namespace cairn
