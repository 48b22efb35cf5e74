#include "io/io_result.h"

#include <cerrno>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/io_fixture.h"

namespace cairn {
namespace {

using Next = IoTransfer::Next;
using ::testing::HasSubstr;

constexpr IoFiles::File kBuffered = {.fd = 3, .direct = false};
constexpr IoFiles::File kDirect = {.fd = 3, .direct = true};
constexpr int64_t kNow = 1'000'000'000;

class IoResultTest : public ::testing::Test {
 protected:
  // 16 KiB of file 7 at offset 8192, in pieces of 4, 8 and 4 KiB.
  void Begin(IoOp::Kind kind) {
    op_.Set(kind, 7, 8192, {});
    op_.pieces = {IovecOf(buffer_.span(0, 4096)), IovecOf(buffer_.span(8192, 8192)),
                  IovecOf(buffer_.span(20480, 4096))};
    IoTransfer::Begin(op_, 0);
  }
  absl::Status Error(IoOp::Kind kind, int error) {
    Begin(kind);
    return IoTransfer::Apply(op_, kDirect, -error, kNow).status;
  }

  AlignedBuffer buffer_{32768};
  TestOp op_;
};

TEST_F(IoResultTest, AllBytesAreDone) {
  Begin(IoOp::Kind::kRead);
  const auto verdict = IoTransfer::Apply(op_, kDirect, 16384, kNow);
  EXPECT_EQ(verdict.next, Next::kDone);
  EXPECT_TRUE(verdict.status.ok());
}

TEST_F(IoResultTest, AShortTransferGoesOnWhereItStopped) {
  Begin(IoOp::Kind::kRead);
  EXPECT_EQ(IoTransfer::Rest(op_).size(), 3u);
  EXPECT_EQ(IoTransfer::RestOffset(op_), 8192u);
  ASSERT_EQ(IoTransfer::Apply(op_, kBuffered, 5000, kNow).next, Next::kContinue);
  EXPECT_EQ(IoTransfer::RestOffset(op_), 8192u + 5000);
  const auto rest = IoTransfer::Rest(op_);
  ASSERT_EQ(rest.size(), 2u);
  EXPECT_EQ(rest[0].iov_base, buffer_.data() + 8192 + 904);
  EXPECT_EQ(rest[0].iov_len, 8192u - 904);
  EXPECT_EQ(rest[1].iov_base, buffer_.data() + 20480);
  ASSERT_EQ(IoTransfer::Apply(op_, kBuffered, 7288, kNow).next, Next::kContinue);
  ASSERT_EQ(IoTransfer::Rest(op_).size(), 1u);
  const auto last = IoTransfer::Apply(op_, kBuffered, 4096, kNow);
  EXPECT_EQ(last.next, Next::kDone);
  EXPECT_TRUE(last.status.ok());
}

TEST_F(IoResultTest, AShortTransferOfADirectFileIsCutToWholeBlocks) {
  Begin(IoOp::Kind::kWrite);
  ASSERT_EQ(IoTransfer::Apply(op_, kDirect, 512, kNow).next, Next::kContinue);
  EXPECT_EQ(IoTransfer::RestOffset(op_), 8192u);
  EXPECT_EQ(IoTransfer::Rest(op_).size(), 3u);
  ASSERT_EQ(IoTransfer::Apply(op_, kDirect, 8192 + 512, kNow).next, Next::kContinue);
  EXPECT_EQ(IoTransfer::RestOffset(op_), 8192u + 8192);
  const auto rest = IoTransfer::Rest(op_);
  ASSERT_EQ(rest.size(), 2u);
  EXPECT_EQ(rest[0].iov_base, buffer_.data() + 8192 + 4096);
  EXPECT_EQ(IoTransfer::Apply(op_, kDirect, 8192, kNow).next, Next::kDone);
}

TEST_F(IoResultTest, AReadThatComesNoFurtherMetTheEndOfTheFile) {
  for (const IoFiles::File& file : {kBuffered, kDirect}) {
    Begin(IoOp::Kind::kRead);
    ASSERT_EQ(IoTransfer::Apply(op_, file, 4196, kNow).next, Next::kContinue);
    const auto verdict = IoTransfer::Apply(op_, file, file.direct ? 100 : 0, kNow);
    EXPECT_EQ(verdict.next, Next::kDone);
    EXPECT_TRUE(absl::IsDataLoss(verdict.status));
    EXPECT_THAT(std::string(verdict.status.message()), HasSubstr("ends at offset 12388"));
  }
  Begin(IoOp::Kind::kRead);
  const auto verdict = IoTransfer::Apply(op_, kDirect, 0, kNow);
  EXPECT_TRUE(absl::IsDataLoss(verdict.status));
  EXPECT_THAT(std::string(verdict.status.message()), HasSubstr("at or before offset 8192"));
}

TEST_F(IoResultTest, AWriteThatGetsNowhereIsUnavailable) {
  Begin(IoOp::Kind::kWrite);
  EXPECT_TRUE(absl::IsUnavailable(IoTransfer::Apply(op_, kDirect, 0, kNow).status));
}

TEST_F(IoResultTest, MoreBytesThanAskedForIsUnavailable) {
  Begin(IoOp::Kind::kRead);
  EXPECT_TRUE(absl::IsUnavailable(IoTransfer::Apply(op_, kDirect, 16385, kNow).status));
  op_.Set(IoOp::Kind::kSync, 7, 0, {});
  IoTransfer::Begin(op_, 0);
  EXPECT_TRUE(absl::IsUnavailable(IoTransfer::Apply(op_, kDirect, 1, kNow).status));
  IoTransfer::Begin(op_, 0);
  EXPECT_TRUE(IoTransfer::Apply(op_, kDirect, 0, kNow).status.ok());
}

TEST_F(IoResultTest, ErrorsHaveTheCodeThatTheCallerActsOn) {
  EXPECT_TRUE(absl::IsDataLoss(Error(IoOp::Kind::kRead, EIO)));
  EXPECT_TRUE(absl::IsDataLoss(Error(IoOp::Kind::kRead, ENODATA)));
  EXPECT_TRUE(absl::IsUnavailable(Error(IoOp::Kind::kRead, EBADF)));
  EXPECT_TRUE(absl::IsUnavailable(Error(IoOp::Kind::kWrite, EIO)));
  EXPECT_TRUE(absl::IsUnavailable(Error(IoOp::Kind::kWrite, EROFS)));
  EXPECT_TRUE(absl::IsResourceExhausted(Error(IoOp::Kind::kWrite, ENOSPC)));
  EXPECT_TRUE(absl::IsResourceExhausted(Error(IoOp::Kind::kWrite, EDQUOT)));
  EXPECT_TRUE(absl::IsUnavailable(Error(IoOp::Kind::kSync, EIO)));
  EXPECT_TRUE(absl::IsResourceExhausted(Error(IoOp::Kind::kSync, ENOSPC)));
  EXPECT_EQ(Error(IoOp::Kind::kRead, EIO).message(),
            "read of file 7 at offset 8192, 16384 bytes: Input/output error (errno 5)");
  EXPECT_EQ(Error(IoOp::Kind::kSync, EIO).message(),
            "sync of file 7: Input/output error (errno 5)");
}

TEST_F(IoResultTest, ABusyKernelIsAskedAgainForTwoSeconds) {
  for (const int error : {EAGAIN, EINTR, EBUSY, ENOMEM}) {
    Begin(IoOp::Kind::kWrite);
    int64_t now = kNow;
    int retries = 0;
    IoTransfer::Verdict verdict = IoTransfer::Apply(op_, kDirect, -error, now);
    while (verdict.next == Next::kRetry) {
      ASSERT_GT(verdict.delay_us, 0);
      now += verdict.delay_us;
      ++retries;
      verdict = IoTransfer::Apply(op_, kDirect, -error, now);
    }
    EXPECT_TRUE(absl::IsUnavailable(verdict.status)) << verdict.status;
    EXPECT_GE(now - kNow, IoTransfer::kRetryUsMax);
    EXPECT_LT(now - kNow, IoTransfer::kRetryUsMax + 100'000);
    EXPECT_GT(retries, 10);
    EXPECT_LT(retries, 100);
  }
}

TEST_F(IoResultTest, ProgressStartsThePatienceAnew) {
  Begin(IoOp::Kind::kRead);
  ASSERT_EQ(IoTransfer::Apply(op_, kDirect, -EAGAIN, kNow).next, Next::kRetry);
  const int64_t late = kNow + IoTransfer::kRetryUsMax - 1;
  ASSERT_EQ(IoTransfer::Apply(op_, kDirect, 4096, late).next, Next::kContinue);
  ASSERT_EQ(IoTransfer::Apply(op_, kDirect, -EAGAIN, late + 2).next, Next::kRetry);
}

TEST_F(IoResultTest, ASecondSubmitStartsFromTheBeginning) {
  Begin(IoOp::Kind::kRead);
  ASSERT_EQ(IoTransfer::Apply(op_, kDirect, 8192, kNow).next, Next::kContinue);
  IoTransfer::Begin(op_, 0);
  EXPECT_EQ(IoTransfer::RestOffset(op_), 8192u);
  EXPECT_EQ(IoTransfer::Rest(op_).size(), 3u);
}

TEST_F(IoResultTest, AClosingEngineRefuses) {
  Begin(IoOp::Kind::kRead);
  EXPECT_TRUE(IoTransfer::Check(op_, &kDirect).ok());
  IoTransfer::Refuse(op_);
  EXPECT_TRUE(absl::IsUnavailable(IoTransfer::Check(op_, &kDirect)));
}

TEST(IoCountersTest, CountsByKind) {
  IoCounters counters;
  counters.CountDone(IoOp::Kind::kRead, 10);
  counters.CountDone(IoOp::Kind::kWrite, 20);
  counters.CountDone(IoOp::Kind::kWrite, 30);
  counters.CountDone(IoOp::Kind::kSync, 0);
  counters.CountRetry();
  counters.CountUnknown();
  const IoStats stats = counters.Read();
  EXPECT_EQ(stats.reads, 1u);
  EXPECT_EQ(stats.writes, 2u);
  EXPECT_EQ(stats.syncs, 1u);
  EXPECT_EQ(stats.bytes_read, 10u);
  EXPECT_EQ(stats.bytes_written, 50u);
  EXPECT_EQ(stats.retries, 1u);
  EXPECT_EQ(stats.unknown_completions, 1u);
}

}  // namespace
}  // namespace cairn
