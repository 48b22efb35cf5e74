#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace cairn::micro {

// Which sizes are asked of an allocator.
struct Workload {
  std::string name;
  std::function<uint64_t(std::mt19937_64& random)> bytes;
};

// KV blocks of 16 tokens of Qwen3-VL-8B (2.25 MiB), Qwen3-VL-235B-A22B (2.9375 MiB) and DeepSeek-V3
// (1,124,352 B); the first with a header of a page; a mix of what a vision-language model stores;
// and sizes without order.
std::vector<Workload> Workloads();

}  // namespace cairn::micro
