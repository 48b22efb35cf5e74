// What a crash may bring back: never a write older than one that was acknowledged, never a tensor
// whose erasure was. The index is asked what it would say after a crash at that moment.

#include <gtest/gtest.h>

#include <thread>

#include "tests/broken_index.h"
#include "tests/manual_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;

class StoreOrderTest : public StoreTest {
 protected:
  StoreSeams Seams() {
    StoreSeams seams = WrappedIn(&io_);
    seams.wrap_index = [this](std::unique_ptr<Index> inner) {
      auto index = std::make_unique<BrokenIndex>(std::move(inner), &broken_);
      index_ = index.get();
      return index;
    };
    return seams;
  }
  // The size of the tensor that a store opened now would find; 0: none.
  uint64_t BytesAfterCrash(std::string_view key) {
    const absl::StatusOr<IndexRecord> record = index_->Find({.fingerprint_id = 1, .key = key});
    return record.ok() ? record->payload_bytes : 0;
  }
  std::thread PutInThread(uint64_t size, Durability durability, absl::Status* status) {
    return std::thread([this, size, durability, status] {
      *status = Put("k", size, 0, {.durability = durability});
    });
  }
  void PutFirst(uint64_t size) {
    absl::Status status;
    std::thread first = PutInThread(size, Durability::kOnDevice, &status);
    io_->WaitForPending(1);
    io_->CompleteAll();
    first.join();
    ASSERT_TRUE(status.ok()) << status;
  }
  // Until the store has done in the background what it does every 100 ms.
  void WaitUntilL3Holds(uint64_t bytes) {
    for (int i = 0; i < 1000 && store_->Stats().l3.bytes_used != bytes; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_EQ(store_->Stats().l3.bytes_used, bytes);
  }

  ManualIo* io_ = nullptr;
  BrokenIndex* index_ = nullptr;
  std::atomic<bool> broken_ = false;
};

TEST_F(StoreOrderTest, APutReplacedInFlightIsAcknowledgedOnlyWhenTheOlderIsForgotten) {
  for (const Durability durability : {Durability::kOnDevice, Durability::kFlushed}) {
    Open(Seams());
    PutFirst(70000);
    absl::Status second_status;
    std::thread second = PutInThread(80000, durability, &second_status);
    io_->WaitForPending(1);
    ASSERT_TRUE(Put("k", 90000).ok());
    ASSERT_EQ(io_->pending(), 2u);
    io_->Complete(0);
    second.join();
    EXPECT_TRUE(second_status.ok()) << second_status;
    EXPECT_EQ(BytesAfterCrash("k"), 80000u);
    io_->CompleteAll();
    EXPECT_TRUE(store_->Flush().ok());
    EXPECT_EQ(BytesAfterCrash("k"), 90000u);
    Expect("k", 90000);
    // Header and payload in blocks; the two older ones are gone.
    EXPECT_EQ(store_->Stats().l3.bytes_used, 4096u + 90112u);
    io_->Release();
    Close();
  }
}

TEST_F(StoreOrderTest, APutOvertakenByItsReplacementIsAcknowledgedWithIt) {
  Open(Seams());
  PutFirst(70000);
  absl::Status second_status;
  std::thread second = PutInThread(80000, Durability::kFlushed, &second_status);
  io_->WaitForPending(1);
  ASSERT_TRUE(Put("k", 90000).ok());
  io_->Complete(1);
  io_->Complete(0);
  second.join();
  EXPECT_TRUE(second_status.ok()) << second_status;
  EXPECT_EQ(BytesAfterCrash("k"), 90000u);
  Expect("k", 90000);
  EXPECT_EQ(store_->Stats().l3.bytes_used, 4096u + 90112u);
  io_->Release();
}

TEST_F(StoreOrderTest, APutErasedInFlightDoesNotBringTheOlderBack) {
  Open(Seams());
  PutFirst(70000);
  absl::Status second_status;
  std::thread second = PutInThread(80000, Durability::kOnDevice, &second_status);
  io_->WaitForPending(1);
  broken_ = true;
  ExpectStatus(store_->Erase("k"), StatusCode::kUnavailable, "index");
  io_->Complete(0);
  second.join();
  // Nobody was told that it is written, as the index still names the first.
  ExpectStatus(second_status, StatusCode::kUnavailable, "index");
  EXPECT_EQ(BytesAfterCrash("k"), 70000u);
  broken_ = false;
  EXPECT_TRUE(store_->Erase("k").ok());
  EXPECT_EQ(BytesAfterCrash("k"), 0u);
  io_->Release();
}

// Or loss of power would bring the first back, older than what was acknowledged as flushed.
TEST_F(StoreOrderTest, AFlushedPutErasedInFlightIsAcknowledgedWhenTheErasureIsFlushed) {
  Open(Seams());
  PutFirst(70000);
  absl::Status second_status;
  std::thread second = PutInThread(80000, Durability::kFlushed, &second_status);
  io_->WaitForPending(1);
  ASSERT_TRUE(store_->Erase("k").ok());
  EXPECT_EQ(index_->synced_commits(), 0);
  io_->Complete(0);
  second.join();
  EXPECT_TRUE(second_status.ok()) << second_status;
  EXPECT_EQ(index_->synced_commits(), 1);
  EXPECT_EQ(BytesAfterCrash("k"), 0u);
  EXPECT_EQ(store_->Stats().l3.bytes_used, 0u);
  io_->Release();
}

TEST_F(StoreOrderTest, AnEraseAfterOneThatFailedWaitsForTheIndexToo) {
  Open(Seams());
  PutFirst(70000);
  broken_ = true;
  ExpectStatus(store_->Erase("k"), StatusCode::kUnavailable, "index");
  ExpectStatus(GetStatus("k"), StatusCode::kNotFound, "k");
  ExpectStatus(store_->Erase("k"), StatusCode::kUnavailable, "index");
  ExpectStatus(store_->ErasePrefix("k").status(), StatusCode::kUnavailable, "index");
  EXPECT_EQ(BytesAfterCrash("k"), 70000u);
  broken_ = false;
  EXPECT_TRUE(store_->Erase("k").ok());
  EXPECT_EQ(BytesAfterCrash("k"), 0u);
  WaitUntilL3Holds(0);
  io_->Release();
}

TEST_F(StoreOrderTest, WhatTheIndexFailedToForgetIsTriedAgainAndItsSpaceComesBack) {
  options_.stripe_count = 2;
  Open(Seams());
  PutFirst(70000);
  broken_ = true;
  ExpectStatus(store_->Erase("k"), StatusCode::kUnavailable, "index");
  EXPECT_EQ(store_->Stats().l3.bytes_used, 4096u + 73728u);
  broken_ = false;
  WaitUntilL3Holds(0);
  EXPECT_EQ(BytesAfterCrash("k"), 0u);
  io_->Release();
}

TEST_F(StoreOrderTest, ANewPutMakesAFailedRemovalVoid) {
  options_.stripe_count = 2;
  Open(Seams());
  PutFirst(70000);
  broken_ = true;
  ExpectStatus(store_->Erase("k"), StatusCode::kUnavailable, "index");
  ASSERT_TRUE(Put("k", 80000).ok());
  broken_ = false;
  io_->CompleteAll();
  ASSERT_TRUE(store_->Flush().ok());
  WaitUntilL3Holds(4096u + 81920u);
  EXPECT_EQ(BytesAfterCrash("k"), 80000u);
  io_->Release();
  Reopen();
  Expect("k", 80000);
}

TEST_F(StoreOrderTest, AStoreClosesOverWhatTheIndexNeverForgot) {
  Open(Seams());
  PutFirst(70000);
  broken_ = true;
  ExpectStatus(store_->Erase("k"), StatusCode::kUnavailable, "index");
  io_->Release();
  store_->Close().IgnoreError();
  store_.reset();
  broken_ = false;
  // It is there again, and whole: its bytes were not given away.
  Open();
  Expect("k", 70000);
}

}  // namespace
}  // namespace cairn
