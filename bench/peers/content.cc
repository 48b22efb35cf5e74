#include "bench/peers/content.h"

#include <cstring>

#include "absl/strings/str_format.h"

namespace cairn::peers {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;

uint64_t Scramble(uint64_t value) {
  value += kGolden;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// Cheap, for it is made again for every comparison; no two words share a pattern that a
// compressor could use.
uint64_t Word(uint64_t seed, uint64_t index) {
  const uint64_t counter = seed + index * kGolden;
  return (counter ^ (counter >> 32)) * 0xd6e8feb86659fd93;
}

}  // namespace

std::string KeyOf(uint64_t id) { return absl::StrFormat("tensor/%016x", Scramble(~id)); }

void FillContent(uint64_t id, absl::Span<std::byte> target) {
  const uint64_t seed = Scramble(id);
  for (size_t i = 0; i < target.size() / 8; ++i) {
    const uint64_t word = Word(seed, i);
    std::memcpy(target.data() + i * 8, &word, 8);
  }
}

bool HasContent(uint64_t id, absl::Span<const std::byte> bytes) {
  const uint64_t seed = Scramble(id);
  uint64_t difference = 0;
  for (size_t i = 0; i < bytes.size() / 8; ++i) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i * 8, 8);
    difference |= word ^ Word(seed, i);
  }
  return difference == 0;
}

}  // namespace cairn::peers
