// Runs overwrite_bench as a user does, on a store of 64 MiB. No figure of time is checked.

#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/disk_fixture.h"
#include "tests/process.h"

namespace cairn {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class OverwriteBenchTest : public ::testing::Test {
 protected:
  ProcessEnd Run(std::vector<std::string> words) const {
    words.insert(words.begin(), {CAIRN_OVERWRITE_BENCH, "--directory", store_});
    return Process(output_.path(), words).Wait();
  }

  const TemporaryDirectory output_;
  const std::string store_ = output_ / "store";
};

TEST_F(OverwriteBenchTest, FillsOverwritesComparesAndLeavesNothing) {
  const ProcessEnd end = Run({"--l3", "64MiB", "--passes", "3", "--prewrite"});
  EXPECT_EQ(end.exit_code, 0) << end.err;
  EXPECT_THAT(end.out, AllOf(HasSubstr("50 tensors of 1 MiB, 3 passes"), HasSubstr("| 3 | "),
                             HasSubstr("all 50 tensors read back and compared"),
                             HasSubstr("first pass / second")));
  EXPECT_FALSE(std::filesystem::exists(store_));
}

TEST_F(OverwriteBenchTest, TouchesNoDirectoryThatIsThere) {
  std::filesystem::create_directory(store_);
  const ProcessEnd end = Run({"--l3", "64MiB"});
  EXPECT_EQ(end.exit_code, 2);
  EXPECT_THAT(end.err, HasSubstr("is there already"));
  EXPECT_TRUE(std::filesystem::exists(store_));
}

TEST_F(OverwriteBenchTest, NamesAWrongSize) {
  const ProcessEnd end = Run({"--tensor-bytes", "5000"});
  EXPECT_EQ(end.exit_code, 2);
  EXPECT_THAT(end.err, HasSubstr("multiple of 4096"));
}

}  // namespace
}  // namespace cairn
