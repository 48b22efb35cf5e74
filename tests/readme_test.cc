// The README's example, compiled as it stands there and run.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/readme_example.h"  // Made from README.md by CMake.

namespace {

TEST(ReadmeTest, ExampleWorks) {
  const std::string path = testing::TempDir() + "cairn_readme_" + std::to_string(getpid());
  const std::vector<std::byte> block(100000, std::byte{7});
  const absl::Status status = Serve(path, block);
  EXPECT_TRUE(status.ok()) << status;
  std::filesystem::remove_all(path);
}

}  // namespace
