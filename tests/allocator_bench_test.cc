// Runs allocator_bench as a user does, over little. No figure of time is checked.

#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/disk_fixture.h"
#include "tests/process.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

class AllocatorBenchTest : public ::testing::Test {
 protected:
  ProcessEnd Run(const std::vector<std::string>& arguments) const {
    std::vector<std::string> words = {CAIRN_ALLOCATOR_BENCH};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return Process(output_.path(), words).Wait();
  }

  const TemporaryDirectory output_;
};

// The first number of the workload's row: what the hybrid uses of the arena.
double HybridUtilisation(const std::string& out, const std::string& workload) {
  const size_t row = out.find(absl::StrCat("| ", workload, " | "));
  double utilisation = 0;
  if (row == out.npos) return 0;
  const size_t figure = row + workload.size() + 5;
  EXPECT_TRUE(absl::SimpleAtod(out.substr(figure, out.find(',', figure) - figure), &utilisation));
  return utilisation;
}

TEST_F(AllocatorBenchTest, PrintsEveryWorkloadAndTheThreads) {
  const ProcessEnd end =
      Run({"--arena-gib", "4", "--rounds", "3", "--pairs", "1000", "--windows", "1"});
  EXPECT_EQ(end.exit_code, 0) << end.err;
  for (const char* const workload : {"2.25 MiB", "2.9375 MiB", "1,124,352 B", "2.25 MiB + 4 KiB",
                                     "mixed VLM", "log-uniform 4K-8M", "uniform 1-8M"}) {
    EXPECT_GT(HybridUtilisation(end.out, workload), 0.9) << workload << "\n" << end.out;
  }
  EXPECT_GT(HybridUtilisation(end.out, "1,124,352 B"), 0.99);
  EXPECT_THAT(end.out, HasSubstr("| hybrid, magazines |"));
}

TEST_F(AllocatorBenchTest, PrintsWhatDefragmentationCosts) {
  const ProcessEnd end = Run({"--defragmentation", "--arena-gib", "1", "--memory-mib", "64",
                              "--reader-milliseconds", "20"});
  EXPECT_EQ(end.exit_code, 0) << end.err;
  EXPECT_THAT(end.out, HasSubstr("moved per byte gained"));
  EXPECT_THAT(end.out, HasSubstr("| quiet |"));
}

TEST_F(AllocatorBenchTest, NamesWhatItDoesNotKnow) {
  const ProcessEnd end = Run({"--workload", "none"});
  EXPECT_EQ(end.exit_code, 2);
  EXPECT_THAT(end.err, HasSubstr("no such workload"));
}

}  // namespace
}  // namespace cairn
