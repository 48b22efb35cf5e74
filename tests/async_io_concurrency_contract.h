#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "io/async_io.h"
#include "tests/async_io_contract.h"
#include "tests/io_fixture.h"

// The part of the contract that is about order, threads and what OnDone may do.

namespace cairn {

class GateOp final : public TestOp {
 public:
  explicit GateOp(Gate& gate) : gate_(gate) {}
  void OnDone(absl::Status status) override {
    gate_.Pass();
    TestOp::OnDone(std::move(status));
  }

 private:
  Gate& gate_;
};

class OrderedOp final : public IoOp {
 public:
  explicit OrderedOp(std::vector<IoPriority>& order) : order_(order) {}
  // One at a time: the test has one op in flight.
  void OnDone(absl::Status) override { order_.push_back(priority); }

 private:
  std::vector<IoPriority>& order_;
};

TEST_P(AsyncIoContract, TakesTheMoreUrgentFirst) {
  Open({.depth_max = 1, .threads = 1});
  TemporaryFile temporary(TemporaryFile::Mode::kBuffered, 16 * kBlock);
  const int file = Add(temporary);
  AlignedBuffer buffer(16 * kBlock);
  Gate gate;
  GateOp first(gate);
  first.Set(Kind::kRead, file, 0, buffer.span(0, kBlock));
  SubmitOne(*io_, first);
  gate.WaitForArrival();

  std::vector<IoPriority> order;
  std::vector<std::unique_ptr<OrderedOp>> ops;
  std::vector<IoOp*> batch;
  for (size_t index = 0; index < 16; ++index) {
    auto op = std::make_unique<OrderedOp>(order);
    op->priority = static_cast<IoPriority>(3 - index % 4);
    op->kind = op->priority == IoPriority::kWrite ? Kind::kWrite : Kind::kRead;
    op->file = file;
    op->offset = index * kBlock;
    op->pieces.push_back(IovecOf(buffer.span(index * kBlock, kBlock)));
    batch.push_back(op.get());
    ops.push_back(std::move(op));
  }
  io_->Submit(batch);
  gate.Open();
  io_->Drain();
  ASSERT_EQ(order.size(), 16u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

class ChainOp final : public TestOp {
 public:
  ChainOp(AsyncIo& io, int links) : io_(io), links_(links) {}
  void OnDone(absl::Status status) override {
    if (!status.ok() || --links_ == 0) return TestOp::OnDone(std::move(status));
    IoOp* const ops[] = {this};
    io_.Submit(ops);
  }

 private:
  AsyncIo& io_;
  int links_;
};

TEST_P(AsyncIoContract, OnDoneMaySubmitItsOwnOp) {
  constexpr int kLinks = 200;
  TemporaryFile temporary(TemporaryFile::Mode::kDirect, kBlock);
  const int file = Add(temporary);
  AlignedBuffer buffer(kBlock);
  ChainOp chain(*io_, kLinks);
  chain.Set(Kind::kWrite, file, 0, buffer.span());
  SubmitOne(*io_, chain);
  EXPECT_TRUE(chain.Wait().ok());
  EXPECT_EQ(io_->stats().writes, static_cast<uint64_t>(kLinks));
}

// Owns itself; begets two more until the depth is reached.
class TreeOp final : public IoOp {
 public:
  TreeOp(AsyncIo& io, int depth, std::atomic<int>& done, absl::Span<std::byte> memory)
      : io_(io), depth_(depth), done_(done), memory_(memory) {
    pieces.push_back(IovecOf(memory));
    file = 0;
  }
  void OnDone(absl::Status status) override {
    EXPECT_TRUE(status.ok()) << status;
    if (depth_ > 0) {
      IoOp* const ops[] = {new TreeOp(io_, depth_ - 1, done_, memory_.first(memory_.size() / 2)),
                           new TreeOp(io_, depth_ - 1, done_, memory_.last(memory_.size() / 2))};
      io_.Submit(ops);
    }
    done_.fetch_add(1);
    delete this;
  }

 private:
  AsyncIo& io_;
  const int depth_;
  std::atomic<int>& done_;
  const absl::Span<std::byte> memory_;
};

TEST_P(AsyncIoContract, OnDoneMayDestroyItsOp) {
  constexpr int kDepth = 7;
  TemporaryFile temporary(TemporaryFile::Mode::kBuffered, (1 << kDepth) * kBlock);
  ASSERT_EQ(Add(temporary), 0);
  AlignedBuffer buffer((1 << kDepth) * kBlock);
  std::atomic<int> done = 0;
  SubmitOne(*io_, *new TreeOp(*io_, kDepth, done, buffer.span()));
  // A drain waits for one generation at least; what its ops submit comes after it.
  for (int generation = 0; generation <= kDepth; ++generation) io_->Drain();
  EXPECT_EQ(done.load(), (2 << kDepth) - 1);
}

class AddFileOp final : public TestOp {
 public:
  AddFileOp(AsyncIo& io, int fd) : io_(io), fd_(fd) {}
  void OnDone(absl::Status status) override {
    const absl::StatusOr<int> added = io_.AddFile(fd_);
    if (added.ok()) io_.RemoveFile(*added);
    TestOp::OnDone(added.ok() ? status : added.status());
  }

 private:
  AsyncIo& io_;
  const int fd_;
};

TEST_P(AsyncIoContract, OnDoneMayAddAndRemoveFiles) {
  TemporaryFile temporary(TemporaryFile::Mode::kBuffered, kBlock);
  AlignedBuffer buffer(kBlock);
  AddFileOp op(*io_, temporary.fd());
  op.Set(Kind::kRead, Add(temporary), 0, buffer.span());
  EXPECT_TRUE(Carry(*io_, op).ok());
}

TEST_P(AsyncIoContract, DrainEndsWhileOthersGoOnSubmitting) {
  TemporaryFile temporary(TemporaryFile::Mode::kBuffered, 64 * kBlock);
  const int file = Add(temporary);
  std::atomic<bool> stop = false;
  std::vector<std::jthread> others;
  others.reserve(2);
  for (int thread = 0; thread < 2; ++thread) {
    others.emplace_back([&] {
      AlignedBuffer buffer(8 * kBlock);
      TestOp ops[8];
      while (!stop.load()) {
        for (size_t index = 0; index < 8; ++index) {
          ops[index].Set(Kind::kRead, file, index * kBlock, buffer.span(index * kBlock, kBlock));
        }
        const int rounds = ops[0].done_count() + 1;
        for (TestOp& op : ops) SubmitOne(*io_, op);
        for (TestOp& op : ops) EXPECT_TRUE(op.Wait(rounds).ok());
      }
    });
  }
  std::vector<std::jthread> drainers;
  drainers.reserve(2);
  for (int thread = 0; thread < 2; ++thread) {
    drainers.emplace_back([&] {
      AlignedBuffer buffer(4 * kBlock);
      for (int round = 0; round < 50; ++round) {
        TestOp ops[4];
        for (size_t index = 0; index < 4; ++index) {
          ops[index].Set(Kind::kRead, file, 0, buffer.span(index * kBlock, kBlock));
          SubmitOne(*io_, ops[index]);
        }
        io_->Drain();
        for (TestOp& op : ops) EXPECT_EQ(op.done_count(), 1);
      }
    });
  }
  drainers.clear();
  stop.store(true);
}

// One thread's part of a file, in cells that it writes and reads as a whole.
inline void WorkOnCells(AsyncIo& io, int file, uint64_t base, uint64_t seed) {
  constexpr size_t kCells = 8;
  constexpr size_t kCellBytes = 8 * kTestBlockBytes;
  std::mt19937_64 random(seed);
  AlignedBuffer model(kCells * kCellBytes);
  AlignedBuffer buffer(kCells * kCellBytes);
  for (int step = 0; step < 40; ++step) {
    TestOp ops[kCells];
    std::vector<IoOp*> batch;
    for (size_t cell = 0; cell < kCells; ++cell) {
      if (random() % 4 == 0) continue;
      const absl::Span<std::byte> bytes = buffer.span(cell * kCellBytes, kCellBytes);
      const bool write = random() % 2 == 0;
      FillPattern(bytes, write ? random() : 0);
      ops[cell].Set(write ? IoOp::Kind::kWrite : IoOp::Kind::kRead, file, base + cell * kCellBytes,
                    {});
      ops[cell].pieces = RandomPieces(bytes, 1 + random() % 3, random);
      ops[cell].priority = static_cast<IoPriority>(random() % kIoPriorityCount);
      if (write) std::copy(bytes.begin(), bytes.end(), model.data() + cell * kCellBytes);
      batch.push_back(&ops[cell]);
    }
    const size_t half = batch.size() / 2;
    io.Submit(absl::MakeConstSpan(batch).first(half));
    io.Submit(absl::MakeConstSpan(batch).subspan(half));
    if (random() % 8 == 0) io.Drain();
    for (size_t cell = 0; cell < kCells; ++cell) {
      if (ops[cell].pieces.empty()) continue;
      ASSERT_TRUE(ops[cell].Wait().ok()) << ops[cell].Wait();
      ASSERT_TRUE(buffer.span(cell * kCellBytes, kCellBytes) ==
                  model.span(cell * kCellBytes, kCellBytes))
          << "step " << step << " cell " << cell;
    }
  }
}

inline void ManyThreadsOnOneFile(AsyncIo& io, int threads) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  const uint64_t bytes = 64 * kTestBlockBytes;
  TemporaryFile temporary(TemporaryFile::Mode::kDirect, threads * bytes);
  const int file = *io.AddFile(temporary.fd());
  {
    std::vector<std::jthread> workers;
    workers.reserve(static_cast<size_t>(threads));
    for (int thread = 0; thread < threads; ++thread) {
      workers.emplace_back([&, thread] { WorkOnCells(io, file, thread * bytes, seed + thread); });
    }
  }
  EXPECT_EQ(io.stats().unknown_completions, 0u);
}

TEST_P(AsyncIoContract, EightThreadsOfRandomOpsKeepTheirContent) { ManyThreadsOnOneFile(*io_, 8); }

TEST_P(AsyncIoContract, ManyThreadsShareATinyRing) {
  Open({.depth_max = 4, .threads = 2});
  ManyThreadsOnOneFile(*io_, 32);
}

TEST_P(AsyncIoContract, DestructorCompletesEverythingSubmitted) {
  constexpr size_t kOps = 256;
  Open({.depth_max = 2, .threads = 2});
  TemporaryFile temporary(TemporaryFile::Mode::kDirect, kOps * kBlock);
  const int file = Add(temporary);
  AlignedBuffer buffer(kOps * kBlock);
  std::vector<TestOp> ops(kOps);
  std::vector<IoOp*> batch;
  for (size_t index = 0; index < kOps; ++index) {
    ops[index].Set(Kind::kWrite, file, index * kBlock, buffer.span(index * kBlock, kBlock));
    batch.push_back(&ops[index]);
  }
  io_->Submit(batch);
  io_.reset();
  for (TestOp& op : ops) {
    EXPECT_EQ(op.done_count(), 1);
    EXPECT_TRUE(op.Wait().ok());
  }
}

TEST_P(AsyncIoContract, WhatOnDoneSubmitsToAClosingEngineIsRefused) {
  TemporaryFile temporary(TemporaryFile::Mode::kBuffered, kBlock);
  const int file = Add(temporary);
  AlignedBuffer buffer(kBlock);
  ChainOp chain(*io_, 1 << 30);
  chain.Set(Kind::kWrite, file, 0, buffer.span());
  SubmitOne(*io_, chain);
  io_.reset();
  EXPECT_EQ(chain.done_count(), 1);
  EXPECT_TRUE(absl::IsUnavailable(chain.Wait()));
}

}  // namespace cairn
