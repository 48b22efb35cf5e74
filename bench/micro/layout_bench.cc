// What the change between page-first and layer-first KV blocks takes, beside memcpy of as many
// bytes between the same buffers:
//
//   layout_bench [--mib 512] [--pairs 5]
//
// Runs are turn about; the median of the pairs' ratios counts. Prints a table in markdown.

#include <sys/mman.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "bench/median.h"
#include "cairn/kv_layout.h"
#include "src/base/check.h"
#include "tiers/arena.h"

namespace cairn::micro {
namespace {

template <typename Work>
double Gbps(uint64_t bytes, const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  return static_cast<double>(bytes) / took.count() / 1e9;
}

struct Buffers {
  std::unique_ptr<Arena> source;
  std::unique_ptr<Arena> target;
};

void Measure(const char* name, const KvShape& shape, bool to_layer_first, int pairs,
             const Buffers& buffers) {
  const uint64_t bytes = shape.blocks * shape.layers * shape.piece_bytes;
  const KvPitch page = PageFirst(shape);
  const KvPitch layer = LayerFirst(shape);
  std::byte* const target = buffers.target->base();
  const std::byte* const source = buffers.source->base();
  std::vector<double> copies;
  std::vector<double> transforms;
  std::vector<double> ratios;
  for (int pair = 0; pair < pairs; ++pair) {
    copies.push_back(Gbps(bytes, [&] { std::memcpy(target, source, bytes); }));
    transforms.push_back(Gbps(bytes, [&] {
      CAIRN_CHECK(CopyKvBlocks(shape, target, to_layer_first ? layer : page, source,
                               to_layer_first ? page : layer)
                      .ok());
    }));
    ratios.push_back(transforms.back() / copies.back());
  }
  std::printf("| %s | %s | %.2f | %.2f | %.2f |\n", name,
              to_layer_first ? "page to layer" : "layer to page", Median(transforms),
              Median(copies), Median(ratios));
}

int Main(int argc, char** argv) {
  CLI::App app("Change of layout of KV blocks, beside memcpy", "layout_bench");
  uint64_t mib = 512;
  int pairs = 5;
  app.add_option("--mib", mib, "Size of each buffer")->check(CLI::Range(1, 65536));
  app.add_option("--pairs", pairs, "Runs of each, turn about")->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);

  const uint64_t bytes = mib << 20;
  Buffers buffers;
  for (std::unique_ptr<Arena>* arena : {&buffers.source, &buffers.target}) {
    absl::StatusOr<std::unique_ptr<Arena>> created = Arena::Create(bytes);
    if (!created.ok()) {
      std::fprintf(stderr, "layout_bench: %s\n", std::string(created.status().message()).c_str());
      return 1;
    }
    *arena = *std::move(created);
    std::memset((*arena)->base(), 1, bytes);
  }
  struct Case {
    const char* name;
    uint64_t layers;
    uint64_t piece_bytes;
  };
  // 16 tokens of 8 heads of 128 bf16 (keys or values); one head of them; one token.
  constexpr Case kCases[] = {{"36 layers of 32 KiB", 36, 32 << 10},
                             {"36 layers of 4 KiB", 36, 4 << 10},
                             {"36 layers of 2 KiB", 36, 2 << 10},
                             {"64 layers of 256 B", 64, 256}};
  std::printf("| pieces | direction | GB/s | memcpy, GB/s | ratio |\n|---|---|---|---|---|\n");
  for (const Case& one : kCases) {
    const KvShape shape = {.blocks = bytes / (one.layers * one.piece_bytes),
                           .layers = one.layers,
                           .piece_bytes = one.piece_bytes};
    if (shape.blocks == 0) continue;
    for (const bool to_layer_first : {true, false}) {
      Measure(one.name, shape, to_layer_first, pairs, buffers);
    }
  }
  return 0;
}

}  // namespace
}  // namespace cairn::micro

int main(int argc, char** argv) { return cairn::micro::Main(argc, argv); }
