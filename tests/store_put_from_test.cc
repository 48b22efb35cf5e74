// PutFrom without a wait: what the caller's thread does, in which order the device gets it, and
// what happens to puts that find no room at once.

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
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
  void PutFrom(const std::string& key, uint64_t size, uint64_t version = 0,
               const PutOptions& options = {}) {
    memory_.emplace_back(size);
    const std::vector<std::byte> content = ContentOf(key, size, version);
    std::memcpy(memory_.back().data(), content.data(), size);
    const ConstPiece piece = {memory_.back().data(), size};
    const PutRequest request = {
        .key = key, .meta = TensorMeta::Bytes(size), .pieces = {&piece, 1}, .tag = calls_++};
    const absl::Status status = store_->PutFrom({&request, 1}, options, *queue_);
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

TEST_F(StorePutFromTest, TheLaterWriteStaysThoughItIsDoneFirst) {
  for (uint64_t version = 1; version <= 3; ++version) PutFrom("k", kMiB, version);
  ASSERT_EQ(io_->pending(), 6u);  // Payload and header of each.
  for (const size_t first : {4u, 2u, 0u}) {
    io_->Complete(first);
    io_->Complete(first);
  }
  WaitForAll();
  io_->Release();
  Expect("k", kMiB, 3);
  EXPECT_EQ(store_->Stats().l3.tensors, 1u);
  Reopen();
  Expect("k", kMiB, 3);
  EXPECT_EQ(store_->Stats().l3.bytes_used, kMiB + kBlockBytes);
}

TEST_F(StorePutFromTest, AnEarlierWriteDoneAfterALaterPutIsKeptForTheIndexUntilThatIsWritten) {
  PutFrom("k", kMiB, 1);
  PutFrom("k", kMiB, 2);
  ASSERT_TRUE(Put("k", kMiB, 3).ok());
  io_->WaitForPending(6);
  for (const size_t first : {2u, 0u}) {
    io_->Complete(first);
    io_->Complete(first);
  }
  WaitForAll();
  Expect("k", kMiB, 3);
  // What replaced them fails: then nothing of them may come back.
  while (io_->pending() > 0) io_->Complete(0, absl::UnavailableError("EIO"));
  EXPECT_FALSE(store_->Flush().ok());
  Expect("k", kMiB, 3);
  ASSERT_TRUE(store_->Erase("k").ok());
  EXPECT_EQ(store_->Stats().l3.bytes_used, 0u);
}

TEST_F(StorePutFromTest, WhatWasToBeKeptAndFailedLeavesRoomForOthers) {
  PutFrom("kept", 3 * kMiB, 0, {.retention = Retention::kKeep});
  while (io_->pending() > 0) io_->Complete(0, absl::ResourceExhaustedError("no space"));
  Completion completion;
  ASSERT_EQ(queue_->Wait({&completion, 1}, absl::InfiniteDuration()), 1u);
  EXPECT_TRUE(absl::IsResourceExhausted(completion.status)) << completion.status;
  calls_ = 0;
  io_->Release();
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(Put(absl::StrCat("k", i), kMiB, 0, {.durability = Durability::kOnDevice}).ok());
  }
}

}  // namespace
}  // namespace cairn
