// What our allocators waste and what they take, beside others:
//
//   allocator_bench [--arena-gib 64] [--rounds 180]
//
// Prints two tables in markdown. The first: for each workload the part of the arena that is used
// when the first allocation fails, after so many rounds of evicting 5 % at random and filling up
// again; and the time of a free and an allocation at 75 % full. Only offsets are handed out: no
// memory of the arena is touched, but by peers that keep their bookkeeping in it.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/micro/allocator_churn.h"
#include "bench/micro/set_buddy.h"
#include "bench/micro/workloads.h"
#include "tiers/allocator.h"
#include "tiers/hybrid_allocator.h"

namespace cairn::micro {
namespace {

constexpr uint64_t kAlignment = 4096;

struct Kind {
  std::string name;
  std::function<absl::StatusOr<std::unique_ptr<Allocator>>(uint64_t space_bytes)> create;
};

std::vector<Kind> Kinds() {
  const auto of = [](AllocatorKind kind) {
    return [kind](uint64_t bytes) { return Allocator::Create(kind, bytes, kAlignment); };
  };
  return {
      {"hybrid", of(AllocatorKind::kHybrid)},
      {"TLSF alone",
       [](uint64_t bytes) {
         return HybridAllocator::Create(bytes, kAlignment, {.hot_requests = 0});
       }},
      {"bitmap buddy", of(AllocatorKind::kBuddy)},
      {"std::set buddy",
       [](uint64_t bytes) -> std::unique_ptr<Allocator> {
         return std::make_unique<SetBuddy>(bytes, kAlignment);
       }},
      {"best fit (files)", of(AllocatorKind::kBestFit)},
  };
}

int RunChurn(const ChurnOptions& options, const std::string& only, const std::string& only_kind) {
  std::vector<Kind> kinds = Kinds();
  if (!only_kind.empty()) {
    std::erase_if(kinds, [&](const Kind& kind) { return kind.name != only_kind; });
  }
  std::printf("| workload |");
  for (const Kind& kind : kinds) std::printf(" %s |", kind.name.c_str());
  std::printf("\n|---|");
  for (size_t i = 0; i < kinds.size(); ++i) std::printf("---|");
  std::printf("\n");
  for (const Workload& workload : Workloads()) {
    if (!only.empty() && workload.name != only) continue;
    std::printf("| %s |", workload.name.c_str());
    for (const Kind& kind : kinds) {
      const absl::StatusOr<std::unique_ptr<Allocator>> allocator = kind.create(options.arena_bytes);
      if (!allocator.ok()) {
        std::fprintf(stderr, "allocator_bench: %s: %s\n", kind.name.c_str(),
                     allocator.status().ToString().c_str());
        return 1;
      }
      const ChurnFigures figures = Churn(**allocator, workload, options);
      std::printf(" %.3f, %.0f ns |", figures.utilisation, figures.pair_ns);
    }
    std::printf("\n");
  }
  return 0;
}

}  // namespace
}  // namespace cairn::micro

int main(int argc, char** argv) {
  CLI::App app("Allocators over the sizes of tensors", "allocator_bench");
  cairn::micro::ChurnOptions options;
  uint64_t arena_gib = 64;
  app.add_option("--arena-gib", arena_gib, "a power of two")->check(CLI::Range(1, 1024));
  app.add_option("--rounds", options.rounds)->check(CLI::Range(1, 10'000));
  std::string only;
  app.add_option("--workload", only, "this one alone");
  std::string only_kind;
  app.add_option("--allocator", only_kind, "this one alone");
  CLI11_PARSE(app, argc, argv);
  options.arena_bytes = arena_gib << 30;
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  return cairn::micro::RunChurn(options, only, only_kind);
}
