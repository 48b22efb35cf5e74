// kv-offload under signals that interrupt its system calls.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/disk_fixture.h"
#include "tests/process.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

TEST(ScoreboardProgramTest, KvOffloadWorksUnderAStormOfSignals) {
  const TemporaryDirectory directory;
  // The first run fills the store, the second starts from it.
  for (const char* wants : {"starts empty", "starts warm"}) {
    SCOPED_TRACE(wants);
    std::vector<std::string> command = {
        KV_OFFLOAD_PATH,        "--dir", directory / "store", "--l2", "8MiB", "--l3", "64MiB",
        "--kv-bytes-per-token", "1024",  "--requests",        "100"};
    if (const char* engine = std::getenv("CAIRN_TEST_IO_ENGINE")) {
      command.insert(command.end(), {"--io-engine", engine});
    }
    // Not by way of env: its timer would outlive its handler.
    setenv("LD_PRELOAD", INTERRUPTS_PATH, 1);
    Process process(directory.path(), command);
    unsetenv("LD_PRELOAD");
    const ProcessEnd end = process.Wait();
    EXPECT_EQ(end.exit_code, 0) << "signal " << end.signal << "\n" << end.err;
    EXPECT_THAT(end.out, HasSubstr("mismatches: 0"));
    EXPECT_THAT(end.out, Not(HasSubstr("interrupted")));
  }
}

}  // namespace
}  // namespace cairn
