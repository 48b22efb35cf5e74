#pragma once

#include <cstdlib>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/process.h"
#include "tests/temporary_directory.h"

namespace cairn {

using Json = nlohmann::json;
using Words = std::vector<std::string>;

inline Words operator+(Words left, const Words& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

// Runs kv-offload in a directory of its own. KV_OFFLOAD_PATH is where the build put it.
class KvOffloadTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return directory_ / name; }

  // A small store, a tenth of what the workload holds, with blocks of 16 KiB.
  Words Small() const {
    return {"--dir", Path("store"),          "--l2", "8MiB", "--l3",
            "64MiB", "--kv-bytes-per-token", "1024"};
  }

  Words Command(const Words& arguments) const {
    Words command = Words{KV_OFFLOAD_PATH} + arguments;
    if (const char* engine = getenv("CAIRN_TEST_IO_ENGINE")) {
      command = command + Words{"--io-engine", engine};
    }
    return command;
  }

  ProcessEnd Run(const Words& arguments) const {
    return Process(directory_.path(), Command(arguments)).Wait();
  }

  // A run that must go well, and its figures.
  Json Figures(const Words& arguments) const {
    const ProcessEnd end = Run(arguments + Words{"--json", Path("figures.json")});
    EXPECT_EQ(end.exit_code, 0) << end.err;
    EXPECT_THAT(end.out, ::testing::HasSubstr("mismatches: 0"));
    return ReadFigures();
  }

  Json ReadFigures() const {
    Json figures = Json::parse(ReadWholeFile(Path("figures.json")), nullptr, false);
    if (!figures.is_object()) {
      ADD_FAILURE() << "no figures";
      return {};
    }
    EXPECT_EQ(figures["mismatches"], 0);
    EXPECT_EQ(figures["bytes_compared"], figures["bytes_restored"]);
    EXPECT_EQ(figures["blocks_hit"].get<uint64_t>(), figures["hits_l1"].get<uint64_t>() +
                                                         figures["hits_l2"].get<uint64_t>() +
                                                         figures["hits_l3"].get<uint64_t>());
    return figures;
  }

  TemporaryDirectory directory_;
};

}  // namespace cairn
