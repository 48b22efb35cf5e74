// LeadingHits::arrival and TensorInfo::arrival: when what is only on L3 would be in L2.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/faulty_io.h"
#include "tests/manual_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

constexpr uint64_t kSize = 256 * kKiB;

class StoreArrivalTest : public StoreTest {
 protected:
  // Tensors that L3 alone has.
  void PutOnL3(const std::vector<std::string>& keys, uint64_t size) {
    for (const std::string& key : keys) ASSERT_TRUE(Put(key, size).ok()) << key;
    for (const std::string& key : keys) {
      ASSERT_TRUE(store_->Evict(key, Level::kL3Nvme).ok()) << key;
    }
  }
  absl::Duration Arrival(std::string_view key) { return store_->Describe(key)->arrival; }
  absl::Duration ArrivalOfChain(const std::vector<TensorKey>& keys) {
    return store_->CountLeading(keys, {})->arrival;
  }
  // What store.h says, of the figures that the store shows. Only while no busy time is under way.
  absl::Duration Formula(uint64_t bytes) {
    const StatsSnapshot stats = store_->Stats();
    return absl::Microseconds(static_cast<int64_t>(stats.l3_read_latency_us)) +
           absl::Seconds(static_cast<double>(stats.l3_read_bytes_under_way + bytes) /
                         static_cast<double>(stats.l3_read_bytes_per_second));
  }
};

TEST_F(StoreArrivalTest, IsZeroInMemoryAndTheTimeOfTheReadElse) {
  Open();
  PutOnL3({"a", "b"}, kSize);
  ASSERT_TRUE(Put("c", kSize).ok());
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.l3_read_bytes_per_second, uint64_t{1} << 30);
  EXPECT_EQ(stats.l3_read_latency_us, 100u);
  EXPECT_EQ(stats.l3_read_bytes_under_way, 0u);
  EXPECT_EQ(Arrival("c"), absl::ZeroDuration());
  EXPECT_EQ(ArrivalOfChain({"c"}), absl::ZeroDuration());
  EXPECT_EQ(ArrivalOfChain({"nothing"}), absl::ZeroDuration());
  EXPECT_EQ(Arrival("a"), Formula(kSize));
  EXPECT_GT(Arrival("a"), absl::Microseconds(100));
  // Those in memory cost nothing, and what comes after a gap is no hit.
  EXPECT_EQ(ArrivalOfChain({"c", "a", "b"}), Formula(2 * kSize));
  EXPECT_EQ(ArrivalOfChain({"a", "nothing", "b"}), Formula(kSize));
  Expect("a", kSize);
  EXPECT_EQ(Arrival("a"), absl::ZeroDuration());
}

TEST_F(StoreArrivalTest, WaitsForWhatIsUnderWayAndCountsNothingTwice) {
  Open();
  PutOnL3({"a", "b"}, kSize);
  Close();
  ManualIo* io = nullptr;
  Open(WrappedIn(&io));
  const std::unique_ptr<CompletionQueue> queue = *CompletionQueue::Create(16);
  const std::vector<TensorKey> keys = {"a"};
  ASSERT_TRUE(store_->GetAsync(keys, {}, *queue, 0).ok());
  io->WaitForPending(1);
  EXPECT_EQ(store_->Stats().l3_read_bytes_under_way, kSize);
  const absl::Duration latency = absl::Microseconds(100);
  const double size = kSize;
  EXPECT_EQ(Arrival("a"), latency + absl::Seconds(size / (1 << 30)));
  EXPECT_EQ(Arrival("b"), latency + absl::Seconds(2 * size / (1 << 30)));
  EXPECT_EQ(ArrivalOfChain({"a", "b"}), latency + absl::Seconds(2 * size / (1 << 30)));
  io->Release();
  std::vector<Completion> done(1);
  while (queue->Wait(absl::MakeSpan(done), absl::Seconds(10)) == 0) {
  }
  ASSERT_TRUE(done[0].status.ok()) << done[0].status;
  EXPECT_EQ(store_->Stats().l3_read_bytes_under_way, 0u);
  EXPECT_EQ(Arrival("a"), absl::ZeroDuration());
  EXPECT_EQ(Arrival("b"), Formula(kSize));
}

TEST_F(StoreArrivalTest, TheRateIsWhatItsReadsHaveSeen) {
  Open();
  PutOnL3({"a", "b"}, 2 * kMiB);
  ASSERT_EQ(store_->Stats().l3_read_bytes_per_second, uint64_t{1} << 30);
  Expect("a", 2 * kMiB);
  EXPECT_NE(store_->Stats().l3_read_bytes_per_second, uint64_t{1} << 30);
  EXPECT_EQ(Arrival("b"), Formula(2 * kMiB));
}

// Reads into the caller's memory keep the device as busy as others.
TEST_F(StoreArrivalTest, DirectReadsCount) {
  Open();
  PutOnL3({"a"}, 2 * kMiB);
  AlignedBuffer memory(2 * kMiB);
  const Piece piece = {memory.data(), 2 * kMiB};
  const std::vector<GetRequest> requests = {{"a", {&piece, 1}}};
  ASSERT_TRUE(store_->GetInto(requests, GetOptions())[0].ok());
  EXPECT_EQ(store_->Stats().l3_read_bytes_under_way, 0u);
  EXPECT_NE(store_->Stats().l3_read_bytes_per_second, uint64_t{1} << 30);
}

TEST_F(StoreArrivalTest, WhatIsDamagedNeverArrives) {
  FaultyIo* io = nullptr;
  Open(WrappedIn(&io));
  PutOnL3({"a"}, kSize);
  io->SetPlan([](const IoOp& op, uint64_t) -> FaultyIo::Fault {
    if (op.kind != IoOp::Kind::kRead) return {};
    return {.kind = FaultyIo::Kind::kFlipBit, .where = 12345};
  });
  EXPECT_EQ(GetStatus("a").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Arrival("a"), absl::InfiniteDuration());
  EXPECT_EQ(ArrivalOfChain({"a"}), absl::ZeroDuration()) << "it is no hit";
  EXPECT_EQ(store_->Stats().l3_read_bytes_under_way, 0u) << "read twice, ended twice";
}

}  // namespace
}  // namespace cairn
