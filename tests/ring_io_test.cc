#include "io/ring_io.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/ring_io_fixture.h"

namespace cairn {
namespace {

TEST_F(RingIoTest, Transfers) {
  Open({});
  WriteAndReadBack();
  EXPECT_EQ(io_->stats().retries, 0u);
}

TEST_F(RingIoTest, WorksWithARingOfTwoEntriesAndOneOp) {
  Open({.depth = 1, .entries = 2});
  WriteAndReadBack();
}

TEST_F(RingIoTest, WorksWhereTheRingHasFewerEntriesThanOps) {
  Open({.depth = 8, .entries = 2});
  WriteAndReadBack();
}

TEST_F(RingIoTest, GoesOnAfterShortTransfers) {
  const auto random = std::make_shared<std::mt19937>(1);
  const auto result = [random](const Ring::Request&, int bytes) {
    return 1 + static_cast<int>((*random)() % static_cast<unsigned>(bytes));
  };
  Open({.entries = 4, .result = result}, TemporaryFile::Mode::kBuffered);
  WriteAndReadBack();
  EXPECT_GT(io_->stats().retries, 0u);
}

// Writes and prefetches have what they may have of the device, and wait for more: that holds up no
// demand read, and no prefetch that is waited for now.
TEST_F(RingIoTest, DemandReadsPassWhatWaitsWhileTheRingSleeps) {
  options_.bytes_in_flight_max = 2 * kBlock;
  std::atomic<bool> writes_may_end = false;
  Open({.writes_may_end = [&writes_may_end] { return writes_may_end.load(); }});
  TestOp writes[2];
  for (uint64_t index = 0; index < 2; ++index) {
    writes[index].Set(IoOp::Kind::kWrite, 0, index * kBlock, source_.span(index * kBlock, kBlock));
    writes[index].priority = IoPriority::kWrite;
    SubmitOne(*io_, writes[index]);
  }
  TestOp prefetch(IoOp::Kind::kRead, 0, 0, target_.span(0, kBlock));
  prefetch.priority = IoPriority::kPrefetch;
  SubmitOne(*io_, prefetch);
  for (size_t index = 1; index < 5; ++index) {
    TestOp read(IoOp::Kind::kRead, 0, index * kBlock, target_.span(index * kBlock, kBlock));
    SubmitOne(*io_, read);
    EXPECT_TRUE(read.Wait().ok());
  }
  EXPECT_EQ(prefetch.done_count(), 0);
  prefetch.Raise();
  io_->RegardRaised();
  EXPECT_TRUE(prefetch.Wait().ok());
  EXPECT_EQ(writes[0].done_count(), 0);
  writes_may_end = true;
  TestOp last(IoOp::Kind::kRead, 0, 0, target_.span(0, kBlock));
  SubmitOne(*io_, last);
  for (TestOp& write : writes) EXPECT_TRUE(write.Wait().ok());
  EXPECT_TRUE(last.Wait().ok());
}

// An op that, when it is done, asks for one more and notes how many the ring has had by then.
class AskingOp final : public IoOp {
 public:
  struct Asked {
    AsyncIo* io = nullptr;
    std::atomic<int> at_the_ring = 0;
    std::vector<int> seen;  // Of the ring's thread.
  };

  AskingOp(Asked& asked, IoOp& next, absl::Span<std::byte> memory) : asked_(asked), next_(next) {
    file = 0;
    pieces.push_back(IovecOf(memory));
  }
  void OnDone(absl::Status status) override {
    EXPECT_TRUE(status.ok()) << status;
    asked_.seen.push_back(asked_.at_the_ring);
    SubmitOne(*asked_.io, next_);
  }

 private:
  Asked& asked_;
  IoOp& next_;
};

// What eight ops that end together ask for goes to the device between two OnDone where a quarter of
// a MiB was done since it last did; small ones are done before.
TEST_F(RingIoTest, RefillsTheDeviceWhileManyLargeOpsAreDone) {
  for (const size_t op_bytes : {16 * kBlock, kBlock}) {
    AskingOp::Asked asked;
    Open({.result = [&asked](const Ring::Request&, int bytes) {
      ++asked.at_the_ring;
      return bytes;
    }});
    asked.io = io_.get();
    std::vector<std::unique_ptr<TestOp>> next;
    std::vector<std::unique_ptr<AskingOp>> ops;
    std::vector<IoOp*> batch;
    for (int index = 0; index < 8; ++index) {
      next.push_back(std::make_unique<TestOp>(IoOp::Kind::kRead, 0, 0, target_.span(0, op_bytes)));
      ops.push_back(std::make_unique<AskingOp>(asked, *next.back(), target_.span(0, op_bytes)));
      batch.push_back(ops.back().get());
    }
    io_->Submit(batch);
    for (const auto& op : next) EXPECT_TRUE(op->Wait().ok());
    io_->Drain();
    const bool large = op_bytes > kBlock;
    EXPECT_THAT(asked.seen, large ? ::testing::ElementsAre(8, 8, 8, 8, 12, 12, 12, 12)
                                  : ::testing::ElementsAre(8, 8, 8, 8, 8, 8, 8, 8));
    io_.reset();
  }
}

// Less than a block twice in a row would look like the end of the file.
TEST_F(RingIoTest, GoesOnAfterShortTransfersOfADirectFile) {
  const auto random = std::make_shared<std::mt19937>(2);
  Open({.result = [random](const Ring::Request&, int bytes) {
    const int least = std::min<int>(bytes, kBlock);
    return least + static_cast<int>((*random)() % static_cast<unsigned>(bytes - least + 1));
  }});
  WriteAndReadBack();
  EXPECT_GT(io_->stats().retries, 0u);
}

TEST_F(RingIoTest, AsksABusyKernelAgain) {
  const auto random = std::make_shared<std::mt19937>(3);
  Open({.result = [random](const Ring::Request&, int bytes) {
    constexpr int kErrors[] = {-EAGAIN, -EINTR, -EBUSY, -ENOMEM};
    const unsigned draw = static_cast<unsigned>((*random)() % 8);
    return draw < 4 ? kErrors[draw] : bytes;
  }});
  WriteAndReadBack();
  EXPECT_GT(io_->stats().retries, 0u);
}

TEST_F(RingIoTest, SubmitsAgainWhatWasNotTaken) {
  const auto random = std::make_shared<std::mt19937>(4);
  Open({.submit = [random] {
    constexpr int kErrors[] = {-EAGAIN, -EINTR, -EBUSY};
    const unsigned draw = static_cast<unsigned>((*random)() % 6);
    return draw < 3 ? kErrors[draw] : 0;
  }});
  WriteAndReadBack();
}

TEST_F(RingIoTest, IgnoresCompletionsItDoesNotWaitFor) {
  Open({.repeats = 3});
  WriteAndReadBack();
  EXPECT_EQ(io_->stats().unknown_completions, 2 * 32u);
}

TEST_F(RingIoTest, MoreBytesThanAskedForIsUnavailable) {
  Open({.result = [](const Ring::Request&, int bytes) { return bytes + 1; }});
  EXPECT_TRUE(absl::IsUnavailable(ReadFile(*io_, 0, 0, target_.span(0, kBlock))));
}

TEST_F(RingIoTest, AnErrorAmongManyHarmsNoOther) {
  Open({.result = [](const Ring::Request& request, int bytes) {
    return request.offset == 5 * kBlock ? -EIO : bytes;
  }});
  TestOp ops[64];
  std::vector<IoOp*> batch;
  for (size_t index = 0; index < 64; ++index) {
    ops[index].Set(IoOp::Kind::kRead, 0, index * kBlock, target_.span(index * kBlock, kBlock));
    batch.push_back(&ops[index]);
  }
  io_->Submit(batch);
  for (size_t index = 0; index < 64; ++index) {
    const absl::Status status = ops[index].Wait();
    EXPECT_EQ(status.code(), index == 5 ? absl::StatusCode::kDataLoss : absl::StatusCode::kOk);
  }
}

TEST_F(RingIoTest, FailsWhatARingThatBreaksHasNotTaken) {
  const auto submits = std::make_shared<int>(0);
  Open({.submit = [submits] { return ++*submits > 4 ? -EPERM : 0; }});
  std::vector<absl::StatusCode> codes;
  codes.reserve(8);
  for (int op = 0; op < 8; ++op) {
    codes.push_back(ReadFile(*io_, 0, 0, target_.span(0, kBlock)).code());
  }
  // All that came before the breakdown, none after.
  EXPECT_TRUE(std::is_sorted(codes.begin(), codes.end()));
  EXPECT_EQ(codes.back(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(lines_.size(), 1u);
  EXPECT_THAT(lines_[0], ::testing::HasSubstr("every I/O fails from here on: io_uring_enter"));
  EXPECT_TRUE(io_->AddFile(temporary_->fd()).ok());
  io_.reset();
}

}  // namespace
}  // namespace cairn
