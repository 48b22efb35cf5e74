// The README's example, compiled as it stands there and run.

#include <gtest/gtest.h>

#include "tests/readme_example.h"  // Made from README.md by CMake.
#include "tests/temporary_directory.h"

namespace {

TEST(ReadmeTest, ExampleWorks) {
  const cairn::TemporaryDirectory directory;
  const std::vector<std::byte> block(100000, std::byte{7});
  const absl::Status status = Serve(directory / "store", block);
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
