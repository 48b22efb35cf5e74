// What a snapshot promises: its sums are those of its parts while others work, no part is more than
// its whole, and every Get is counted once, by how it ended.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/faulty_io.h"
#include "tests/l1_fixture.h"

namespace cairn {
namespace {

constexpr uint64_t kSize = 64 * kKiB;
constexpr int kKeys = 64;

void ExpectItAddsUp(const StatsSnapshot& stats) {
  EXPECT_EQ(stats.gets,
            stats.l1.hits + stats.l2.hits + stats.l3.hits + stats.misses + stats.gets_failed);
  for (const TierStats* const tier : {&stats.l1, &stats.l2, &stats.l3}) {
    uint64_t hits = 0;
    for (const ClassStats& of_class : tier->classes) hits += of_class.hits;
    EXPECT_EQ(tier->hits, hits);
  }
  EXPECT_LE(stats.puts_kept_existing + stats.puts_refused, stats.puts);
  EXPECT_LE(stats.lift_failures, stats.lifts);
  EXPECT_LE(stats.pressure.prefetches_refused, stats.prefetches_dropped);
  EXPECT_LE(stats.write_retries, stats.write_errors);
}

// Gets of all verbs by how they ended, as those who asked see it.
struct Asked {
  std::atomic<uint64_t> begun = 0;
  std::atomic<uint64_t> served = 0;
  std::atomic<uint64_t> missed = 0;

  uint64_t ended() const { return served + missed; }
};

class StoreStatsTest : public L1Test {
 protected:
  StoreStatsTest() { options_.l2_bytes_max = 8 * kMiB; }

  // One of the verbs for a key that is there, or for one that never was.
  absl::Status GetByAVerb(uint64_t verb, const std::string& key, AlignedBuffer& buffer,
                          CompletionQueue& queue) {
    const Piece whole = {buffer.data(), kSize};
    switch (verb) {
      case 0:
        return GetStatus(key);
      case 1:
        return GetInL1(key).status();
      case 2:
        return store_->GetInto({{.key = key, .pieces = {&whole, 1}}}, {})[0];
      case 3: {
        const absl::Status begun =
            store_->GetInto({{.key = key, .pieces = {&whole, 1}}}, {}, queue);
        return begun.ok() ? NextOf(queue) : begun;
      }
      case 4: {
        const absl::Status begun =
            store_->GetAsync({TensorKey(key)}, {.want = Level::kL1Gpu}, queue, /*first_tag=*/0);
        return begun.ok() ? NextOf(queue) : begun;
      }
      default: {
        const absl::Status begun = store_->GetAsync({TensorKey(key)}, {}, queue, /*first_tag=*/0);
        return begun.ok() ? NextOf(queue) : begun;
      }
    }
  }
  static constexpr uint64_t kVerbs = 6;

  static absl::Status NextOf(CompletionQueue& queue) {
    Completion completion;
    if (queue.Wait({&completion, 1}, absl::Seconds(60)) != 1) {
      return absl::InternalError("nothing came");
    }
    return completion.status;
  }

  // Gets what is there and what is not, and puts over what is there.
  void Work(uint64_t seed, int rounds, Asked& asked) {
    std::mt19937_64 random(seed);
    AlignedBuffer buffer(kSize);
    auto queue = CompletionQueue::Create(4);
    ASSERT_TRUE(queue.ok());
    for (int i = 0; i < rounds; ++i) {
      const std::string key = "k" + std::to_string(random() % kKeys);
      if (random() % 8 == 0) {
        const IfExists if_exists = random() % 2 == 0 ? IfExists::kKeep : IfExists::kReplace;
        ASSERT_TRUE(Put(key, kSize, 0, {.if_exists = if_exists}).ok());
      }
      ++asked.begun;
      const absl::Status status =
          GetByAVerb(random() % kVerbs, random() % 4 == 0 ? "never put" : key, buffer, **queue);
      EXPECT_TRUE(status.ok() || absl::IsNotFound(status)) << status;
      ++(status.ok() ? asked.served : asked.missed);
    }
  }
};

TEST_F(StoreStatsTest, EverySnapshotAddsUpWhileOthersWork) {
  OpenL1();
  for (int i = 0; i < kKeys; ++i) ASSERT_TRUE(Put("k" + std::to_string(i), kSize).ok());
  Asked asked;
  std::atomic<int> working = 3;
  std::vector<std::jthread> threads;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    threads.emplace_back([&, seed] {
      Work(seed, 1000, asked);
      --working;
    });
  }
  uint64_t gets_before = 0;
  do {
    const uint64_t ended = asked.ended();
    const StatsSnapshot stats = store_->Stats();
    const uint64_t begun = asked.begun;
    ExpectItAddsUp(stats);
    // Each that has ended is in it, and none that had not begun.
    EXPECT_GE(stats.gets, ended);
    EXPECT_LE(stats.gets, begun);
    EXPECT_GE(stats.gets, gets_before);
    gets_before = stats.gets;
  } while (working > 0 && !HasFailure());
  threads.clear();
  const StatsSnapshot stats = store_->Stats();
  ExpectItAddsUp(stats);
  EXPECT_EQ(stats.gets, asked.begun);
  EXPECT_EQ(stats.misses, asked.missed);
  EXPECT_EQ(stats.l1.hits + stats.l2.hits + stats.l3.hits, asked.served);
  EXPECT_EQ(stats.get_l1_us.count, stats.l1.hits);
  EXPECT_EQ(stats.get_l2_us.count, stats.l2.hits);
  EXPECT_EQ(stats.get_l3_us.count, stats.l3.hits);
}

TEST_F(StoreStatsTest, AGetThatFailsIsCountedOnceByEveryVerb) {
  FaultyIo* io = nullptr;
  Open(WrappedIn(&io));
  auto queue = CompletionQueue::Create(4);
  ASSERT_TRUE(queue.ok());
  AlignedBuffer buffer(kSize);
  for (uint64_t verb = 0; verb < kVerbs; ++verb) {
    const std::string key = "k" + std::to_string(verb);
    ASSERT_TRUE(Put(key, kSize).ok());
    ASSERT_TRUE(store_->Evict(key, Level::kL3Nvme).ok());
    io->SetPlan([](const IoOp& op, uint64_t) -> FaultyIo::Fault {
      if (op.kind != IoOp::Kind::kRead) return {};
      return {.kind = FaultyIo::Kind::kFail};
    });
    // The first time its reads fail, the second time that is known.
    for (uint64_t time = 1; time <= 2; ++time) {
      const absl::Status status = GetByAVerb(verb, key, buffer, **queue);
      EXPECT_TRUE(absl::IsDataLoss(status)) << verb << ": " << status;
      const StatsSnapshot stats = store_->Stats();
      ExpectItAddsUp(stats);
      EXPECT_EQ(stats.gets_failed, verb * 2 + time) << verb;
      EXPECT_EQ(stats.gets, verb * 2 + time) << verb;
    }
    io->SetPlan(nullptr);
  }
}

// Whatever the machine refuses of it.
TEST_F(StoreStatsTest, SaysWhatIsPolledOfWhatWasAskedFor) {
  OpenL1();
  EXPECT_FALSE(store_->Stats().io_submissions_polled || store_->Stats().io_completions_polled);
  EXPECT_EQ(store_->Stats().io_polling_refusal, "");
  options_.io_submission_polling = absl::Milliseconds(20);
  options_.io_completion_polling = true;
  Reopen();
  ASSERT_TRUE(Put("k", kSize).ok());
  ASSERT_TRUE(store_->Evict("k", Level::kL3Nvme).ok());
  EXPECT_TRUE(GetStatus("k").ok());
  const StatsSnapshot stats = store_->Stats();
  const std::string& refusal = stats.io_polling_refusal;
  EXPECT_EQ(stats.io_polling_refusals > 0, !refusal.empty() && stats.io_engine == "uring");
  EXPECT_EQ(stats.io_submissions_polled && stats.io_completions_polled, refusal.empty());
  EXPECT_NE(stats.ToJson().find("\"io_polling_refusal\": "), std::string::npos);
}

TEST_F(StoreStatsTest, PollsNoLongerThanItMay) {
  options_.io_submission_polling = absl::Hours(2);
  ExpectStatus(options_.Validate(), absl::StatusCode::kInvalidArgument,
               "io_submission_polling is 2h: must be 0 to 1h");
  options_.io_submission_polling = absl::Milliseconds(-1);
  EXPECT_FALSE(options_.Validate().ok());
}

TEST_F(StoreStatsTest, AGetThatIsRefusedOutrightIsNotCounted) {
  OpenL1();
  EXPECT_FALSE(GetStatus("").ok());
  EXPECT_EQ(store_->Stats().gets, 0u);
}

}  // namespace
}  // namespace cairn
