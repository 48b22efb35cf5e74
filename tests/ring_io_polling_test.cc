// What RingIo does where it is to poll: over scripted rings, which refuse as kernels and drives do.

#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "io/ring_io.h"
#include "tests/ring_io_fixture.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Request = Ring::Request;
using Script = ScriptedRing::Script;

class RingIoPollingTest : public RingIoTest {
 protected:
  // Counts the requests of a ring; an errno for each one, or none.
  static Script Counting(std::atomic<int>& requests, int error = 0) {
    return {.result = [&requests, error](const Request&, int bytes) {
      ++requests;
      return error == 0 ? bytes : -error;
    }};
  }

  std::atomic<int> ordinary_ = 0;
  std::atomic<int> polled_ = 0;
};

TEST_F(RingIoPollingTest, SubmissionsArePolledForAsLongAsTheOptionSays) {
  options_.submission_polling = absl::Microseconds(1500);
  std::vector<uint32_t> idle_ms;
  Open({.open = [&](const Ring::Setup& setup) {
    idle_ms.push_back(setup.submission_idle_ms);
    return absl::OkStatus();
  }});
  WriteAndReadBack();
  EXPECT_THAT(idle_ms, ElementsAre(2));
  EXPECT_TRUE(io_->polling().submissions);
  EXPECT_EQ(io_->polling().refusal, "");
  EXPECT_EQ(io_->stats().polling_refusals, 0u);
}

TEST_F(RingIoPollingTest, AKernelThatPollsForNoSubmissionsGetsAnOrdinaryRing) {
  options_.submission_polling = absl::Milliseconds(10);
  Open({.open = [](const Ring::Setup& setup) {
    return setup.submission_idle_ms == 0 ? absl::OkStatus() : absl::UnavailableError("forbidden");
  }});
  WriteAndReadBack();
  EXPECT_FALSE(io_->polling().submissions);
  EXPECT_EQ(io_->polling().refusal, "forbidden");
  EXPECT_EQ(io_->stats().polling_refusals, 1u);
  EXPECT_THAT(lines_, ElementsAre("io_uring: forbidden"));
}

TEST_F(RingIoPollingTest, ARingThatIsRefusedAltogetherSaysWhyOfTheOrdinaryOne) {
  options_.submission_polling = absl::Milliseconds(10);
  const auto open = [](const Ring::Setup& setup) {
    return absl::UnavailableError(setup.submission_idle_ms == 0 ? "no ring" : "no polling");
  };
  const auto io =
      RingIo::Open(options_, std::make_unique<ScriptedRing>(Script{.open = open}, file_));
  EXPECT_EQ(io.status(), absl::UnavailableError("no ring"));
}

TEST_F(RingIoPollingTest, ReadsAndWritesOfDirectFilesGoOverThePolledRing) {
  Open(Counting(ordinary_), Counting(polled_));
  ASSERT_TRUE(temporary_->is_direct());
  EXPECT_FALSE(io_->polling().completions);  // Nothing has shown it yet.
  WriteAndReadBack();
  TestOp sync(IoOp::Kind::kSync, 0, 0, {});
  EXPECT_TRUE(Carry(*io_, sync).ok());
  EXPECT_EQ(polled_, 32);
  EXPECT_EQ(ordinary_, 1);
  EXPECT_TRUE(io_->polling().completions);
  EXPECT_EQ(io_->polling().refusal, "");
  io_->RemoveFile(0);
  EXPECT_FALSE(io_->polling().completions);
}

TEST_F(RingIoPollingTest, APolledRingThatIsRefusedIsDoneWithout) {
  Open(Counting(ordinary_), Script{.open = [](const Ring::Setup& setup) {
         EXPECT_TRUE(setup.polls_completions);
         return absl::UnavailableError("too old");
       }});
  WriteAndReadBack();
  EXPECT_EQ(ordinary_, 32);
  EXPECT_FALSE(io_->polling().completions);
  EXPECT_EQ(io_->polling().refusal, "too old");
  EXPECT_EQ(io_->stats().polling_refusals, 1u);
}

TEST_F(RingIoPollingTest, RefusedRequestsAreCarriedOutOnTheOtherRingAndTheFileStaysThere) {
  for (const int error : {EOPNOTSUPP, EINVAL}) {
    ordinary_ = 0;
    polled_ = 0;
    lines_.clear();
    Open(Counting(ordinary_), Counting(polled_, error));
    WriteAndReadBack();
    // What was on its way when the first was refused, at most.
    EXPECT_GE(polled_, 1);
    EXPECT_LE(polled_, 16);
    EXPECT_EQ(ordinary_, 32);
    EXPECT_EQ(io_->stats().polling_refusals, static_cast<uint64_t>(polled_));
    EXPECT_EQ(io_->stats().retries, 0u);
    EXPECT_FALSE(io_->polling().completions);
    EXPECT_THAT(io_->polling().refusal, HasSubstr("the drive has no queues for it"));
    EXPECT_EQ(lines_.size(), 1u);
  }
}

TEST_F(RingIoPollingTest, ARefusalInTheMiddleLosesNothing) {
  options_.depth_max = 4;
  const auto refuse_later = [this](const Request&, int bytes) {
    return ++polled_ > 7 ? -EOPNOTSUPP : bytes;
  };
  Open(Counting(ordinary_), Script{.result = refuse_later});
  WriteAndReadBack();
  EXPECT_EQ(ordinary_, 32 - 7);
}

TEST_F(RingIoPollingTest, AFileThatIsRefusedLeavesOthersPolled) {
  const auto refuse_first = [this](const Request& request, int bytes) {
    ++polled_;
    return request.fd == temporary_->fd() ? -EOPNOTSUPP : bytes;
  };
  Open(Counting(ordinary_), Script{.result = refuse_first});
  const TemporaryFile other(TemporaryFile::Mode::kDirect, 0);
  ASSERT_EQ(*io_->AddFile(other.fd()), 1);
  for (int round = 0; round < 3; ++round) {
    for (const int file : {0, 1}) {
      EXPECT_TRUE(ReadFile(*io_, file, 0, target_.span(0, kBlock)).ok());
    }
  }
  EXPECT_EQ(polled_, 1 + 3);
  EXPECT_EQ(ordinary_, 3);
  EXPECT_TRUE(io_->polling().completions);
}

TEST_F(RingIoPollingTest, AFileThatIsNotDirectIsNotPolledFor) {
  Open(Counting(ordinary_), Counting(polled_), TemporaryFile::Mode::kBuffered);
  WriteAndReadBack();
  EXPECT_EQ(polled_, 0);
  EXPECT_EQ(ordinary_, 32);
  EXPECT_FALSE(io_->polling().completions);
  EXPECT_EQ(io_->stats().polling_refusals, 1u);
}

TEST_F(RingIoPollingTest, WhatBothRingsRefuseFails) {
  Open(Counting(ordinary_, EINVAL), Counting(polled_, EINVAL));
  const absl::Status status = ReadFile(*io_, 0, 0, target_.span(0, kBlock));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(ordinary_, 1);
  EXPECT_EQ(polled_, 1);
}

// The thread that polls sees what comes meanwhile, on either ring.
TEST_F(RingIoPollingTest, WhatIsUnderWayOnThePolledRingHoldsNothingElseUp) {
  std::atomic<bool> writes_may_end = false;
  Script polled = Counting(polled_);
  polled.writes_may_end = [&writes_may_end] { return writes_may_end.load(); };
  Open(Counting(ordinary_), polled);
  TestOp write(IoOp::Kind::kWrite, 0, 0, source_.span(0, kBlock));
  SubmitOne(*io_, write);
  for (size_t index = 1; index < 5; ++index) {
    EXPECT_TRUE(ReadFile(*io_, 0, index * kBlock, target_.span(0, kBlock)).ok());
    TestOp sync(IoOp::Kind::kSync, 0, 0, {});
    EXPECT_TRUE(Carry(*io_, sync).ok());
  }
  EXPECT_EQ(write.done_count(), 0);
  writes_may_end = true;
  EXPECT_TRUE(write.Wait().ok());  // Nobody submits any more: it is asked for.
  EXPECT_EQ(ordinary_, 4);
}

TEST_F(RingIoPollingTest, AskedAgainByABusyKernel) {
  int call = 0;
  Script polled = Counting(polled_);
  polled.submit = [&call] {
    constexpr int kErrors[] = {-EAGAIN, 0, -EINTR, 0, -EBUSY};
    return kErrors[++call % 5];
  };
  Open(Counting(ordinary_), polled);
  WriteAndReadBack();
  EXPECT_EQ(polled_, 32);
}

TEST_F(RingIoPollingTest, FailsWhatAPolledRingThatBreaksHasNotTaken) {
  int call = 0;
  Script polled = Counting(polled_);
  polled.submit = [&call] { return ++call > 4 ? -EPERM : 0; };
  Open(Counting(ordinary_), polled);
  absl::Status last;
  for (int op = 0; op < 8; ++op) last = ReadFile(*io_, 0, 0, target_.span(0, kBlock));
  EXPECT_TRUE(absl::IsUnavailable(last)) << last;
  EXPECT_LE(polled_, 4);
  io_.reset();
}

}  // namespace
}  // namespace cairn
