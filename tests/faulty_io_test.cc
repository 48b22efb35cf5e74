#include "tests/faulty_io.h"

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/async_io_concurrency_contract.h"
#include "tests/async_io_contract.h"
#include "tests/io_fixture.h"
#include "tests/manual_io.h"

namespace cairn {
namespace {

using Fault = FaultyIo::Fault;
using Kind = FaultyIo::Kind;

constexpr size_t kBlock = kTestBlockBytes;
constexpr size_t kBlocks = 16;

// Without faults, or with nothing worse than delays, it is as good as the engine inside.
AsyncIoParam Decorated(std::string name, const FaultyIo::Plan& plan) {
  return {.name = std::move(name), .open = [plan](const AsyncIo::Options& options) {
            auto inner = AsyncIo::Open(options);
            using Result = absl::StatusOr<std::unique_ptr<AsyncIo>>;
            if (!inner.ok()) return inner;
            return Result(std::make_unique<FaultyIo>(*std::move(inner), plan));
          }};
}

AsyncIoParam Manual() {
  return {.name = "ManualReleased", .open = [](const AsyncIo::Options& options) {
            auto inner = AsyncIo::Open(options);
            using Result = absl::StatusOr<std::unique_ptr<AsyncIo>>;
            if (!inner.ok()) return inner;
            auto io = std::make_unique<ManualIo>(*std::move(inner));
            io->Release();
            return Result(std::move(io));
          }};
}

INSTANTIATE_TEST_SUITE_P(Faulty, AsyncIoContract,
                         ::testing::Values(Decorated("Sound", nullptr), Manual()),
                         [](const auto& engine) { return engine.param.name; });

class FaultyIoTest : public ::testing::Test {
 protected:
  void SetUp() override {
    io_ = std::make_unique<FaultyIo>(*AsyncIo::Open({}));
    file_ = *io_->AddFile(temporary_.fd());
    FillPattern(old_.span(), 1);
    FillPattern(new_.span(), 2);
    ASSERT_TRUE(WriteFile(*io_, file_, 0, old_.span()).ok());
  }

  void Plan(const Fault& fault) {
    io_->SetPlan([fault](const IoOp&, uint64_t) { return fault; });
  }
  // What is in the file in truth: per block, whether it is the old one, the new one or neither.
  std::string Blocks() {
    io_->SetPlan(nullptr);
    EXPECT_TRUE(ReadFile(*io_, file_, 0, read_.span()).ok());
    std::string blocks;
    for (size_t index = 0; index < kBlocks; ++index) {
      const auto block = [&](AlignedBuffer& from) { return from.span(index * kBlock, kBlock); };
      blocks += block(read_) == block(old_) ? 'o' : block(read_) == block(new_) ? 'n' : '?';
    }
    return blocks;
  }

  TemporaryFile temporary_{TemporaryFile::Mode::kDirect, kBlocks* kBlock};
  AlignedBuffer old_{kBlocks * kBlock};
  AlignedBuffer new_{kBlocks * kBlock};
  AlignedBuffer read_{kBlocks * kBlock};
  std::unique_ptr<FaultyIo> io_;
  int file_ = -1;
};

TEST_F(FaultyIoTest, Fails) {
  Plan({.kind = Kind::kFail});
  EXPECT_TRUE(absl::IsUnavailable(WriteFile(*io_, file_, 0, new_.span())));
  EXPECT_TRUE(absl::IsDataLoss(ReadFile(*io_, file_, 0, read_.span())));
  TestOp sync(IoOp::Kind::kSync, file_, 0, {});
  EXPECT_TRUE(absl::IsUnavailable(Carry(*io_, sync)));
  Plan({.kind = Kind::kFail, .status = absl::ResourceExhaustedError("full")});
  EXPECT_TRUE(absl::IsResourceExhausted(WriteFile(*io_, file_, 0, new_.span())));
  EXPECT_EQ(Blocks(), "oooooooooooooooo");
  EXPECT_EQ(io_->fault_count(), 4u);
}

TEST_F(FaultyIoTest, EndsShort) {
  Plan({.kind = Kind::kShort, .where = 3 * kBlock + 100});
  EXPECT_TRUE(absl::IsUnavailable(WriteFile(*io_, file_, 0, new_.span())));
  EXPECT_EQ(Blocks(), "nnnooooooooooooo");
}

TEST_F(FaultyIoTest, Tears) {
  Plan({.kind = Kind::kTear, .where = 0b1000'0000'1101});
  EXPECT_TRUE(WriteFile(*io_, file_, 0, new_.span()).ok());
  EXPECT_EQ(Blocks(), "nonnooooooonoooo");
  Plan({.kind = Kind::kTear, .where = 2, .status = absl::UnavailableError("torn")});
  TestOp scattered(IoOp::Kind::kWrite, file_, 0, {});
  scattered.pieces = {IovecOf(new_.span(0, kBlock)), IovecOf(new_.span(kBlock, 2 * kBlock))};
  EXPECT_TRUE(absl::IsUnavailable(Carry(*io_, scattered)));
  EXPECT_EQ(Blocks(), "nnnnooooooonoooo");
}

TEST_F(FaultyIoTest, DropsWithoutAWord) {
  Plan({.kind = Kind::kDrop});
  EXPECT_TRUE(WriteFile(*io_, file_, 0, new_.span()).ok());
  TestOp sync(IoOp::Kind::kSync, file_, 0, {});
  EXPECT_TRUE(Carry(*io_, sync).ok());
  EXPECT_EQ(Blocks(), "oooooooooooooooo");
}

TEST_F(FaultyIoTest, FlipsOneBitOfARead) {
  Plan({.kind = Kind::kFlipBit, .where = 5 * kBlock * 8 + 19});
  TestOp read(IoOp::Kind::kRead, file_, 0, {});
  read.pieces = {IovecOf(read_.span(0, kBlock)), IovecOf(read_.span(kBlock, 15 * kBlock))};
  EXPECT_TRUE(Carry(*io_, read).ok());
  read_.data()[5 * kBlock + 2] ^= std::byte{8};
  EXPECT_TRUE(read_.span() == old_.span());
  EXPECT_EQ(Blocks(), "oooooooooooooooo");
}

TEST_F(FaultyIoTest, Misdirects) {
  std::copy_n(new_.data(), kBlock, new_.data() + 4 * kBlock);
  Plan({.kind = Kind::kMisdirect, .where = 4 * kBlock});
  EXPECT_TRUE(WriteFile(*io_, file_, 0, new_.span(0, kBlock)).ok());
  EXPECT_EQ(Blocks(), "oooonooooooooooo");
}

TEST_F(FaultyIoTest, Delays) {
  Plan({.kind = Kind::kDelay, .delay = std::chrono::hours(1)});
  TestOp late(IoOp::Kind::kWrite, file_, 0, new_.span());
  late.pieces = {IovecOf(new_.span(0, kBlock))};
  IoOp* const ops[] = {&late};
  io_->Submit(ops);
  io_->SetPlan(nullptr);
  EXPECT_TRUE(WriteFile(*io_, file_, kBlock, new_.span(kBlock, kBlock)).ok());
  EXPECT_EQ(late.done_count(), 0);
  io_->EndDelays();
  io_->Drain();
  EXPECT_TRUE(late.Wait().ok());
  EXPECT_EQ(Blocks(), "nnoooooooooooooo");
}

TEST_F(FaultyIoTest, ARandomPlanIsGivenByItsSeed) {
  const std::vector<Kind> kinds = {Kind::kFail, Kind::kTear, Kind::kMisdirect, Kind::kDelay};
  TestOp op(IoOp::Kind::kWrite, file_, 8 * kBlock, new_.span());
  const auto draw = [&](uint64_t seed) {
    FaultyIo::Plan plan = FaultyIo::RandomPlan(seed, 0.25, kinds);
    std::vector<std::pair<Kind, uint64_t>> faults;
    for (uint64_t ordinal = 0; ordinal < 1000; ++ordinal) {
      const Fault fault = plan(op, ordinal);
      faults.emplace_back(fault.kind, fault.where);
    }
    return faults;
  };
  const auto faults = draw(1);
  EXPECT_EQ(faults, draw(1));
  EXPECT_NE(faults, draw(2));
  const auto sound = std::count(faults.begin(), faults.end(), std::pair(Kind::kNone, uint64_t{0}));
  EXPECT_GT(sound, 650);
  EXPECT_LT(sound, 850);
}

TEST_F(FaultyIoTest, EveryOpEndsUnderRandomFaults) {
  io_->SetPlan(FaultyIo::RandomPlan(7, 0.5,
                                    {Kind::kFail, Kind::kShort, Kind::kTear, Kind::kDrop,
                                     Kind::kFlipBit, Kind::kMisdirect, Kind::kDelay}));
  std::vector<TestOp> ops(200);
  std::vector<IoOp*> batch;
  AlignedBuffer memory(ops.size() * kBlock);
  for (size_t index = 0; index < ops.size(); ++index) {
    const auto kind = static_cast<IoOp::Kind>(index % 3);
    const auto bytes =
        kind == IoOp::Kind::kSync ? absl::Span<std::byte>() : memory.span(index * kBlock, kBlock);
    ops[index].Set(kind, file_, index % kBlocks * kBlock, bytes);
    batch.push_back(&ops[index]);
  }
  io_->Submit(batch);
  io_.reset();
  for (TestOp& op : ops) EXPECT_EQ(op.done_count(), 1);
}

class ManualIoTest : public ::testing::Test {
 protected:
  void SetUp() override {
    io_ = std::make_unique<ManualIo>(*AsyncIo::Open({}));
    file_ = *io_->AddFile(temporary_.fd());
    for (size_t index = 0; index < 4; ++index) {
      ops_[index].Set(IoOp::Kind::kWrite, file_, index * kBlock,
                      memory_.span(index * kBlock, kBlock));
      IoOp* const ops[] = {&ops_[index]};
      io_->Submit(ops);
    }
  }

  TemporaryFile temporary_{TemporaryFile::Mode::kDirect, kBlocks* kBlock};
  AlignedBuffer memory_{kBlocks * kBlock};
  TestOp ops_[4];
  std::unique_ptr<ManualIo> io_;
  int file_ = -1;
};

TEST_F(ManualIoTest, CompletesWhatItIsTold) {
  io_->WaitForPending(4);
  EXPECT_EQ(io_->pending(), 4u);
  EXPECT_EQ(&io_->op(2), &ops_[2]);
  io_->Complete(2, absl::DataLossError("bad sector"));
  EXPECT_TRUE(absl::IsDataLoss(ops_[2].Wait()));
  EXPECT_EQ(io_->stats().writes, 0u);
  EXPECT_EQ(&io_->op(2), &ops_[3]);
  io_->Complete(2);
  EXPECT_EQ(ops_[3].done_count(), 1);
  EXPECT_EQ(io_->stats().writes, 1u);
  EXPECT_EQ(ops_[0].done_count(), 0);
  io_->CompleteAll();
  EXPECT_EQ(io_->pending(), 0u);
  for (TestOp& op : ops_) EXPECT_EQ(op.done_count(), 1);
  io_->Drain();
}

TEST_F(ManualIoTest, CompletesByItselfOnceReleased) {
  std::jthread drainer([&] { io_->Drain(); });
  io_->Release();
  drainer.join();
  for (TestOp& op : ops_) EXPECT_TRUE(op.Wait().ok());
  EXPECT_TRUE(WriteFile(*io_, file_, 0, memory_.span()).ok());
}

TEST_F(ManualIoTest, LetsGoOfAllWhenTheTestEndsEarly) {
  using Result = ::testing::TestPartResult;
  io_->OnTestPartResult(Result(Result::kNonFatalFailure, "", 0, ""));
  EXPECT_EQ(io_->pending(), 4u);
  std::jthread waiter([&] { io_->WaitForPending(5); });
  io_->OnTestPartResult(Result(Result::kFatalFailure, "", 0, ""));
  waiter.join();
  for (TestOp& op : ops_) EXPECT_TRUE(op.Wait().ok());
}

TEST_F(ManualIoTest, CompletesTheRestWhenItGoes) {
  io_->Complete(0);
  io_.reset();
  for (TestOp& op : ops_) EXPECT_EQ(op.done_count(), 1);
}

}  // namespace
}  // namespace cairn
