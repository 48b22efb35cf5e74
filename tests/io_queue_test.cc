#include "io/io_queue.h"

#include <array>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "io/fixed_memory.h"
#include "io/io_drain.h"
#include "io/io_result.h"
#include "io/io_window.h"
#include "io/ring_slots.h"
#include "tests/io_fixture.h"

namespace cairn {
namespace {

constexpr size_t kMebibyte = size_t{1} << 20;

class IoQueueTest : public ::testing::Test {
 protected:
  // Memory is named, never touched.
  TestOp* Push(IoPriority priority, size_t bytes, IoOp::Kind kind = IoOp::Kind::kRead) {
    ops_.push_back(std::make_unique<TestOp>(kind, 0, 0, absl::Span<std::byte>()));
    TestOp* const op = ops_.back().get();
    op->priority = priority;
    if (bytes > 0) op->pieces.push_back({.iov_base = nullptr, .iov_len = bytes});
    IoTransfer::Begin(*op, 0);
    queue_.Push(op);
    return op;
  }

  IoQueue queue_;
  std::deque<std::unique_ptr<TestOp>> ops_;
};

TEST_F(IoQueueTest, IsEmptyAtFirst) {
  EXPECT_TRUE(queue_.empty());
  EXPECT_EQ(queue_.Pop(), nullptr);
}

TEST_F(IoQueueTest, GoesByPriorityThenByOrder) {
  std::vector<IoOp*> expected;
  for (int priority = 3; priority >= 0; --priority) {
    IoOp* const first = Push(static_cast<IoPriority>(priority), 4096);
    IoOp* const second = Push(static_cast<IoPriority>(priority), 4096);
    expected.insert(expected.begin(), {first, second});
  }
  EXPECT_EQ(queue_.size(), 8u);
  for (IoOp* op : expected) EXPECT_EQ(queue_.Pop(), op);
  EXPECT_TRUE(queue_.empty());
}

TEST_F(IoQueueTest, AReadThatIsRaisedGoesWithTheDemandReads) {
  IoOp* const prefetch = Push(IoPriority::kPrefetch, 4096);
  IoOp* const raised = Push(IoPriority::kPrefetch, 4096);
  IoOp* const write = Push(IoPriority::kWrite, 4096, IoOp::Kind::kWrite);
  IoOp* const demand = Push(IoPriority::kDemandRead, 4096);
  raised->Raise();
  write->Raise();
  EXPECT_FALSE(queue_.empty());
  queue_.RegardRaised();
  EXPECT_EQ(queue_.size(), 4u);
  for (IoOp* op : {demand, raised, write, prefetch}) EXPECT_EQ(queue_.Pop(), op);
  EXPECT_EQ(raised->priority, IoPriority::kDemandRead);
  EXPECT_TRUE(queue_.empty());
}

TEST_F(IoQueueTest, WhatIsRaisedBeforeItComesIsADemandRead) {
  ops_.push_back(std::make_unique<TestOp>(IoOp::Kind::kRead, 0, 0, absl::Span<std::byte>()));
  TestOp* const raised = ops_.back().get();
  raised->priority = IoPriority::kPrefetch;
  raised->pieces.push_back({.iov_base = nullptr, .iov_len = 4096});
  raised->Raise();
  IoTransfer::Begin(*raised, 0);
  Push(IoPriority::kWrite, 4096, IoOp::Kind::kWrite);
  queue_.Push(raised);
  EXPECT_EQ(queue_.Pop(), raised);
}

TEST_F(IoQueueTest, SyncsGoWithTheWrites) {
  IoOp* const write = Push(IoPriority::kWrite, 4096, IoOp::Kind::kWrite);
  IoOp* const early = Push(IoPriority::kDemandRead, 0, IoOp::Kind::kSync);
  IoOp* const late = Push(IoPriority::kBackground, 0, IoOp::Kind::kSync);
  IoOp* const read = Push(IoPriority::kDemandRead, 4096);
  for (IoOp* op : {read, write, early, late}) EXPECT_EQ(queue_.Pop(), op);
}

TEST_F(IoQueueTest, OneWriteGoesForEverySixteenMebibytesOfReads) {
  for (int index = 0; index < 60; ++index) Push(IoPriority::kDemandRead, kMebibyte);
  for (int index = 0; index < 3; ++index) Push(IoPriority::kWrite, kMebibyte);
  std::vector<int> writes_at;
  for (int index = 0; index < 52; ++index) {
    if (queue_.Pop()->priority == IoPriority::kWrite) writes_at.push_back(index);
  }
  EXPECT_EQ(writes_at, (std::vector<int>{16, 33, 50}));
}

TEST_F(IoQueueTest, SmallReadsCountForMoreThanTheirBytes) {
  Push(IoPriority::kWrite, 4096);
  for (int index = 0; index < 300; ++index) Push(IoPriority::kDemandRead, 4096);
  for (int index = 0; index < 256; ++index) {
    ASSERT_EQ(queue_.Pop()->priority, IoPriority::kDemandRead);
  }
  EXPECT_EQ(queue_.Pop()->priority, IoPriority::kWrite);
}

TEST_F(IoQueueTest, BytesThatPassWhileNoneWaitsDoNotCount) {
  for (int index = 0; index < 40; ++index) Push(IoPriority::kDemandRead, kMebibyte);
  for (int index = 0; index < 10; ++index) queue_.Pop();
  Push(IoPriority::kWrite, kMebibyte);
  for (int index = 0; index < 16; ++index) {
    EXPECT_EQ(queue_.Pop()->priority, IoPriority::kDemandRead);
  }
  EXPECT_EQ(queue_.Pop()->priority, IoPriority::kWrite);
}

// Each priority's share of a queue in which all always have something.
TEST_F(IoQueueTest, NoneStarvesUnderAFloodOfAll) {
  std::array<int, kIoPriorityCount> taken = {};
  for (size_t priority = 0; priority < kIoPriorityCount; ++priority) {
    Push(static_cast<IoPriority>(priority), kMebibyte);
  }
  for (int index = 0; index < 1000; ++index) {
    const IoPriority priority = queue_.Pop()->priority;
    ++taken[static_cast<size_t>(priority)];
    Push(priority, kMebibyte);
  }
  EXPECT_GT(taken[0], 700);
  EXPECT_GE(taken[1], 50);
  EXPECT_GE(taken[2], 25);
  EXPECT_GE(taken[3], 12);
}

TEST(IoQueueListTest, AppendsAndTakesInOrder) {
  TestOp ops[4];
  IoQueue::List first;
  IoQueue::List second;
  EXPECT_EQ(first.PopFront(), nullptr);
  first.Append(second);
  EXPECT_TRUE(first.empty());
  second.PushBack(&ops[0]);
  second.PushBack(&ops[1]);
  first.Append(second);
  EXPECT_TRUE(second.empty());
  second.PushBack(&ops[2]);
  first.Append(second);
  first.PushBack(&ops[3]);
  for (TestOp& op : ops) EXPECT_EQ(first.PopFront(), &op);
  EXPECT_TRUE(first.empty());
}

TEST(IoDrainTest, WaitsForWhatEnteredBeforeOnly) {
  IoDrain drain;
  drain.Wait();
  const uint8_t before = drain.Enter(2);
  std::jthread waiter([&] { drain.Wait(); });
  // Until the waiter has closed the epoch.
  uint8_t after = before;
  uint64_t entered = 0;
  while (after == before) {
    after = drain.Enter(1);
    if (after == before) ++entered;
  }
  for (uint64_t op = 0; op < 2 + entered; ++op) drain.Leave(before);
  waiter.join();
  drain.Leave(after);
  drain.Wait();
}

TEST(RingSlotsTest, TellsStaleCompletionsFromThoseItWaitsFor) {
  RingLane lane(nullptr);
  RingLane other(nullptr);
  RingSlots slots;
  slots.Resize(2);
  TestOp one;
  TestOp two;
  const uint32_t index = slots.Take(&one, {});
  const uint64_t name = slots.NextName(index);
  EXPECT_FALSE(slots.Completed(name, &lane).has_value());  // Not submitted.
  slots.Submitted(index, 0, &lane);
  EXPECT_FALSE(slots.Completed(name + 1, &lane).has_value());                    // Another slot.
  EXPECT_FALSE(slots.Completed(name + (uint64_t{1} << 32), &lane).has_value());  // To come.
  EXPECT_FALSE(slots.Completed(~uint64_t{0}, &lane).has_value());                // No slot.
  EXPECT_FALSE(slots.Completed(name, &other).has_value());                       // Of another ring.
  EXPECT_EQ(lane.in_flight(), 1u);
  EXPECT_EQ(slots.Completed(name, &lane), index);
  EXPECT_EQ(lane.in_flight(), 0u);
  EXPECT_FALSE(slots.Completed(name, &lane).has_value());  // Twice.
  const uint64_t rest = slots.NextName(index);
  slots.Submitted(index, 1, &lane);
  EXPECT_FALSE(slots.Completed(name, &lane).has_value());  // Of the first part.
  EXPECT_EQ(slots.Completed(rest, &lane), index);
  EXPECT_EQ(slots.Release(index), &one);
  EXPECT_EQ(slots.Take(&two, {}), index);
  slots.Submitted(index, 2, &lane);
  EXPECT_FALSE(slots.Completed(rest, &lane).has_value());  // Of the op before.
}

TEST(RingSlotsTest, GivesEachSlotOnce) {
  RingSlots slots;
  slots.Resize(2);
  TestOp op;
  EXPECT_TRUE(slots.all_free());
  const uint32_t first = slots.Take(&op, {});
  EXPECT_TRUE(slots.has_free());
  EXPECT_NE(slots.Take(&op, {}), first);
  EXPECT_FALSE(slots.has_free());
  slots.Release(first);
  EXPECT_TRUE(slots.has_free());
  EXPECT_FALSE(slots.all_free());
}

// Addresses are only compared.
absl::Span<std::byte> At(uint64_t address, uint64_t size) {
  return {reinterpret_cast<std::byte*>(address), size};  // NOLINT(performance-no-int-to-ptr)
}

TEST(FixedMemoryTest, SplitsARegionIntoPartsOfOneGibibyte) {
  constexpr uint64_t kGibibyte = FixedMemory::kPartBytesMax;
  FixedMemory memory(4);
  const auto parts = memory.Add(At(kGibibyte, 2 * kGibibyte + 4096));
  ASSERT_TRUE(parts.ok()) << parts.status();
  ASSERT_EQ(parts->size(), 3u);
  EXPECT_EQ((*parts)[0].size, kGibibyte);
  EXPECT_EQ((*parts)[1].size, kGibibyte);
  EXPECT_EQ((*parts)[2].size, 4096u);
  EXPECT_EQ(memory.Find(IovecOf(At(kGibibyte, kGibibyte))), 0);
  EXPECT_EQ(memory.Find(IovecOf(At(2 * kGibibyte, 1))), 1);
  EXPECT_EQ(memory.Find(IovecOf(At(3 * kGibibyte, 4096))), 2);
  EXPECT_EQ(memory.Find(IovecOf(At(2 * kGibibyte - 1, 2))), -1);  // Across two parts.
  EXPECT_EQ(memory.Find(IovecOf(At(3 * kGibibyte, 4097))), -1);
  EXPECT_EQ(memory.Find(IovecOf(At(kGibibyte - 1, 1))), -1);
  EXPECT_TRUE(memory.Remove(At(kGibibyte, kGibibyte)).empty());  // A part is no region.
  EXPECT_EQ(memory.Remove(At(kGibibyte, 2 * kGibibyte + 4096)).size(), 3u);
  EXPECT_EQ(memory.Find(IovecOf(At(kGibibyte, 1))), -1);
}

TEST(FixedMemoryTest, KeepsRegionsApartAndSlotsWithinTheirNumber) {
  FixedMemory memory(2);
  EXPECT_TRUE(absl::IsInvalidArgument(memory.Add({}).status()));
  ASSERT_TRUE(memory.Add(At(8192, 4096)).ok());
  for (const uint64_t address : {4097, 8191, 8192, 12287}) {
    EXPECT_TRUE(absl::IsInvalidArgument(memory.Add(At(address, 4096)).status())) << address;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(memory.Add(At(4096, 16384)).status()));
  ASSERT_TRUE(memory.Add(At(4096, 4096)).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(memory.Add(At(12288, 4096)).status()));
  EXPECT_EQ(memory.Find(IovecOf(At(4096, 4096))), 1);
  ASSERT_EQ(memory.Remove(At(8192, 4096)).size(), 1u);
  const auto again = memory.Add(At(12288, 4096));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->front().slot, 0u);
}

TEST_F(IoQueueTest, OthersTakeHalfOfTheWindowAndDemandReadsAllOfIt) {
  IoWindow window(8 * kMebibyte);
  for (int index = 0; index < 20; ++index) Push(IoPriority::kWrite, kMebibyte);
  std::vector<IoOp*> in_hand;
  while (IoOp* op = window.Take(queue_)) in_hand.push_back(op);
  EXPECT_EQ(in_hand.size(), 4u);
  for (int index = 0; index < 20; ++index) Push(IoPriority::kDemandRead, kMebibyte);
  while (IoOp* op = window.Take(queue_)) in_hand.push_back(op);
  EXPECT_EQ(in_hand.size(), 8u);
  // A read that is done makes place for a read, never for a fifth write.
  window.GiveBack(*in_hand.back());
  EXPECT_EQ(window.Take(queue_)->priority, IoPriority::kDemandRead);
  window.GiveBack(*in_hand.front());
  EXPECT_NE(window.Take(queue_), nullptr);
  EXPECT_EQ(window.Take(queue_), nullptr);
}

TEST_F(IoQueueTest, OneOpMayAlwaysGo) {
  IoWindow window(kMebibyte);
  Push(IoPriority::kWrite, 64 * kMebibyte);
  Push(IoPriority::kWrite, 4096);
  IoOp* const large = window.Take(queue_);
  ASSERT_NE(large, nullptr);
  EXPECT_EQ(window.Take(queue_), nullptr);
  window.GiveBack(*large);
  EXPECT_NE(window.Take(queue_), nullptr);
}

}  // namespace
}  // namespace cairn
