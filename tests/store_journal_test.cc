// What a store decided for a tensor, as its host and store-inspect are told.

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/broken_index.h"
#include "tests/disk_fixture.h"
#include "tests/faulty_io.h"
#include "tests/run_store_inspect.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using Names = std::vector<std::string>;

constexpr uint64_t kSize = 256 * kKiB;

class StoreJournalTest : public StoreTest {
 protected:
  StoreJournalTest() { options_.l3_write_bytes_per_day = StoreOptions::kL3WritesUnlimited; }

  Names History(std::string_view key) const {
    const absl::StatusOr<std::vector<JournalEntry>> entries = store_->Explain(key);
    EXPECT_TRUE(entries.ok()) << entries.status();
    Names names;
    for (const JournalEntry& entry : *entries) names.emplace_back(DecisionName(entry.decision));
    return names;
  }
  uint64_t Count(Decision decision) const {
    return store_->Stats().decisions[static_cast<size_t>(decision)];
  }
  std::string JournalPath() const { return options_.path + "/journal"; }
  RunResult Why(const std::string& arguments) const {
    const std::string errors = options_.path + "_errors";
    const RunResult result = RunStoreInspect("why " + arguments, errors);
    std::filesystem::remove(errors);
    return result;
  }
};

TEST_F(StoreJournalTest, TellsTheLifeOfATensor) {
  Open();
  ASSERT_TRUE(Put("k", kSize).ok());
  ASSERT_TRUE(store_->Evict("k", Level::kL3Nvme).ok());
  Expect("k", kSize);
  ASSERT_TRUE(Put("k", kSize, 1, {.durability = Durability::kOnDevice}).ok());
  ASSERT_TRUE(store_->Erase("k").ok());
  const Names life = {"put",      "written", "dropped_l2", "loaded",
                      "replaced", "put",     "written",    "erased"};
  EXPECT_EQ(History("k"), life);
  EXPECT_EQ(History("other"), Names());
  const std::vector<JournalEntry> entries = *store_->Explain("k");
  for (const JournalEntry& entry : entries) {
    EXPECT_EQ(entry.bytes, kSize);
    EXPECT_LT(absl::AbsDuration(absl::Now() - entry.time), absl::Hours(1));
  }
  ExpectStatus(store_->Explain("").status(), absl::StatusCode::kInvalidArgument, "key");
  Reopen();
  EXPECT_EQ(History("k"), life) << "kept over a restart";
}

TEST_F(StoreJournalTest, TellsWhatLeftForRoom) {
  Open();
  for (int i = 0; i < 400; ++i) ASSERT_TRUE(Put(absl::StrCat("k", i), kSize).ok());
  ASSERT_TRUE(store_->Flush().ok());
  uint64_t gone = 0;
  uint64_t written = 0;
  for (int i = 0; i < 400; ++i) {
    const std::string key = absl::StrCat("k", i);
    const Names history = History(key);
    const auto count = std::count(history.begin(), history.end(), "written");
    written += static_cast<uint64_t>(count);
    if (store_->Describe(key).ok()) {
      EXPECT_EQ(count, 1) << key;
      continue;
    }
    // What is evicted while it is being written is never written.
    EXPECT_LE(count, 1) << key;
    ++gone;
    EXPECT_EQ(History(key).back(), "evicted_l3") << key;
  }
  EXPECT_GT(gone, 0u);
  // Till then L3 may be kept ahead of demand, one by one.
  ASSERT_TRUE(store_->Close().ok());
  const StatsSnapshot stats = store_->Stats();
  EXPECT_GE(stats.l3.evictions, gone);
  EXPECT_GT(stats.l2.evictions, 0u);
  EXPECT_EQ(Count(Decision::kEvictedL2), stats.l2.evictions);
  EXPECT_EQ(Count(Decision::kEvictedL3), stats.l3.evictions);
  EXPECT_EQ(Count(Decision::kPut), 400u);
  EXPECT_EQ(Count(Decision::kWritten), written);
  EXPECT_NE(stats.ToJson().find(absl::StrCat("\"evicted_l3\": ", stats.l3.evictions)),
            std::string::npos);
}

TEST_F(StoreJournalTest, WhatIsErasedWhileItIsWrittenEndsSo) {
  BrokenIndex* index = nullptr;
  std::atomic<bool> broken = false;
  StoreSeams seams;
  seams.wrap_index = [&](std::unique_ptr<Index> inner) -> std::unique_ptr<Index> {
    auto wrapped = std::make_unique<BrokenIndex>(std::move(inner), &broken);
    index = wrapped.get();
    return wrapped;
  };
  Open(std::move(seams));
  const int commits = index->commits_begun();
  std::thread erasing;
  {
    const MutexLock gate(index->gate());
    ASSERT_TRUE(Put("k", kSize).ok());
    while (index->commits_begun() == commits) SleepFor(std::chrono::milliseconds(1));
    erasing = std::thread([this] { EXPECT_TRUE(store_->Erase("k").ok()); });
    while (History("k").back() != "erased") SleepFor(std::chrono::milliseconds(1));
  }
  erasing.join();
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_EQ(History("k"), (Names{"put", "erased"}));
  Close();
}

TEST_F(StoreJournalTest, TellsWhatTheWriteBudgetRefused) {
  options_.l3_write_bytes_per_day = 1;
  Open();
  ASSERT_TRUE(Put("new", kSize).ok());
  ASSERT_TRUE(Put("tail", kSize, 0, {.partial_block = true}).ok());
  ASSERT_TRUE(Put("promised", kSize, 0, {.durability = Durability::kOnDevice}).ok());
  EXPECT_EQ(History("new"), (Names{"refused_first_sight", "put"}));
  EXPECT_EQ(History("tail"), (Names{"refused_partial", "put"}));
  EXPECT_EQ(History("promised"), (Names{"admitted_promised", "put", "written"}));
  for (uint64_t i = 0; i < 2 * options_.l2_bytes_max / kSize; ++i) {
    ASSERT_TRUE(Put(absl::StrCat("filler", i), kSize).ok());
  }
  EXPECT_EQ(GetStatus("new").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(History("new").back(), "lost");
}

TEST_F(StoreJournalTest, TellsWhatIsDamagedAndWhatFailed) {
  FaultyIo* io = nullptr;
  Open(WrappedIn(&io));
  ASSERT_TRUE(Put("k", kSize).ok());
  ASSERT_TRUE(store_->Evict("k", Level::kL3Nvme).ok());
  io->SetPlan([](const IoOp& op, uint64_t) {
    return op.kind == IoOp::Kind::kRead
               ? FaultyIo::Fault{.kind = FaultyIo::Kind::kFlipBit, .where = 8192}
               : FaultyIo::Fault{};
  });
  EXPECT_EQ(GetStatus("k").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(History("k").back(), "damaged");
  io->SetPlan([](const IoOp& op, uint64_t) {
    return op.kind == IoOp::Kind::kWrite ? FaultyIo::Fault{.kind = FaultyIo::Kind::kFail}
                                         : FaultyIo::Fault{};
  });
  ASSERT_TRUE(Put("unwritten", kSize).ok());
  EXPECT_FALSE(store_->Flush().ok());
  EXPECT_EQ(History("unwritten"), (Names{"put", "write_failed"}));
  io->SetPlan(nullptr);
}

TEST_F(StoreJournalTest, KeepsTheLastOfItsBound) {
  // Two for each of its 64 parts.
  options_.journal_records_max = 128;
  Open();
  for (uint64_t version = 0; version < 5; ++version) {
    ASSERT_TRUE(Put("k", kSize, version, {.durability = Durability::kOnDevice}).ok());
  }
  EXPECT_EQ(History("k"), (Names{"put", "written"}));
  EXPECT_EQ(Count(Decision::kReplaced), 4u);
  Close();
  EXPECT_LE(std::filesystem::file_size(JournalPath()), 48 + 128 * 24);
  options_.journal_records_max = 0;
  Open();
  ASSERT_TRUE(Put("k", kSize).ok());
  EXPECT_EQ(History("k"), Names());
  EXPECT_EQ(Count(Decision::kPut), 1u);
  Close();
  options_.journal_records_max = StoreOptions::kJournalRecordsMax + 1;
  ExpectStatus(options_.Validate(), absl::StatusCode::kInvalidArgument, "journal_records_max");
}

TEST_F(StoreJournalTest, AFileThatCannotBeBelievedIsSaidAndPassedOver) {
  Open();
  ASSERT_TRUE(Put("k", kSize).ok());
  Close();
  const std::string whole = ReadFile(JournalPath());
  std::string flipped = whole;
  flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 1);
  for (const std::string& bytes : {flipped, whole.substr(0, 50), std::string()}) {
    std::ofstream(JournalPath(), std::ios::binary | std::ios::trunc) << bytes;
    const RunResult why = Why(Quoted(options_.path) + " k");
    EXPECT_EQ(why.exit_code, 2);
    EXPECT_NE(why.errors.find("does not verify"), std::string::npos) << why.errors;
    log_.clear();
    Open();
    EXPECT_EQ(log_.size(), 1u);
    EXPECT_NE(log_.front().find("is not known from before"), std::string::npos) << log_.front();
    EXPECT_EQ(History("k"), Names());
    Expect("k", kSize);
    Close();
    EXPECT_NE(ReadFile(JournalPath()), bytes);
  }
}

TEST_F(StoreJournalTest, IsToldOffline) {
  Open();
  ASSERT_TRUE(Put("here", kSize).ok());
  ASSERT_TRUE(Put("gone", kSize).ok());
  ASSERT_TRUE(store_->Erase("gone").ok());
  Close();
  const RunResult here = Why(Quoted(options_.path) + " here");
  EXPECT_EQ(here.exit_code, 0) << here.errors;
  EXPECT_NE(here.output.find(".data, offset 4096, 262144 bytes"), std::string::npos) << here.output;
  EXPECT_NE(here.output.find("on L3 and in the index (262144 bytes)"), std::string::npos)
      << here.output;
  const RunResult gone = Why("gone " + Quoted(options_.path) + " --json");
  EXPECT_EQ(gone.exit_code, 0) << gone.errors;
  const nlohmann::json tensor = nlohmann::json::parse(gone.output)["tensors"][0];
  EXPECT_TRUE(tensor["l3"].is_null());
  EXPECT_EQ(tensor["history"].back()["decision"], "erased");
  const RunResult unknown = Why(Quoted(options_.path) + " unknown");
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_NE(unknown.errors.find("no tensor of the key unknown is known"), std::string::npos);
}

}  // namespace
}  // namespace cairn
