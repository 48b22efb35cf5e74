// A write that the device refuses: tried once more in another place, and the place that failed is
// out of use. See store_fault_test.cc for what happens when no place is good.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>

#include "absl/strings/str_cat.h"
#include "tests/faulty_io.h"
#include "tests/manual_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;
using Fault = FaultyIo::Fault;
using FaultKind = FaultyIo::Kind;

constexpr PutOptions kOnDevice = {.durability = Durability::kOnDevice};

// On L3, of a tensor with a record of its own and a payload of whole blocks.
uint64_t ExtentBytes(uint64_t size) { return kBlockBytes + size; }

class StoreWriteFaultTest : public StoreTest {
 protected:
  void OpenFaulty() { Open(WrappedIn(&io_)); }
  // Of the writes to come those with these numbers fail.
  void FailWrites(std::vector<uint64_t> numbers, FaultKind kind = FaultKind::kFail) {
    io_->SetPlan([numbers = std::move(numbers), kind, writes = uint64_t{0}](
                     const IoOp& op, uint64_t) mutable -> Fault {
      if (op.kind != IoOp::Kind::kWrite) return {};
      const bool fails = std::find(numbers.begin(), numbers.end(), writes++) != numbers.end();
      if (!fails) return {};
      return {.kind = kind, .where = 1, .status = absl::UnavailableError("EIO")};
    });
  }
  std::vector<absl::Status> PutFrom(const std::vector<std::string>& keys, uint64_t size) {
    std::deque<AlignedBuffer> buffers;
    std::vector<ConstPiece> pieces;
    pieces.reserve(keys.size());
    std::vector<PutRequest> requests;
    for (const std::string& key : keys) {
      const std::vector<std::byte> content = ContentOf(key, size);
      buffers.emplace_back(size);
      std::memcpy(buffers.back().data(), content.data(), size);
      pieces.push_back({buffers.back().data(), size});
      requests.push_back(
          {.key = key, .meta = TensorMeta::Bytes(size), .pieces = {&pieces.back(), 1}});
    }
    return store_->PutFrom(requests, {});
  }

  FaultyIo* io_ = nullptr;
};

TEST_F(StoreWriteFaultTest, ATensorGoesToAnotherPlace) {
  OpenFaulty();
  uint64_t retries = 0;
  uint64_t used = 0;
  // Whatever the failed write has left where it was; the second of several requests too.
  for (const FaultKind kind : {FaultKind::kFail, FaultKind::kTear, FaultKind::kShort}) {
    for (const uint64_t size : {100 * kKiB, 500 * kKiB, 3 * kMiB}) {
      const std::string key = absl::StrCat("k", static_cast<int>(kind), "/", size);
      FailWrites({size > kMiB ? 1u : 0u}, kind);
      ASSERT_TRUE(Put(key, size, 0, kOnDevice).ok());
      ASSERT_TRUE(store_->Evict(key, Level::kL3Nvme).ok());
      Expect(key, size);
      EXPECT_EQ(store_->Stats().write_errors, ++retries);
      EXPECT_EQ(store_->Stats().write_retries, retries);
      used += ExtentBytes(size);
    }
  }
  FailWrites({0});
  EXPECT_TRUE(PutFrom({"borrowed"}, 200 * kKiB)[0].ok());
  used += ExtentBytes(200 * kKiB);
  EXPECT_EQ(store_->Stats().write_retries, retries + 1);
  EXPECT_EQ(store_->Stats().spill_failures, 0u);
  EXPECT_EQ(store_->Stats().degraded, "");
  EXPECT_EQ(store_->Stats().l3.bytes_used, used);
  Reopen();
  EXPECT_EQ(store_->Stats().recovery_dropped, 0u);
  EXPECT_EQ(store_->Stats().l3.bytes_used, used);
  for (const FaultKind kind : {FaultKind::kFail, FaultKind::kTear, FaultKind::kShort}) {
    for (const uint64_t size : {100 * kKiB, 500 * kKiB, 3 * kMiB}) {
      Expect(absl::StrCat("k", static_cast<int>(kind), "/", size), size);
    }
  }
  Expect("borrowed", 200 * kKiB);
}

TEST_F(StoreWriteFaultTest, APackGoesToAnotherPlace) {
  OpenFaulty();
  std::vector<std::string> keys;
  for (int i = 0; i < 20; ++i) keys.push_back(absl::StrCat("embedding/", i));
  FailWrites({0}, FaultKind::kTear);
  for (const absl::Status& status : PutFrom(keys, 8192)) EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(store_->Stats().write_retries, 1u);
  const uint64_t pack_bytes = store_->Stats().l3.bytes_used;
  EXPECT_EQ(store_->Stats().l3_bytes_quarantined, pack_bytes);
  Reopen();
  EXPECT_EQ(store_->Stats().l3.bytes_used, pack_bytes);
  EXPECT_EQ(store_->Stats().l3_bytes_quarantined, 0u);
  for (const std::string& key : keys) Expect(key, 8192);
  for (const std::string& key : keys) ASSERT_TRUE(store_->Erase(key).ok());
  EXPECT_EQ(store_->Stats().l3.bytes_used, 0u);
}

TEST_F(StoreWriteFaultTest, ABadPlaceIsNotGivenToTheNextPut) {
  OpenFaulty();
  // The first place that is written to stays bad.
  auto bad = std::make_shared<std::atomic<int64_t>>(-1);
  io_->SetPlan([bad](const IoOp& op, uint64_t) -> Fault {
    if (op.kind != IoOp::Kind::kWrite) return {};
    int64_t none = -1;
    bad->compare_exchange_strong(none, static_cast<int64_t>(op.offset));
    const auto place = static_cast<uint64_t>(bad->load());
    if (op.file != 0 || op.offset > place || op.offset + op.byte_count() <= place) return {};
    return {.kind = FaultKind::kFail, .status = absl::UnavailableError("EIO")};
  });
  for (int i = 0; i < 100; ++i) {
    const std::string key = absl::StrCat("k", i);
    ASSERT_TRUE(Put(key, 100 * kKiB, 0, kOnDevice).ok()) << i;
    if (i % 2 == 0) {
      ASSERT_TRUE(store_->Erase(key).ok());
    }
  }
  EXPECT_EQ(io_->fault_count(), 1u);
  EXPECT_EQ(store_->Stats().l3_bytes_quarantined, ExtentBytes(100 * kKiB));
  EXPECT_EQ(store_->Stats().l3.bytes_used, 50 * ExtentBytes(100 * kKiB));
  for (int i = 1; i < 100; i += 2) Expect(absl::StrCat("k", i), 100 * kKiB);
}

TEST_F(StoreWriteFaultTest, OnlyWhenBothPlacesFailThePutDoes) {
  OpenFaulty();
  ASSERT_TRUE(Put("other", 100 * kKiB, 0, kOnDevice).ok());
  FailWrites({0, 1});
  ExpectStatus(Put("k", 100 * kKiB, 0, kOnDevice), StatusCode::kUnavailable,
               "tensor k could not be written to L3 in two places: EIO");
  EXPECT_EQ(store_->Stats().write_errors, 2u);
  EXPECT_EQ(store_->Stats().write_retries, 1u);
  EXPECT_EQ(store_->Stats().spill_failures, 1u);
  EXPECT_EQ(store_->Stats().l3_bytes_quarantined, 2 * ExtentBytes(100 * kKiB));
  Expect("k", 100 * kKiB);  // From L2.
  ASSERT_TRUE(store_->Evict("other", Level::kL3Nvme).ok());
  Expect("other", 100 * kKiB);
  ASSERT_TRUE(Put("k", 100 * kKiB, 1, kOnDevice).ok());
  EXPECT_EQ(store_->Stats().degraded, "");
}

TEST_F(StoreWriteFaultTest, WhatIsQuarantinedHasABound) {
  OpenFaulty();
  const uint64_t bytes_max = store_->Stats().l3.bytes_max;
  io_->SetPlan([](const IoOp& op, uint64_t) -> Fault {
    if (op.kind != IoOp::Kind::kWrite) return {};
    return {.kind = FaultKind::kFail, .status = absl::UnavailableError("EIO")};
  });
  for (int i = 0; i < 30; ++i) {
    const absl::Status status = Put(absl::StrCat("k", i), 100 * kKiB, 0, kOnDevice);
    ExpectStatus(status, StatusCode::kUnavailable, "EIO");
  }
  // Larger than what may be quarantined by itself.
  ExpectStatus(Put("large", 2 * kMiB, 0, kOnDevice), StatusCode::kUnavailable, "EIO");
  const StatsSnapshot stats = store_->Stats();
  EXPECT_GT(stats.l3_bytes_quarantined, bytes_max / 64 - ExtentBytes(100 * kKiB));
  EXPECT_LE(stats.l3_bytes_quarantined, bytes_max / 64);
  EXPECT_EQ(stats.l3.bytes_max, bytes_max - stats.l3_bytes_quarantined);
  EXPECT_EQ(stats.l3.bytes_used, 0u);
  io_->SetPlan(nullptr);
  // The rest is all there.
  const PutOptions keep = {.durability = Durability::kOnDevice, .retention = Retention::kKeep};
  int count = 0;
  while (Put(absl::StrCat("kept", count), 100 * kKiB, 0, keep).ok()) ++count;
  EXPECT_GE(store_->Stats().l3.bytes_used, stats.l3.bytes_max * 9 / 10);
}

TEST_F(StoreWriteFaultTest, WithoutAnotherPlaceThePutFailsAtOnce) {
  OpenFaulty();
  const PutOptions keep = {.durability = Durability::kOnDevice, .retention = Retention::kKeep};
  int count = 0;
  while (Put(absl::StrCat("kept", count), kMiB, 0, keep).ok()) ++count;
  ASSERT_TRUE(store_->Erase("kept5").ok());
  FailWrites({0});
  ExpectStatus(Put("k", kMiB, 0, kOnDevice), StatusCode::kUnavailable, "EIO");
  EXPECT_EQ(store_->Stats().write_errors, 1u);
  EXPECT_EQ(store_->Stats().write_retries, 0u);
  EXPECT_TRUE(Put("again", kMiB, 0, keep).ok());
}

TEST_F(StoreWriteFaultTest, AReplacementThatMovesIsTheOneThatStays) {
  OpenFaulty();
  ASSERT_TRUE(Put("k", 100 * kKiB, 1, kOnDevice).ok());
  FailWrites({0});
  ASSERT_TRUE(Put("k", 100 * kKiB, 2, kOnDevice).ok());
  EXPECT_EQ(store_->Stats().l3.bytes_used, ExtentBytes(100 * kKiB));
  Reopen();
  Expect("k", 100 * kKiB, 2);
  EXPECT_EQ(store_->Stats().l3.bytes_used, ExtentBytes(100 * kKiB));
}

TEST_F(StoreWriteFaultTest, ErasedAndReplacedWhileItMoves) {
  ManualIo* io = nullptr;
  Open(WrappedIn(&io));
  ASSERT_TRUE(Put("erased", 100 * kKiB).ok());
  ASSERT_TRUE(Put("replaced", 100 * kKiB, 1).ok());
  io->WaitForPending(2);
  io->Complete(0, absl::UnavailableError("EIO"));
  io->Complete(0, absl::UnavailableError("EIO"));
  ASSERT_EQ(io->pending(), 2u);
  ASSERT_TRUE(store_->Erase("erased").ok());
  ASSERT_TRUE(Put("replaced", 100 * kKiB, 2).ok());
  io->WaitForPending(3);
  io->CompleteAll();
  io->Release();
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_EQ(store_->Stats().l3.bytes_used, ExtentBytes(100 * kKiB));
  EXPECT_EQ(store_->Stats().l3_bytes_quarantined, 2 * ExtentBytes(100 * kKiB));
  Reopen();
  ExpectStatus(GetStatus("erased"), StatusCode::kNotFound, "erased");
  Expect("replaced", 100 * kKiB, 2);
}

}  // namespace
}  // namespace cairn
