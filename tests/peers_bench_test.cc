// Runs the program peers_bench as bench/peers.sh does, small. CAIRN_PEERS_BENCH is where the build
// put it.

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/peers/content.h"
#include "bench/peers/crew.h"
#include "bench/peers/table.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/disk_fixture.h"
#include "tests/process.h"

namespace cairn::peers {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(PeersContent, IsOfItsIdAndOfNoOther) {
  std::vector<std::byte> bytes(8192);
  FillContent(7, absl::MakeSpan(bytes));
  EXPECT_TRUE(HasContent(7, bytes));
  EXPECT_FALSE(HasContent(8, bytes));
  for (const size_t at : {size_t{0}, size_t{4095}, bytes.size() - 1}) {
    bytes[at] ^= std::byte{1};
    EXPECT_FALSE(HasContent(7, bytes)) << at;
    bytes[at] ^= std::byte{1};
  }
  EXPECT_NE(KeyOf(7), KeyOf(8));
}

TEST(PeersCrew, ServesEachItemOnceAndTellsOfAFailure) {
  Crew crew(3);
  for (int turn = 0; turn < 50; ++turn) {
    std::vector<int> served(20);
    EXPECT_TRUE(crew.ForEach(served.size(),
                             [&served](size_t i) {
                               ++served[i];
                               return absl::OkStatus();
                             })
                    .ok());
    EXPECT_EQ(served, std::vector<int>(20, 1));
  }
  EXPECT_TRUE(crew.ForEach(0, [](size_t) { return absl::OkStatus(); }).ok());
  const absl::Status failed = crew.ForEach(
      20, [](size_t i) { return i == 11 ? absl::DataLossError("11") : absl::OkStatus(); });
  EXPECT_EQ(failed.message(), "11");
}

Figures RunOf(uint64_t round, double put_s) {
  Figures run = {.store = "a", .tensor_bytes = 1_MiB, .bytes = 1'000'000'000, .round = round};
  run.put = {.wall_s = put_s, .cpu_s = 0.5, .batch_us = {1000 * round, 2000}};
  run.get = {.wall_s = 0.5, .cpu_s = 0.25, .batch_us = {7000}};
  run.bytes_on_disk = 1'250'000'000;
  run.device_bytes_written = 3'000'000'000;
  run.device_bytes_read = 1'000'000'000;
  return run;
}

TEST(PeersTable, HasTheMedianAndTheRangeOfTheRounds) {
  std::vector<Figures> runs = {RunOf(1, 1), RunOf(2, 0.5), RunOf(9, 0.25)};
  for (Figures& run : runs) {
    const absl::StatusOr<Figures> read = FromLine(ToLine(run));
    ASSERT_TRUE(read.ok()) << read.status();
    run = *read;
  }
  const std::string table = MarkdownTables({{.name = "a"}, {.name = "b"}}, runs);
  // Of 1 GB in a second, half and a quarter of it; half a second of a core for 0.93 GiB.
  EXPECT_THAT(table, HasSubstr("| `a` | 2.00 (1.00 to 4.00) | 2.00 (2.00 to 2.00) | 9.0 | 7.0 | "
                               "54 (54 to 54) | 27 (27 to 27) | 1.25 (1.25 to 1.25) | "
                               "3.00 (3.00 to 3.00) | 1.00 (1.00 to 1.00) |"));
  EXPECT_THAT(table, Not(HasSubstr("`b`")));
  EXPECT_THAT(table, HasSubstr("survives the death of the process"));
  EXPECT_THAT(table, Not(HasSubstr("survives the loss of power")));
}

TEST(PeersTable, QuantileIsAValueThatWasMeasured) {
  EXPECT_EQ(Quantile({3, 1, 2}, 0.99), 3);
  EXPECT_EQ(Quantile({3, 1, 2}, 0.5), 2);
  EXPECT_EQ(Quantile({3, 1, 2}, 0), 1);
}

TEST(PeersTable, RefusesLinesOfOthers) {
  for (const char* line : {"", "{}", "[1]", R"({"store": "a"})", "not JSON"}) {
    EXPECT_FALSE(FromLine(line).ok()) << line;
  }
  std::string line = ToLine(RunOf(1, 1));
  line.replace(line.find("[1000"), 5, "[-100");
  EXPECT_FALSE(FromLine(line).ok());
}

class PeersBenchTest : public ::testing::Test {
 protected:
  ProcessEnd Bench(std::vector<std::string> words) const {
    words.insert(words.begin(), CAIRN_PEERS_BENCH);
    return Process(directory_.path(), words).Wait();
  }

  std::vector<std::string> Stores() const {
    std::istringstream lines(Bench({"--list"}).out);
    std::vector<std::string> stores;
    for (std::string line; std::getline(lines, line);) stores.push_back(line);
    return stores;
  }

  ProcessEnd Measured(const std::string& store, uint64_t bytes) const {
    return Bench({"--store", store, "--directory", directory_.path(), "--size", absl::StrCat(bytes),
                  "--tensor-bytes", absl::StrCat(512_KiB)});
  }

  TemporaryDirectory directory_;
};

TEST_F(PeersBenchTest, EveryStoreGivesBackWhatItWasGiven) {
  const std::vector<std::string> stores = Stores();
  for (const char* store : {"cairn", "cairn-flushed", "rocksdb", "files"}) {
    EXPECT_THAT(stores, Contains(store));
  }
  std::string lines;
  for (const std::string& store : stores) {
    const ProcessEnd end = Measured(store, 8_MiB);
    ASSERT_EQ(end.exit_code, 0) << store << ": " << end.err;
    const absl::StatusOr<Figures> figures = FromLine(end.out);
    ASSERT_TRUE(figures.ok()) << end.out;
    EXPECT_EQ(figures->bytes, 8_MiB);
    EXPECT_EQ(figures->put.batch_us.size(), 1u);
    EXPECT_GE(figures->bytes_on_disk, 8_MiB) << store;
    EXPECT_FALSE(std::filesystem::exists(directory_ / store)) << "files were left";
    lines += end.out;
  }
  WriteFile(directory_ / "figures", lines);
  const ProcessEnd end = Bench({"--table", directory_ / "figures"});
  EXPECT_EQ(end.exit_code, 0) << end.err;
  for (const std::string& store : stores) EXPECT_THAT(end.out, HasSubstr("| `" + store + "` |"));
}

TEST_F(PeersBenchTest, RefusesWhatDoesNotFitTheDisk) {
  const ProcessEnd end = Measured("files", uint64_t{1} << 50);
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_THAT(end.err, HasSubstr("free; 1 PiB of tensors need 2.5 PiB"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "files"));
}

TEST_F(PeersBenchTest, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(Measured("etcd", 8_MiB).exit_code, 2);
  EXPECT_EQ(Measured("files", 8_MiB + 1).exit_code, 2);
  WriteFile(directory_ / "files", "");
  const ProcessEnd end = Measured("files", 8_MiB);
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_THAT(end.err, HasSubstr("File exists"));
}

}  // namespace
}  // namespace cairn::peers
