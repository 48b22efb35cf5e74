#include "cairn/kv_layout.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

// On a 64-byte boundary, or so many bytes behind one.
class Buffer {
 public:
  explicit Buffer(uint64_t bytes, uint64_t offset = 0, int fill = 0xee)
      : bytes_(bytes), memory_(bytes + 128, static_cast<std::byte>(fill)) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    begin_ = memory_.data() + (64 - address % 64) % 64 + offset;
  }
  std::byte* begin() { return begin_; }
  uint64_t bytes() const { return bytes_; }

 private:
  const uint64_t bytes_;
  std::vector<std::byte> memory_;
  std::byte* begin_;
};

uint64_t BytesOf(const KvShape& shape, const KvPitch& pitch) {
  return (shape.blocks - 1) * pitch.block_bytes + (shape.layers - 1) * pitch.layer_bytes +
         shape.piece_bytes;
}

// Every piece where it belongs, and not a byte between them touched.
void ExpectCopied(const KvShape& shape, const KvPitch& target_pitch, const KvPitch& source_pitch,
                  uint64_t target_offset = 0, uint64_t source_offset = 0) {
  Buffer source(BytesOf(shape, source_pitch), source_offset);
  Buffer target(BytesOf(shape, target_pitch), target_offset);
  Buffer expected(target.bytes(), target_offset);
  std::mt19937_64 random(shape.blocks * 31 + shape.layers);
  for (uint64_t at = 0; at < source.bytes(); at += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(source.begin() + at, &word, std::min(sizeof(word), source.bytes() - at));
  }
  for (uint64_t block = 0; block < shape.blocks; ++block) {
    for (uint64_t layer = 0; layer < shape.layers; ++layer) {
      std::memcpy(
          expected.begin() + block * target_pitch.block_bytes + layer * target_pitch.layer_bytes,
          source.begin() + block * source_pitch.block_bytes + layer * source_pitch.layer_bytes,
          shape.piece_bytes);
    }
  }
  const absl::Status status =
      CopyKvBlocks(shape, target.begin(), target_pitch, source.begin(), source_pitch);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(std::memcmp(target.begin(), expected.begin(), target.bytes()), 0)
      << shape.blocks << " x " << shape.layers << " x " << shape.piece_bytes;
}

TEST(KvLayoutTest, TurnsOneOrderIntoTheOther) {
  const KvShape shape = {.blocks = 7, .layers = 5, .piece_bytes = 256};
  ExpectCopied(shape, LayerFirst(shape), PageFirst(shape));
  ExpectCopied(shape, PageFirst(shape), LayerFirst(shape));
  ExpectCopied(shape, PageFirst(shape), PageFirst(shape));
}

TEST(KvLayoutTest, CopiesPastTheCaches) {
  const KvShape shape = {.blocks = 40, .layers = 32, .piece_bytes = 64 << 10};
  ExpectCopied(shape, LayerFirst(shape), PageFirst(shape));
  // Neither on a line's begin.
  ExpectCopied(shape, PageFirst(shape), LayerFirst(shape), 8, 3);
}

TEST(KvLayoutTest, AnyShapeAndPitch) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto upto = [&random](uint64_t most) { return random() % (most + 1); };
  for (int round = 0; round < 300; ++round) {
    const KvShape shape = {.blocks = 1 + upto(12),
                           .layers = 1 + upto(12),
                           .piece_bytes = upto(1) == 0 ? 1 + upto(200) : 64 * (1 + upto(8))};
    const auto pitch = [&] {
      const uint64_t inner = shape.piece_bytes + upto(1) * upto(100);
      if (upto(1) == 0) return KvPitch{inner * shape.layers + upto(90), inner};
      return KvPitch{inner, inner * shape.blocks + upto(90)};
    };
    ExpectCopied(shape, pitch(), pitch(), upto(1) * upto(60), upto(1) * upto(60));
  }
}

// A source may show one piece many times: a block of zeros, a prefix that all share.
TEST(KvLayoutTest, ASourceMayRepeatItself) {
  const KvShape shape = {.blocks = 4, .layers = 3, .piece_bytes = 128};
  ExpectCopied(shape, PageFirst(shape), {.block_bytes = 0, .layer_bytes = 128});
}

TEST(KvLayoutTest, RefusesWhatItCannotCopy) {
  Buffer buffer(4096);
  const auto refusal = [&](const KvShape& shape, const KvPitch& target, const KvPitch& source) {
    const absl::Status status = CopyKvBlocks(shape, buffer.begin(), target, buffer.begin(), source);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  const KvShape shape = {.blocks = 4, .layers = 4, .piece_bytes = 64};
  EXPECT_THAT(refusal({.blocks = 0, .layers = 4, .piece_bytes = 64}, {}, {}),
              HasSubstr("nothing to copy"));
  EXPECT_THAT(refusal(shape, {.block_bytes = 128, .layer_bytes = 64}, PageFirst(shape)),
              HasSubstr("overlap"));
  EXPECT_THAT(refusal(shape, {.block_bytes = 256, .layer_bytes = 63}, PageFirst(shape)),
              HasSubstr("overlap"));
  EXPECT_THAT(
      refusal(shape, {.block_bytes = uint64_t{1} << 62, .layer_bytes = 64}, PageFirst(shape)),
      HasSubstr("beyond"));
  EXPECT_THAT(refusal({.blocks = 4, .layers = 4, .piece_bytes = UINT64_MAX}, PageFirst(shape),
                      PageFirst(shape)),
              HasSubstr("beyond"));
}

}  // namespace
}  // namespace cairn
