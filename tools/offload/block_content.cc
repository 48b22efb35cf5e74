#include "tools/offload/block_content.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace cairn::offload {
namespace {

// Words of one step: independent of each other, so that a core works on all of them at once.
constexpr size_t kLanes = 4;
constexpr size_t kStepBytes = kLanes * sizeof(uint64_t);
using Step = std::array<uint64_t, kLanes>;

inline uint64_t Word(uint64_t seed, uint64_t index) {
  const uint64_t counter = seed + index * 0x9e3779b97f4a7c15u;
  return (counter ^ (counter >> 32)) * 0xd6e8feb86659fd93u;
}

inline Step StepAt(uint64_t seed, uint64_t step) {
  const uint64_t first = step * kLanes;
  return {Word(seed, first), Word(seed, first + 1), Word(seed, first + 2), Word(seed, first + 3)};
}

uint64_t FirstDifferenceInStep(const Step& expected, const std::byte* bytes, size_t size) {
  std::array<std::byte, kStepBytes> expected_bytes;
  std::memcpy(expected_bytes.data(), expected.data(), kStepBytes);
  return static_cast<uint64_t>(std::mismatch(bytes, bytes + size, expected_bytes.begin()).first -
                               bytes);
}

}  // namespace

uint64_t Scramble(uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

void FillBlock(uint64_t id, absl::Span<std::byte> target) {
  const uint64_t seed = Scramble(id);
  const size_t steps = target.size() / kStepBytes;
  std::byte* out = target.data();
  for (size_t step = 0; step < steps; ++step, out += kStepBytes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const uint64_t word = Word(seed, step * kLanes + lane);
      std::memcpy(out + lane * sizeof(word), &word, sizeof(word));
    }
  }
  const size_t rest = target.size() % kStepBytes;
  if (rest > 0) std::memcpy(out, StepAt(seed, steps).data(), rest);
}

std::optional<uint64_t> FirstDifference(uint64_t id, absl::Span<const std::byte> bytes) {
  const uint64_t seed = Scramble(id);
  const size_t steps = bytes.size() / kStepBytes;
  const std::byte* in = bytes.data();
  for (size_t step = 0; step < steps; ++step, in += kStepBytes) {
    const Step expected = StepAt(seed, step);
    Step found;
    std::memcpy(found.data(), in, kStepBytes);
    const uint64_t difference = (found[0] ^ expected[0]) | (found[1] ^ expected[1]) |
                                (found[2] ^ expected[2]) | (found[3] ^ expected[3]);
    if (difference != 0) {
      return step * kStepBytes + FirstDifferenceInStep(expected, in, kStepBytes);
    }
  }
  const size_t rest = bytes.size() % kStepBytes;
  const uint64_t at = FirstDifferenceInStep(StepAt(seed, steps), in, rest);
  if (at < rest) return steps * kStepBytes + at;
  return std::nullopt;
}

}  // namespace cairn::offload
