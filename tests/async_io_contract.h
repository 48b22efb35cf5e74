#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "io/async_io.h"
#include "io/file.h"
#include "tests/io_fixture.h"

namespace cairn {

// What every AsyncIo does, engine or decorator, with one op or one batch at a time; with many
// threads and with OnDone at work: tests/async_io_concurrency_contract.h, which a test includes
// too. A test instantiates both with the engines it has.
struct AsyncIoParam {
  std::string name;
  std::function<absl::StatusOr<std::unique_ptr<AsyncIo>>(AsyncIo::Options)> open;
};

class AsyncIoContract : public ::testing::TestWithParam<AsyncIoParam> {
 protected:
  using Kind = IoOp::Kind;
  static constexpr size_t kBlock = kTestBlockBytes;

  void SetUp() override { Open({}); }
  void TearDown() override { io_.reset(); }

  // Skips the test where the kernel forbids the engine.
  void Open(const AsyncIo::Options& options) {
    io_.reset();
    absl::StatusOr<std::unique_ptr<AsyncIo>> io = GetParam().open(options);
    if (absl::IsUnavailable(io.status())) GTEST_SKIP() << io.status().message();
    ASSERT_TRUE(io.ok()) << io.status();
    io_ = *std::move(io);
  }

  int Add(const TemporaryFile& file) { return *io_->AddFile(file.fd()); }

  std::unique_ptr<AsyncIo> io_;
};

TEST_P(AsyncIoContract, ReadsBackWhatItWroteInRandomPieces) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  constexpr size_t kFileBlocks = 512;
  for (const auto mode : {TemporaryFile::Mode::kDirect, TemporaryFile::Mode::kBuffered}) {
    TemporaryFile temporary(mode, kFileBlocks * kBlock);
    const int file = Add(temporary);
    AlignedBuffer model(kFileBlocks * kBlock);
    AlignedBuffer buffer(kFileBlocks * kBlock);
    for (int step = 0; step < 100; ++step) {
      const size_t first = random() % kFileBlocks;
      const size_t blocks = 1 + random() % std::min<size_t>(kFileBlocks - first, 256);
      const absl::Span<std::byte> expected = model.span(first * kBlock, blocks * kBlock);
      const absl::Span<std::byte> bytes = buffer.span(first * kBlock, blocks * kBlock);
      if (random() % 2 == 0) {
        FillPattern(expected, random());
        std::copy(expected.begin(), expected.end(), bytes.begin());
        TestOp write(Kind::kWrite, file, first * kBlock, {});
        write.pieces = RandomPieces(bytes, 1 + random() % 6, random);
        ASSERT_TRUE(Carry(*io_, write).ok());
      } else {
        std::fill(bytes.begin(), bytes.end(), std::byte{0x5a});
        TestOp read(Kind::kRead, file, first * kBlock, {});
        read.pieces = RandomPieces(bytes, 1 + random() % 6, random);
        ASSERT_TRUE(Carry(*io_, read).ok());
        ASSERT_TRUE(bytes == expected) << "step " << step;
      }
    }
    io_->RemoveFile(file);
  }
}

TEST_P(AsyncIoContract, TakesManyOpsInOneSubmit) {
  Open({.bytes_in_flight_max = 64 * kBlock, .depth_max = 8});
  constexpr size_t kOps = 1000;
  TemporaryFile temporary(TemporaryFile::Mode::kDirect, kOps * kBlock);
  const int file = Add(temporary);
  AlignedBuffer source(kOps * kBlock);
  AlignedBuffer target(kOps * kBlock);
  FillPattern(source.span(), 1);
  for (const Kind kind : {Kind::kWrite, Kind::kRead}) {
    std::vector<std::unique_ptr<TestOp>> ops;
    std::vector<IoOp*> batch;
    AlignedBuffer& memory = kind == Kind::kWrite ? source : target;
    for (size_t index = 0; index < kOps; ++index) {
      const size_t offset = index * kBlock;
      ops.push_back(std::make_unique<TestOp>(kind, file, offset, memory.span(offset, kBlock)));
      batch.push_back(ops.back().get());
    }
    io_->Submit(batch);
    io_->Drain();
    for (const auto& op : ops) {
      ASSERT_EQ(op->done_count(), 1);
      ASSERT_TRUE(op->Wait().ok());
    }
  }
  EXPECT_TRUE(source.span() == target.span());
  const IoStats stats = io_->stats();
  EXPECT_EQ(stats.writes, kOps);
  EXPECT_EQ(stats.reads, kOps);
  EXPECT_EQ(stats.bytes_read, kOps * kBlock);
  EXPECT_EQ(stats.bytes_written, kOps * kBlock);
  EXPECT_EQ(stats.unknown_completions, 0u);
  io_->Submit({});
  io_->Drain();
}

TEST_P(AsyncIoContract, CarriesOutOpsLargerThanTheBytesInFlight) {
  Open({.bytes_in_flight_max = kBlock, .depth_max = 1});
  constexpr size_t kBytes = size_t{1} << 20;
  TemporaryFile temporary(TemporaryFile::Mode::kDirect, 4 * kBytes);
  const int file = Add(temporary);
  AlignedBuffer source(4 * kBytes);
  AlignedBuffer target(4 * kBytes);
  FillPattern(source.span(), 2);
  for (const Kind kind : {Kind::kWrite, Kind::kRead}) {
    AlignedBuffer& memory = kind == Kind::kWrite ? source : target;
    TestOp ops[4];
    IoOp* const batch[] = {&ops[0], &ops[1], &ops[2], &ops[3]};
    for (size_t index = 0; index < 4; ++index) {
      ops[index].Set(kind, file, index * kBytes, memory.span(index * kBytes, kBytes));
    }
    io_->Submit(batch);
    for (TestOp& op : ops) EXPECT_TRUE(op.Wait().ok());
  }
  EXPECT_TRUE(source.span() == target.span());
}

TEST_P(AsyncIoContract, Syncs) {
  TemporaryFile temporary(TemporaryFile::Mode::kDirect, kBlock);
  const int file = Add(temporary);
  AlignedBuffer buffer(kBlock);
  ASSERT_TRUE(WriteFile(*io_, file, 0, buffer.span()).ok());
  TestOp sync(Kind::kSync, file, 0, {});
  EXPECT_TRUE(Carry(*io_, sync).ok());
  EXPECT_EQ(io_->stats().syncs, 1u);
}

TEST_P(AsyncIoContract, ReadBeyondTheEndOfTheFileIsDataLoss) {
  constexpr uint64_t kEnd = 3 * kBlock + 100;
  for (const auto mode : {TemporaryFile::Mode::kDirect, TemporaryFile::Mode::kBuffered}) {
    TemporaryFile temporary(mode, kEnd);
    const int file = Add(temporary);
    AlignedBuffer buffer(8 * kBlock);
    EXPECT_TRUE(ReadFile(*io_, file, 0, buffer.span(0, 3 * kBlock)).ok());
    for (const uint64_t blocks : {4, 5, 8}) {
      const absl::Status status = ReadFile(*io_, file, 0, buffer.span(0, blocks * kBlock));
      EXPECT_TRUE(absl::IsDataLoss(status)) << status;
      EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("ends at offset 12388"));
    }
    const absl::Status status = ReadFile(*io_, file, 16 * kBlock, buffer.span());
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                ::testing::AllOf(::testing::HasSubstr("read of file"),
                                 ::testing::HasSubstr("offset 65536, 32768 bytes")));
  }
}

TEST_P(AsyncIoContract, WriteToAReadOnlyDescriptorIsUnavailable) {
  TemporaryFile temporary(TemporaryFile::Mode::kBuffered, kBlock);
  const int file = *io_->AddFile(temporary.read_only_fd());
  AlignedBuffer buffer(kBlock);
  const absl::Status status = WriteFile(*io_, file, 0, buffer.span());
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("write of file"));
  EXPECT_EQ(io_->stats().writes, 0u);
}

TEST_P(AsyncIoContract, WhatIsNotNeededWhenItsTurnComesIsNotCarriedOut) {
  struct Unneeded final : TestOp {
    using TestOp::TestOp;
    bool needed() const override { return false; }
  };
  TemporaryFile temporary(TemporaryFile::Mode::kDirect, kBlock);
  const int file = Add(temporary);
  AlignedBuffer before(kBlock);
  FillPattern(before.span(), 1);
  ASSERT_TRUE(WriteFile(*io_, file, 0, before.span()).ok());
  AlignedBuffer other(kBlock);
  FillPattern(other.span(), 2);
  for (const Kind kind : {Kind::kWrite, Kind::kRead}) {
    Unneeded op(kind, file, 0, other.span());
    const absl::Status status = Carry(*io_, op);
    EXPECT_TRUE(absl::IsCancelled(status)) << status;
  }
  AlignedBuffer after(kBlock);
  ASSERT_TRUE(ReadFile(*io_, file, 0, after.span()).ok());
  EXPECT_EQ(std::memcmp(after.data(), before.data(), kBlock), 0);
  EXPECT_NE(std::memcmp(after.data(), other.data(), kBlock), 0);
  EXPECT_EQ(io_->stats().writes, 1u);
}

TEST_P(AsyncIoContract, OpsThatBreakTheContractAreInvalid) {
  TemporaryFile temporary(TemporaryFile::Mode::kDirect, 4 * kBlock);
  const int file = Add(temporary);
  AlignedBuffer buffer(IoOp::kBytesMax + kBlock);
  const auto code = [&](TestOp& op) { return Carry(*io_, op).code(); };
  for (const int unknown : {-1, 1, 1 << 30}) {
    TestOp op(Kind::kRead, unknown, 0, buffer.span(0, kBlock));
    EXPECT_EQ(code(op), absl::StatusCode::kInvalidArgument);
  }
  TestOp empty(Kind::kRead, file, 0, {});
  EXPECT_EQ(code(empty), absl::StatusCode::kInvalidArgument);
  TestOp large(Kind::kRead, file, 0, buffer.span());
  EXPECT_EQ(code(large), absl::StatusCode::kInvalidArgument);
  TestOp sync(Kind::kSync, file, 0, buffer.span(0, kBlock));
  EXPECT_EQ(code(sync), absl::StatusCode::kInvalidArgument);
  TestOp far(Kind::kRead, file, ~uint64_t{0} - kBlock + 1, buffer.span(0, kBlock));
  EXPECT_EQ(code(far), absl::StatusCode::kInvalidArgument);
  if (temporary.is_direct()) {
    TestOp address(Kind::kRead, file, 0, buffer.span(512, kBlock));
    EXPECT_EQ(code(address), absl::StatusCode::kInvalidArgument);
    TestOp size(Kind::kRead, file, 0, buffer.span(0, 512));
    EXPECT_EQ(code(size), absl::StatusCode::kInvalidArgument);
    TestOp offset(Kind::kRead, file, 512, buffer.span(0, kBlock));
    EXPECT_EQ(code(offset), absl::StatusCode::kInvalidArgument);
  }
}

TEST_P(AsyncIoContract, FileIdsAreUsedAgain) {
  Open({.files_max = 2});
  TemporaryFile one(TemporaryFile::Mode::kBuffered, kBlock);
  TemporaryFile two(TemporaryFile::Mode::kBuffered, kBlock);
  AlignedBuffer buffer(kBlock);
  EXPECT_EQ(io_->AddFile(-1).status().code(), absl::StatusCode::kInvalidArgument);
  const int first = Add(one);
  const int second = Add(two);
  EXPECT_NE(first, second);
  EXPECT_EQ(io_->AddFile(one.fd()).status().code(), absl::StatusCode::kResourceExhausted);
  FillPattern(buffer.span(), 3);
  ASSERT_TRUE(WriteFile(*io_, second, 0, buffer.span()).ok());
  io_->RemoveFile(first);
  EXPECT_TRUE(absl::IsInvalidArgument(ReadFile(*io_, first, 0, buffer.span())));
  const int again = Add(two);
  EXPECT_EQ(again, first);
  AlignedBuffer target(kBlock);
  ASSERT_TRUE(ReadFile(*io_, again, 0, target.span()).ok());
  EXPECT_TRUE(target.span() == buffer.span());
}

TEST_P(AsyncIoContract, TransfersToAndFromRegisteredMemory) {
  constexpr size_t kBytes = 16 * kBlock;
  TemporaryFile temporary(TemporaryFile::Mode::kDirect, 3 * kBytes);
  const int file = Add(temporary);
  AlignedBuffer buffer(3 * kBytes);
  FillPattern(buffer.span(), 4);
  AlignedBuffer expected(3 * kBytes);
  std::copy_n(buffer.data(), 3 * kBytes, expected.data());
  const absl::Status registered = io_->RegisterMemory(buffer.span(kBytes, kBytes));
  if (absl::IsUnavailable(registered)) GTEST_SKIP() << registered.message();
  ASSERT_TRUE(registered.ok()) << registered;

  // Outside, inside, in pieces on both sides, and one piece that only begins inside.
  TestOp whole(Kind::kWrite, file, 0, {});
  whole.pieces = {IovecOf(buffer.span(0, kBytes)), IovecOf(buffer.span(kBytes, 2 * kBytes))};
  ASSERT_TRUE(Carry(*io_, whole).ok());
  for (int round = 0; round < 2; ++round) {
    std::fill_n(buffer.data(), 3 * kBytes, std::byte{0});
    ASSERT_TRUE(ReadFile(*io_, file, 0, buffer.span(0, kBytes)).ok());
    ASSERT_TRUE(ReadFile(*io_, file, kBytes, buffer.span(kBytes, kBytes)).ok());
    ASSERT_TRUE(ReadFile(*io_, file, 2 * kBytes, buffer.span(2 * kBytes, kBytes)).ok());
    EXPECT_TRUE(buffer.span() == expected.span());
    ASSERT_TRUE(ReadFile(*io_, file, 0, buffer.span(2 * kBytes - kBlock, 2 * kBlock)).ok());
    EXPECT_TRUE(buffer.span(2 * kBytes - kBlock, 2 * kBlock) == expected.span(0, 2 * kBlock));
    if (round == 1) break;
    ASSERT_TRUE(io_->UnregisterMemory(buffer.span(kBytes, kBytes)).ok());
  }
  EXPECT_TRUE(io_->RegisterMemory(buffer.span()).ok());  // The engine forgets it when it ends.
}

TEST_P(AsyncIoContract, RegistersARegionOfMoreThanOneGibibyte) {
  constexpr size_t kBytes = (size_t{1} << 30) + 16 * kBlock;
  // The same 64 MiB over and over: what counts is how much address space it is.
  constexpr size_t kPartBytes = size_t{64} << 20;
  const FileDescriptor part(memfd_create("region", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(part.get(), kPartBytes), 0);
  void* const mapped = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  const absl::Span<std::byte> memory(static_cast<std::byte*>(mapped), kBytes);
  for (size_t offset = 0; offset < kBytes; offset += kPartBytes) {
    ASSERT_NE(mmap(memory.data() + offset, std::min(kPartBytes, kBytes - offset),
                   PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, part.get(), 0),
              MAP_FAILED);
  }
  const absl::Status registered = io_->RegisterMemory(memory);
  if (absl::IsUnavailable(registered)) {
    munmap(mapped, kBytes);
    GTEST_SKIP() << registered.message();
  }
  TemporaryFile temporary(TemporaryFile::Mode::kDirect, 16 * kBlock);
  const int file = Add(temporary);
  const absl::Span<std::byte> last = memory.last(16 * kBlock);
  FillPattern(last, 5);
  EXPECT_TRUE(WriteFile(*io_, file, 0, last).ok());
  // Across the border between two parts.
  const absl::Span<std::byte> across = memory.subspan((size_t{1} << 30) - 8 * kBlock, 8 * kBlock);
  EXPECT_TRUE(ReadFile(*io_, file, 0, across).ok());
  EXPECT_TRUE(across == last.first(8 * kBlock));
  EXPECT_TRUE(io_->UnregisterMemory(memory).ok());
  munmap(mapped, kBytes);
}

}  // namespace cairn
