// PutFrom without a wait: what the caller's thread does, in which order the device gets it, and
// what happens to puts that find no room at once.

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "tests/manual_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

class StorePutFromTest : public StoreTest {
 protected:
  void SetUp() override {
    queue_ = *CompletionQueue::Create(256);
    Open(WrappedIn(&io_));
  }

  // One call. The memory is this test's until it ends.
  void PutFrom(const std::string& key, uint64_t size, uint64_t version = 0) {
    memory_.emplace_back(size);
    const std::vector<std::byte> content = ContentOf(key, size, version);
    std::memcpy(memory_.back().data(), content.data(), size);
    const ConstPiece piece = {memory_.back().data(), size};
    const PutRequest request = {
        .key = key, .meta = TensorMeta::Bytes(size), .pieces = {&piece, 1}, .tag = calls_++};
    const absl::Status status = store_->PutFrom({&request, 1}, {}, *queue_);
    ASSERT_TRUE(status.ok()) << status;
  }
  bool Ended() {
    Completion completion;
    if (queue_->Wait({&completion, 1}, absl::ZeroDuration()) == 0) return false;
    EXPECT_TRUE(completion.status.ok()) << completion.status;
    return true;
  }
  void WaitForAll() {
    for (uint64_t i = 0; i < calls_; ++i) {
      Completion completion;
      ASSERT_EQ(queue_->Wait({&completion, 1}, absl::InfiniteDuration()), 1u);
      EXPECT_TRUE(completion.status.ok()) << completion.tag << ": " << completion.status;
    }
  }

  std::deque<AlignedBuffer> memory_;
  std::unique_ptr<CompletionQueue> queue_;
  uint64_t calls_ = 0;
  ManualIo* io_ = nullptr;
};

TEST_F(StorePutFromTest, TheDeviceHasThePayloadBeforeItsHeader) {
  PutFrom("k", 2 * kMiB);
  ASSERT_EQ(io_->pending(), 3u);
  const uint64_t payload_offset = io_->op(0).offset;
  EXPECT_EQ(io_->op(0).pieces[0].iov_base, memory_[0].data());
  EXPECT_EQ(io_->op(1).offset, payload_offset + kMiB);
  EXPECT_EQ(io_->op(2).offset, payload_offset - 4096);
  // There when all of it is.
  io_->Complete(2);
  io_->Complete(1);
  EXPECT_FALSE(Ended());
  EXPECT_FALSE(store_->Describe("k").ok());
  io_->Complete(0);
  WaitForAll();
  Close();
  Open();
  Expect("k", 2 * kMiB);
}

TEST_F(StorePutFromTest, AFailedPayloadIsWrittenAnewWithItsHeader) {
  PutFrom("k", kMiB);
  ASSERT_EQ(io_->pending(), 2u);
  const uint64_t first_offset = io_->op(0).offset;
  io_->Complete(0, absl::UnavailableError("bad sector"));
  io_->Complete(0);
  io_->WaitForPending(2);
  EXPECT_NE(std::max(io_->op(0).offset, io_->op(1).offset), first_offset);
  io_->CompleteAll();
  WaitForAll();
  Close();
  Open();
  Expect("k", kMiB);
}

TEST_F(StorePutFromTest, WhatFindsNoRoomWaitsElsewhereAndKeepsItsTurn) {
  // More than L3 holds, and nothing can leave while it is being written.
  for (int i = 0; i < 60; ++i) PutFrom("k" + std::to_string(i), kMiB);
  PutFrom("same", kMiB, 1);
  PutFrom("same", kMiB, 2);
  EXPECT_LT(io_->pending(), 2 * 60u);
  EXPECT_FALSE(Ended());
  io_->Release();
  WaitForAll();
  Expect("same", kMiB, 2);
}

}  // namespace
}  // namespace cairn
