#include "tiers/kv_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/faulty_device.h"
#include "tiers/host_device.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

class KvRowsTest : public testing::Test {
 protected:
  static constexpr uint64_t kArenaBytes = 1 << 20;

  KvRowsTest() : arena_(*device_.AllocateArena(2 * kArenaBytes)), stream_(*device_.CreateStream()) {
    for (std::vector<std::byte>* host : {&source_, &target_, &expected_}) host->resize(kArenaBytes);
    for (std::byte& byte : source_) byte = static_cast<std::byte>(random_());
  }

  std::byte* device_source() { return arena_.data(); }
  std::byte* device_target() { return arena_.data() + kArenaBytes; }
  void Copy(CopyDirection direction, std::byte* target, const std::byte* source) {
    const CopyPiece piece = {target, source, kArenaBytes};
    ASSERT_TRUE(device_.Copy(stream_, direction, {&piece, 1}).ok());
  }

  // All behind one another on one stream, which nobody waits for in between: the target as it was,
  // the source if it is the device's, the blocks, and what became of them.
  void ExpectAsOnTheHost(const KvShape& shape, const KvPitch& to, const KvPitch& from,
                         CopyDirection direction) {
    std::fill(target_.begin(), target_.end(), std::byte{0xee});
    expected_ = target_;
    ASSERT_TRUE(CopyKvBlocks(shape, expected_.data(), to, source_.data(), from).ok());
    const bool to_device = direction != CopyDirection::kToHost;
    const bool from_device = direction != CopyDirection::kToDevice;
    if (from_device) Copy(CopyDirection::kToDevice, device_source(), source_.data());
    if (to_device) Copy(CopyDirection::kToDevice, device_target(), target_.data());
    const KvTarget target = {to_device ? device_target() : target_.data(), to,
                             to_device ? MemoryKind::kGpu : MemoryKind::kHostPinned};
    const KvSource source = {from_device ? device_source() : source_.data(), from,
                             from_device ? MemoryKind::kManaged : MemoryKind::kHostPinned};
    device_.copies = device_.copies_within = device_.row_copies = 0;
    const absl::Status copied = CopyKvBlocksOnDevice(device_, stream_, shape, target, source);
    ASSERT_TRUE(copied.ok()) << copied;
    calls_ = device_.copies + device_.copies_within + device_.row_copies;
    if (to_device) Copy(CopyDirection::kToHost, target_.data(), device_target());
    ASSERT_TRUE(device_.Synchronize(stream_).ok());
    EXPECT_TRUE(target_ == expected_)
        << shape.blocks << " x " << shape.layers << " x " << shape.piece_bytes;
  }
  void ExpectAsOnTheHost(const KvShape& shape, const KvPitch& to, const KvPitch& from) {
    for (const CopyDirection direction :
         {CopyDirection::kToDevice, CopyDirection::kToHost, CopyDirection::kWithinDevice}) {
      ExpectAsOnTheHost(shape, to, from, direction);
    }
  }

  std::mt19937_64 random_{5};
  FaultyDevice device_{NewHostDevice({.delay_us_max = 50, .delay_seed = 9})};
  const absl::Span<std::byte> arena_;
  const StreamRef stream_;
  std::vector<std::byte> source_;
  std::vector<std::byte> target_;
  std::vector<std::byte> expected_;
  int calls_ = 0;
};

TEST_F(KvRowsTest, OneCopyALayerOrABlock) {
  const KvShape few_layers = {.blocks = 9, .layers = 4, .piece_bytes = 512};
  ExpectAsOnTheHost(few_layers, LayerFirst(few_layers), PageFirst(few_layers));
  EXPECT_EQ(calls_, 4);
  const KvShape few_blocks = {.blocks = 3, .layers = 8, .piece_bytes = 100};
  ExpectAsOnTheHost(few_blocks, PageFirst(few_blocks), LayerFirst(few_blocks));
  EXPECT_EQ(calls_, 3);
  const KvShape one_block = {.blocks = 1, .layers = 32, .piece_bytes = 256};
  ExpectAsOnTheHost(one_block, {.block_bytes = 0, .layer_bytes = 4096}, PageFirst(one_block));
  EXPECT_EQ(calls_, 1);
}

TEST_F(KvRowsTest, AnyShapeAndPitch) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  random_.seed(seed);
  const auto upto = [this](uint64_t most) { return random_() % (most + 1); };
  for (int round = 0; round < 60; ++round) {
    const KvShape shape = {
        .blocks = 1 + upto(12), .layers = 1 + upto(12), .piece_bytes = 1 + upto(700)};
    const auto pitch = [&] {
      const uint64_t inner = shape.piece_bytes + upto(1) * upto(100);
      if (upto(1) == 0) return KvPitch{inner * shape.layers + upto(90), inner};
      return KvPitch{inner, inner * shape.blocks + upto(90)};
    };
    const KvPitch to = pitch();
    ExpectAsOnTheHost(shape, to, pitch());
  }
}

// A source that shows one block many times, and one whose layers go backwards into each other: no
// rows of a device's.
TEST_F(KvRowsTest, ASourceMayRepeatItself) {
  const KvShape shape = {.blocks = 4, .layers = 3, .piece_bytes = 128};
  ExpectAsOnTheHost(shape, PageFirst(shape), {.block_bytes = 0, .layer_bytes = 128});
  EXPECT_EQ(device_.row_copies, 4) << "a block's layers are rows";
  ExpectAsOnTheHost(shape, PageFirst(shape), {.block_bytes = 0, .layer_bytes = 1});
  EXPECT_EQ(device_.row_copies, 0);
  EXPECT_EQ(calls_, 1) << "a list of pieces";
}

TEST_F(KvRowsTest, MistakesAreRefusedAndCopyNothing) {
  const KvShape shape = {.blocks = 4, .layers = 3, .piece_bytes = 128};
  const KvTarget target = {device_target(), LayerFirst(shape)};
  const KvSource source = {source_.data(), PageFirst(shape), MemoryKind::kHost};
  const auto refusal = [&](StreamRef stream, const KvShape& of, const KvTarget& to,
                           const KvSource& from) {
    const absl::Status status = CopyKvBlocksOnDevice(device_, stream, of, to, from);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refusal(stream_, {}, target, source), HasSubstr("nothing to copy"));
  EXPECT_THAT(
      refusal(stream_, shape, {device_target(), {.block_bytes = 1, .layer_bytes = 1}}, source),
      HasSubstr("overlap"));
  EXPECT_THAT(refusal({.stream = stream_.stream, .device = 1}, shape, target, source),
              HasSubstr("GPU 1"));
  EXPECT_THAT(
      refusal(stream_, shape, {target_.data(), LayerFirst(shape), MemoryKind::kHost}, source),
      HasSubstr("both ends"));
  EXPECT_THAT(refusal(stream_, shape, {nullptr, LayerFirst(shape)}, source),
              HasSubstr("no address"));
  EXPECT_THAT(refusal(stream_, shape, {target_.data(), LayerFirst(shape)}, source),
              HasSubstr("not in the device's memory"));
}

}  // namespace
}  // namespace cairn
