#include "bench/micro/workloads.h"

#include <cmath>

namespace cairn::micro {
namespace {

constexpr uint64_t kKiB = uint64_t{1} << 10;
constexpr uint64_t kMiB = uint64_t{1} << 20;
// Of Qwen3-VL-8B: 36 layers, 8 KV heads of 128, bf16, 16 tokens.
constexpr uint64_t kKvBlockBytes = 16 * uint64_t{2} * 36 * 8 * 128 * 2;
static_assert(kKvBlockBytes == 2 * kMiB + 256 * kKiB);
// A hidden state of it: 4096 in bf16.
constexpr uint64_t kTokenBytes = 4096 * uint64_t{2};

uint64_t Uniform(std::mt19937_64& random, uint64_t least, uint64_t most) {
  return std::uniform_int_distribution<uint64_t>(least, most)(random);
}

Workload Of(std::string name, uint64_t bytes) {
  return {std::move(name), [bytes](std::mt19937_64&) { return bytes; }};
}

// 70 % KV blocks, 20 % encoded images of 64 to 1024 visual tokens, 10 % texts of 16 to 512 tokens.
uint64_t MixedBytes(std::mt19937_64& random) {
  const uint64_t dice = Uniform(random, 0, 9);
  if (dice < 7) return kKvBlockBytes;
  return kTokenBytes * (dice < 9 ? Uniform(random, 64, 1024) : Uniform(random, 16, 512));
}

uint64_t LogUniformBytes(std::mt19937_64& random) {
  std::uniform_real_distribution<double> exponent(std::log2(4.0 * kKiB), std::log2(8.0 * kMiB));
  return static_cast<uint64_t>(std::exp2(exponent(random)));
}

}  // namespace

std::vector<Workload> Workloads() {
  return {
      Of("2.25 MiB", kKvBlockBytes),
      Of("2.9375 MiB", 16 * uint64_t{2} * 94 * 4 * 128 * 2),
      Of("1,124,352 B", 16 * uint64_t{61} * (512 + 64) * 2),
      Of("2.25 MiB + 4 KiB", kKvBlockBytes + 4 * kKiB),
      {"mixed VLM", MixedBytes},
      {"log-uniform 4K-8M", LogUniformBytes},
      {"uniform 1-8M", [](std::mt19937_64& random) { return Uniform(random, kMiB, 8 * kMiB); }},
  };
}

}  // namespace cairn::micro
