// Runs open_bench as a user does, with few tensors. No figure of time is checked.

#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/disk_fixture.h"
#include "tests/process.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

class OpenBenchTest : public ::testing::Test {
 protected:
  ProcessEnd Run(const std::string& tensors) const {
    return Process(output_.path(), {CAIRN_OPEN_BENCH, store_, tensors}).Wait();
  }

  const TemporaryDirectory output_;
  const std::string store_ = output_ / "store";
};

TEST_F(OpenBenchTest, FindsEveryTensorAndLeavesNothing) {
  const ProcessEnd end = Run("1000");
  EXPECT_EQ(end.exit_code, 0) << end.err;
  EXPECT_THAT(end.out, HasSubstr("1000 tensors: open "));
  EXPECT_FALSE(std::filesystem::exists(store_));
}

TEST_F(OpenBenchTest, TouchesNoDirectoryThatIsThere) {
  std::filesystem::create_directory(store_);
  const ProcessEnd end = Run("1000");
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_THAT(end.err, HasSubstr("is there already"));
  EXPECT_TRUE(std::filesystem::exists(store_));
}

TEST_F(OpenBenchTest, NamesItsArguments) {
  const ProcessEnd end = Run("none");
  EXPECT_EQ(end.exit_code, 2);
  EXPECT_THAT(end.err, HasSubstr("usage: open_bench DIRECTORY TENSORS"));
}

}  // namespace
}  // namespace cairn
