#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "tiers/arena.h"
#include "tiers/device.h"

namespace cairn {

// What every device promises: instantiate it with the ways to open one. One that answers
// kUnavailable is skipped with its reason.
struct DeviceCase {
  std::string name;
  std::function<absl::StatusOr<std::unique_ptr<Device>>()> open;

  friend void PrintTo(const DeviceCase& one, std::ostream* out) { *out << one.name; }
};

class DeviceContractTest : public testing::TestWithParam<DeviceCase> {
 protected:
  static constexpr uint64_t kBytes = uint64_t{4} << 20;

  void SetUp() override {
    auto device = GetParam().open();
    if (absl::IsUnavailable(device.status())) GTEST_SKIP() << device.status();
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    auto host = Arena::Create(2 * kBytes);
    ASSERT_TRUE(host.ok()) << host.status();
    host_ = *std::move(host);
    ASSERT_TRUE(device_->PinMemory(host_->memory()).ok());
    auto arena = device_->AllocateArena(kBytes);
    ASSERT_TRUE(arena.ok()) << arena.status();
    arena_ = *arena;
    first_ = NewStream();
    second_ = NewStream();
  }

  void TearDown() override {
    if (device_ == nullptr) return;
    for (const StreamRef stream : streams_) EXPECT_TRUE(device_->DestroyStream(stream).ok());
    EXPECT_TRUE(device_->FreeArena(arena_).ok());
    EXPECT_TRUE(device_->UnpinMemory(host_->memory()).ok());
  }

  StreamRef NewStream() {
    auto stream = device_->CreateStream();
    EXPECT_TRUE(stream.ok()) << stream.status();
    if (!stream.ok()) return {};
    streams_.push_back(*stream);
    return *stream;
  }

  // The host's memory: what is sent, and behind it what comes back.
  std::byte* sent() { return host_->base(); }
  std::byte* back() { return host_->base() + kBytes; }
  void FillSent(uint64_t seed) {
    std::mt19937_64 random(seed);
    for (uint64_t i = 0; i < kBytes; i += sizeof(uint64_t)) {
      const uint64_t word = random();
      std::memcpy(sent() + i, &word, sizeof(word));
    }
  }

  absl::Status Up(StreamRef stream, uint64_t offset, uint64_t bytes) {
    const CopyPiece piece = {arena_.data() + offset, sent() + offset, bytes};
    return device_->Copy(stream, CopyDirection::kToDevice, {&piece, 1});
  }
  absl::Status Down(StreamRef stream, uint64_t offset, uint64_t bytes) {
    const CopyPiece piece = {back() + offset, arena_.data() + offset, bytes};
    return device_->Copy(stream, CopyDirection::kToHost, {&piece, 1});
  }
  void ExpectBytesComeBack() {
    ASSERT_TRUE(Up(first_, 0, kBytes).ok());
    ASSERT_TRUE(Down(first_, 0, kBytes).ok());
    ASSERT_TRUE(device_->Synchronize(first_).ok());
    EXPECT_EQ(std::memcmp(sent(), back(), kBytes), 0);
  }
  std::shared_ptr<DeviceEvent> Record(StreamRef stream) {
    auto event = device_->Record(stream);
    EXPECT_TRUE(event.ok()) << event.status();
    return event.ok() ? *event : nullptr;
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Arena> host_;
  absl::Span<std::byte> arena_;
  std::vector<StreamRef> streams_;
  StreamRef first_;
  StreamRef second_;
};

TEST_P(DeviceContractTest, SaysWhatItIs) {
  EXPECT_FALSE(device_->name().empty());
  EXPECT_GE(device_->ordinal(), 0);
  EXPECT_EQ(device_->gpu_status().ok(), device_->is_gpu());
  EXPECT_EQ(device_->name() == "host", !device_->is_gpu());
}

TEST_P(DeviceContractTest, PinnedMemoryKeepsItsBytes) {
  auto arena = Arena::Create(uint64_t{2} << 20);
  ASSERT_TRUE(arena.ok());
  const absl::Span<std::byte> memory = (*arena)->memory();
  std::memset(memory.data(), 0x5a, memory.size());
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(device_->PinMemory(memory).ok());
    EXPECT_EQ(memory.back(), std::byte{0x5a});
    ASSERT_TRUE(device_->UnpinMemory(memory).ok());
  }
  EXPECT_EQ(memory.front(), std::byte{0x5a});
}

TEST_P(DeviceContractTest, BytesComeBackAsTheyWere) {
  FillSent(1);
  ExpectBytesComeBack();
}

TEST_P(DeviceContractTest, TheDefaultStreamCopiesToo) {
  FillSent(2);
  const StreamRef stream = {.stream = nullptr, .device = device_->ordinal()};
  ASSERT_TRUE(Up(stream, 0, kBytes).ok());
  ASSERT_TRUE(Down(stream, 0, kBytes).ok());
  ASSERT_TRUE(device_->Synchronize(stream).ok());
  EXPECT_EQ(std::memcmp(sent(), back(), kBytes), 0);
}

TEST_P(DeviceContractTest, ACopyWithinTheDeviceMovesItsBytes) {
  FillSent(3);
  constexpr uint64_t kHalf = kBytes / 2;
  ASSERT_TRUE(Up(first_, 0, kHalf).ok());
  const CopyPiece piece = {arena_.data() + kHalf, arena_.data(), kHalf};
  ASSERT_TRUE(device_->Copy(first_, CopyDirection::kWithinDevice, {&piece, 1}).ok());
  ASSERT_TRUE(Down(first_, kHalf, kHalf).ok());
  ASSERT_TRUE(device_->Synchronize(first_).ok());
  EXPECT_EQ(std::memcmp(sent(), back() + kHalf, kHalf), 0);
}

// 64 pieces of 32 KiB, scattered: the slices of a block, one a layer.
TEST_P(DeviceContractTest, ManyPiecesInOneCall) {
  FillSent(4);
  constexpr uint64_t kPiece = 32 << 10;
  constexpr uint64_t kPieces = 64;
  std::vector<CopyPiece> up;
  std::vector<CopyPiece> down;
  for (uint64_t i = 0; i < kPieces; ++i) {
    // Each to a place of its own, none next to the one before.
    std::byte* const place = arena_.data() + i * 37 % kPieces * 2 * kPiece;
    up.push_back({place, sent() + i * kPiece, kPiece});
    down.push_back({back() + i * kPiece, place, kPiece});
  }
  ASSERT_TRUE(device_->Copy(first_, CopyDirection::kToDevice, up).ok());
  ASSERT_TRUE(device_->Copy(first_, CopyDirection::kToHost, down).ok());
  up.clear();
  down.clear();
  ASSERT_TRUE(device_->Synchronize(first_).ok());
  EXPECT_EQ(std::memcmp(sent(), back(), kPieces * kPiece), 0);
}

TEST_P(DeviceContractTest, RowsGoToTheirPitch) {
  FillSent(5);
  constexpr uint64_t kRow = 1000;
  constexpr uint64_t kRows = 300;
  ASSERT_TRUE(device_
                  ->CopyRows(first_, CopyDirection::kToDevice,
                             {.target = arena_.data(),
                              .target_pitch = 4096,
                              .source = sent(),
                              .source_pitch = kRow,
                              .row_bytes = kRow,
                              .rows = kRows})
                  .ok());
  ASSERT_TRUE(device_
                  ->CopyRows(first_, CopyDirection::kToHost,
                             {.target = back(),
                              .target_pitch = 2048,
                              .source = arena_.data(),
                              .source_pitch = 4096,
                              .row_bytes = kRow,
                              .rows = kRows})
                  .ok());
  ASSERT_TRUE(device_->Synchronize(first_).ok());
  for (uint64_t row = 0; row < kRows; ++row) {
    ASSERT_EQ(std::memcmp(sent() + row * kRow, back() + row * 2048, kRow), 0) << row;
  }
}

// The host reads and writes it where it is, while nothing else does.
TEST_P(DeviceContractTest, ManagedMemoryIsOfBoth) {
  const auto arena = device_->AllocateManagedArena(kBytes);
  if (absl::IsUnavailable(arena.status())) GTEST_SKIP() << arena.status();
  ASSERT_TRUE(arena.ok()) << arena.status();
  FillSent(9);
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(device_->Prefetch(first_, *arena).ok());
    const CopyPiece up = {arena->data(), sent(), kBytes};
    ASSERT_TRUE(device_->Copy(first_, CopyDirection::kToDevice, {&up, 1}).ok());
    ASSERT_TRUE(device_->Synchronize(first_).ok());
    EXPECT_EQ(std::memcmp(sent(), arena->data(), kBytes), 0);
    arena->front() = sent()[0] = std::byte{0x3c};
    const CopyPiece down = {back(), arena->data(), kBytes};
    ASSERT_TRUE(device_->Prefetch(first_, arena->first(4096)).ok());
    ASSERT_TRUE(device_->Copy(first_, CopyDirection::kToHost, {&down, 1}).ok());
    ASSERT_TRUE(device_->Synchronize(first_).ok());
    EXPECT_EQ(std::memcmp(sent(), back(), kBytes), 0);
  }
  EXPECT_FALSE(device_->Prefetch({.stream = nullptr, .device = 99}, *arena).ok());
  EXPECT_TRUE(device_->FreeArena(*arena).ok());
  EXPECT_FALSE(device_->AllocateManagedArena(uint64_t{1} << 62).ok());
}

// What one stream reads while another still writes it would be other bytes.
TEST_P(DeviceContractTest, AStreamWaitsForAnother) {
  for (uint64_t round = 0; round < 20; ++round) {
    FillSent(100 + round);
    ASSERT_TRUE(Up(first_, 0, kBytes).ok());
    const std::shared_ptr<DeviceEvent> written = Record(first_);
    ASSERT_TRUE(device_->WaitFor(second_, written).ok());
    ASSERT_TRUE(Down(second_, 0, kBytes).ok());
    // And the other way round: the next turn's write waits for this turn's read.
    const std::shared_ptr<DeviceEvent> read = Record(second_);
    ASSERT_TRUE(device_->WaitFor(first_, read).ok());
    ASSERT_TRUE(read->Wait().ok());
    ASSERT_EQ(std::memcmp(sent(), back(), kBytes), 0) << "round " << round;
  }
}

TEST_P(DeviceContractTest, AnEventIsReachedBehindWhatCameBeforeIt) {
  FillSent(6);
  ASSERT_TRUE(Up(first_, 0, kBytes).ok());
  ASSERT_TRUE(Down(first_, 0, kBytes).ok());
  const std::shared_ptr<DeviceEvent> event = Record(first_);
  while (true) {
    const absl::StatusOr<bool> reached = event->Reached();
    ASSERT_TRUE(reached.ok()) << reached.status();
    if (*reached) break;
  }
  EXPECT_EQ(std::memcmp(sent(), back(), kBytes), 0);
  EXPECT_TRUE(event->Wait().ok());
  EXPECT_TRUE(*event->Reached());
}

TEST_P(DeviceContractTest, AnEventOutlivesItsStream) {
  auto stream = device_->CreateStream();
  ASSERT_TRUE(stream.ok());
  ASSERT_TRUE(Up(*stream, 0, kBytes).ok());
  const std::shared_ptr<DeviceEvent> event = Record(*stream);
  ASSERT_TRUE(device_->DestroyStream(*stream).ok());
  EXPECT_TRUE(event->Wait().ok());
  // The stream's work was done before it went.
  EXPECT_TRUE(*event->Reached());
}

TEST_P(DeviceContractTest, SynchronizeWaitsForAllStreams) {
  FillSent(7);
  constexpr uint64_t kHalf = kBytes / 2;
  for (const auto& [stream, offset] : {std::pair(first_, uint64_t{0}), std::pair(second_, kHalf)}) {
    ASSERT_TRUE(Up(stream, offset, kHalf).ok());
    ASSERT_TRUE(Down(stream, offset, kHalf).ok());
  }
  ASSERT_TRUE(device_->Synchronize().ok());
  EXPECT_EQ(std::memcmp(sent(), back(), kBytes), 0);
}

TEST_P(DeviceContractTest, MistakesAreRefusedAndLeaveNothingBehind) {
  const auto refused = [](const absl::Status& status) {
    return absl::IsInvalidArgument(status) && !status.message().empty();
  };
  const CopyPiece empty = {arena_.data(), sent(), 0};
  EXPECT_TRUE(refused(device_->Copy(first_, CopyDirection::kToDevice, {&empty, 1})));
  const CopyPiece nowhere = {nullptr, sent(), 4096};
  EXPECT_TRUE(refused(device_->Copy(first_, CopyDirection::kToDevice, {&nowhere, 1})));
  EXPECT_TRUE(refused(device_->CopyRows(first_, CopyDirection::kToDevice,
                                        {.target = arena_.data(),
                                         .target_pitch = 10,
                                         .source = sent(),
                                         .source_pitch = 10,
                                         .row_bytes = 11,
                                         .rows = 2})));
  const StreamRef elsewhere = {.stream = first_.stream, .device = device_->ordinal() + 1};
  EXPECT_TRUE(refused(Up(elsewhere, 0, 4096)));
  EXPECT_TRUE(refused(device_->Record(elsewhere).status()));
  EXPECT_TRUE(refused(device_->Synchronize(elsewhere)));
  EXPECT_FALSE(device_->AllocateArena(uint64_t{1} << 62).ok());
  // Nothing of it is sticky.
  FillSent(8);
  ExpectBytesComeBack();
}

TEST_P(DeviceContractTest, AnEmptyListIsDoneAtOnce) {
  EXPECT_TRUE(device_->Copy(first_, CopyDirection::kToDevice, {}).ok());
}

}  // namespace cairn
