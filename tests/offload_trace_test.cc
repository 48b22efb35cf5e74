// Where kv-offload's requests come from: trace files and the generator.

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/lru_simulation.h"
#include "tests/temporary_directory.h"
#include "tools/offload/trace.h"
#include "tools/offload/workload.h"

namespace cairn::offload {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kMooncakeLine =
    R"({"timestamp": 1500, "input_length": 600, "output_length": 5, "hash_ids": [0, 7]})";
constexpr const char* kBailianLine =
    R"({"chat_id": 9, "parent_chat_id": -1, "timestamp": 61.25, "input_length": 40,)"
    R"( "output_length": 3, "type": "text", "turn": 1, "hash_ids": [11, 12, 13]})";

// A file of one test, gone with it.
class TraceFile {
 public:
  explicit TraceFile(const std::string& text) { std::ofstream(path_) << text; }
  const std::string& path() const { return path_; }

 private:
  TemporaryDirectory directory_;
  std::string path_ = directory_ / "trace.jsonl";
};

std::string With(std::string line, const std::string& part, const std::string& replacement) {
  const size_t at = line.find(part);
  EXPECT_NE(at, std::string::npos) << part;
  return line.replace(at, part.size(), replacement);
}

absl::Status ReadStatus(const std::string& text) {
  return ReadTrace(TraceFile(text).path(), 0).status();
}

TEST(Trace, ReadsMooncake) {
  const TraceFile file(std::string(kMooncakeLine) + "\n\n" + With(kMooncakeLine, "1500", "2500") +
                       "\r\n");
  const absl::StatusOr<Trace> trace = ReadTrace(file.path(), 0);
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->format, TraceFormat::kMooncake);
  ASSERT_EQ(trace->requests.size(), 2);
  EXPECT_DOUBLE_EQ(trace->requests[0].timestamp_s, 1.5);
  EXPECT_EQ(trace->requests[0].input_tokens, 600);
  EXPECT_EQ(trace->requests[0].output_tokens, 5);
  EXPECT_THAT(trace->requests[0].block_ids, ElementsAre(0, 7));
  EXPECT_EQ(trace->timestamps_backwards, 0);
}

TEST(Trace, ReadsBailian) {
  const TraceFile file(kBailianLine);
  const absl::StatusOr<Trace> trace = ReadTrace(file.path(), 0);
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->format, TraceFormat::kBailian);
  EXPECT_DOUBLE_EQ(trace->requests[0].timestamp_s, 61.25);
  EXPECT_THAT(trace->requests[0].block_ids, ElementsAre(11, 12, 13));
}

TEST(Trace, StopsBeforeLinesThatAreNotAskedFor) {
  const TraceFile file(std::string(kMooncakeLine) + "\n{broken\n");
  EXPECT_TRUE(ReadTrace(file.path(), 1).ok());
  EXPECT_FALSE(ReadTrace(file.path(), 2).ok());
}

TEST(Trace, CountsTimestampsThatGoBackwards) {
  const TraceFile file(std::string(kMooncakeLine) + "\n" + With(kMooncakeLine, "1500", "3"));
  const absl::StatusOr<Trace> trace = ReadTrace(file.path(), 0);
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->timestamps_backwards, 1);
}

TEST(Trace, NamesTheFileThatCannotBeRead) {
  const absl::Status missing = ReadTrace("/nonexistent/trace.jsonl", 0).status();
  EXPECT_THAT(std::string(missing.message()),
              HasSubstr("/nonexistent/trace.jsonl: No such file or directory"));
  EXPECT_THAT(std::string(ReadTrace("/", 0).status().message()), HasSubstr("cannot read trace /"));
  EXPECT_THAT(std::string(ReadStatus("").message()), HasSubstr("no requests"));
  EXPECT_THAT(std::string(ReadStatus("\n \n").message()), HasSubstr("no requests"));
}

struct Malformation {
  std::string part;
  std::string replacement;
  std::string what;
};

void ExpectRefused(const std::string& line, const std::vector<Malformation>& malformations) {
  for (const Malformation& malformation : malformations) {
    const std::string broken = With(line, malformation.part, malformation.replacement);
    const TraceFile file(absl::StrCat(line, "\n", line, "\n", broken, "\n"));
    const absl::Status status = ReadTrace(file.path(), 0).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << broken;
    EXPECT_EQ(std::string(status.message()), file.path() + ":3: " + malformation.what);
  }
}

TEST(Trace, RefusesMalformedMooncakeLines) {
  ExpectRefused(
      kMooncakeLine,
      {{"]}", "", "not valid JSON"},
       {kMooncakeLine, "[1, 2]", "not a JSON object"},
       {"\"timestamp\"", "\"time\"", "no \"timestamp\""},
       {"1500", "\"1500\"", "\"timestamp\" is not a number"},
       {"1500", "-1", "\"timestamp\" is negative: -1"},
       {"1500", "1e999", "not valid JSON"},
       {"input_length", "length", "no \"input_length\""},
       {"600", "-600", "\"input_length\" is negative: -600"},
       {"600", "600.5", "\"input_length\" is not an integer"},
       {"600", "null", "\"input_length\" is not an integer"},
       {": 5", ": -5", "\"output_length\" is negative: -5"},
       {"\"hash_ids\"", "\"ids\"", "no \"hash_ids\""},
       {"[0, 7]", "[]", "\"hash_ids\" is empty"},
       {"[0, 7]", "7", "\"hash_ids\" is not a list"},
       {"7]", "-7]", "\"hash_ids\"[1] is not a whole number from 0 to 18446744073709551615"},
       {"[0, ", "[\"a\", ", "\"hash_ids\"[0] is not a whole number from 0 to 18446744073709551615"},
       {"{", "{\"chat_id\": 1, ", "\"chat_id\", but the first line has none"}});
}

TEST(Trace, RefusesMalformedBailianLines) {
  ExpectRefused(kBailianLine,
                {{"\"chat_id\": 9, ", "", "no \"chat_id\""},
                 {"\"parent_chat_id\": -1, ", "", "no \"parent_chat_id\""},
                 {": 9", ": []", "\"chat_id\" is neither a number nor a text"},
                 {"\"text\"", "4", "\"type\" is not a text"},
                 {"\"turn\": 1", "\"turn\": -1", "\"turn\" is negative: -1"},
                 {"61.25", "-0.5", "\"timestamp\" is negative: -0.5"},
                 {"[11, 12, 13]", "[11.5]",
                  "\"hash_ids\"[0] is not a whole number from 0 to 18446744073709551615"}});
}

TEST(Workload, IsDecidedByItsSeed) {
  const WorkloadOptions options = {.seed = 3, .requests = 200, .block_tokens = 16};
  const Trace once = GenerateWorkload(options);
  const Trace again = GenerateWorkload(options);
  WorkloadOptions other_seed = options;
  other_seed.seed = 4;
  const Trace other = GenerateWorkload(other_seed);
  ASSERT_EQ(once.requests.size(), 200);
  bool differs = false;
  for (size_t i = 0; i < 200; ++i) {
    EXPECT_EQ(once.requests[i].block_ids, again.requests[i].block_ids);
    EXPECT_EQ(once.requests[i].timestamp_s, again.requests[i].timestamp_s);
    differs = differs || once.requests[i].block_ids != other.requests[i].block_ids;
  }
  EXPECT_TRUE(differs);
}

TEST(Workload, HasWholeBlocksInTheOrderOfTime) {
  const Trace trace = GenerateWorkload({.seed = 1, .requests = 1000, .block_tokens = 16});
  double now_s = 0;
  for (const Request& request : trace.requests) {
    EXPECT_GE(request.timestamp_s, now_s);
    now_s = request.timestamp_s;
    EXPECT_EQ(request.block_ids.size(), request.input_tokens / 16);
    EXPECT_GT(request.output_tokens, 0);
  }
}

TEST(Workload, HasABlockInAPromptShorterThanOne) {
  const Trace trace = GenerateWorkload({.seed = 1, .requests = 20, .block_tokens = 1 << 20});
  for (const Request& request : trace.requests) EXPECT_EQ(request.block_ids.size(), 1);
}

// An id stands for its block and all before it: what stands in front of it is always the same.
TEST(Workload, ChainsItsIds) {
  const Trace trace = GenerateWorkload({.seed = 1, .requests = 1000, .block_tokens = 16});
  std::map<uint64_t, uint64_t> parents;
  for (const Request& request : trace.requests) {
    uint64_t parent = 0;
    for (const uint64_t id : request.block_ids) {
      EXPECT_EQ(parents.emplace(id, parent).first->second, parent);
      parent = id;
    }
  }
}

TEST(Workload, IsSharedAsAChatServiceIs) {
  const Trace trace = GenerateWorkload({.seed = 1, .requests = 2000, .block_tokens = 16});
  LruSimulation endless({.bytes_max = uint64_t{1} << 50, .block_bytes = 36864});
  LruSimulation small({.bytes_max = uint64_t{256} << 20, .block_bytes = 36864});
  for (const Request& request : trace.requests) {
    endless.Replay(request.block_ids);
    small.Replay(request.block_ids);
  }
  EXPECT_GT(endless.hit_rate(), 0.35);
  EXPECT_LT(endless.hit_rate(), 0.60);
  // What a small memory loses and a disk brings back.
  EXPECT_GT(endless.hit_rate(), small.hit_rate() + 0.05);
}

}  // namespace
}  // namespace cairn::offload
