// What our allocators waste and what they take, beside others:
//
//   allocator_bench [--arena-gib 64] [--rounds 180] [--workload NAME] [--allocator NAME]
//
// Prints two tables in markdown. The first: for each workload the part of the arena that is used
// when the first allocation fails, after so many rounds of evicting 5 % at random and filling up
// again; and the time of a free and an allocation at 75 % full. Only offsets are handed out: no
// memory of the arena is touched, but by peers that keep their bookkeeping in it.
//
//   allocator_bench --defragmentation [--arena-gib 16] [--memory-mib 1024]
//
// What it costs to have 64 and 256 MiB in one piece in an arena that was in use for long, and what
// readers see of it.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/micro/allocator_churn.h"
#include "bench/micro/allocator_threads.h"
#include "bench/micro/defragmentation.h"
#include "bench/micro/foreign_allocators.h"
#include "bench/micro/locked_allocator.h"
#include "bench/micro/set_buddy.h"
#include "bench/micro/workloads.h"
#include "src/base/check.h"
#include "tiers/allocator.h"
#include "tiers/hybrid_allocator.h"
#include "tiers/magazine_allocator.h"

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
      {"best fit", of(AllocatorKind::kBestFit)},
      {"jemalloc", NewJemalloc},
      {"TBB pool", NewTbbPool},
  };
}

// A row of the table: the figures of each kind, or why there are none.
void PrintChurn(const Workload& workload, const std::vector<Kind>& kinds,
                const ChurnOptions& options) {
  std::printf("| %s |", workload.name.c_str());
  for (const Kind& kind : kinds) {
    const absl::StatusOr<std::unique_ptr<Allocator>> allocator = kind.create(options.arena_bytes);
    if (allocator.ok()) {
      const ChurnFigures figures = Churn(**allocator, workload, options);
      std::printf(" %.3f, %.0f ns |", figures.utilisation, figures.pair_ns);
    } else {
      std::printf(" - |");
      std::fprintf(stderr, "%s: %s\n", kind.name.c_str(), allocator.status().ToString().c_str());
    }
  }
  std::printf("\n");
}

template <typename Named>
std::vector<Named> Only(std::vector<Named> all, const std::string& name) {
  if (!name.empty()) std::erase_if(all, [&](const Named& one) { return one.name != name; });
  return all;
}

void PrintThreads(uint64_t arena_bytes, const ThreadsOptions& options) {
  std::vector<std::unique_ptr<Allocator>> allocators;
  std::vector<ThreadsRow> rows;
  const auto add = [&](std::string name, std::unique_ptr<Allocator> allocator) {
    rows.push_back({.name = std::move(name), .allocator = allocator.get()});
    allocators.push_back(std::move(allocator));
  };
  for (const auto& [kind, name] : {std::pair(AllocatorKind::kHybrid, "hybrid"),
                                   std::pair(AllocatorKind::kBuddy, "bitmap buddy")}) {
    auto alone = Allocator::Create(kind, arena_bytes, kAlignment);
    auto behind = MagazineAllocator::Create(kind, arena_bytes, kAlignment);
    CAIRN_CHECK(alone.ok() && behind.ok());
    add(absl::StrCat(name, ", one lock"), std::make_unique<LockedAllocator>(std::move(*alone)));
    add(absl::StrCat(name, ", magazines"), std::move(*behind));
  }
  add("locks of their own alone", std::make_unique<NothingShared>());
  MeasureThreads(rows, options);
  std::printf(
      "\n| 2.25 MiB, million pairs a second | 1 | 2 | 4 | 8 threads | 2 over 1 | by CPU time "
      "| 8 over 2 |\n"
      "|---|---|---|---|---|---|---|---|\n");
  for (const ThreadsRow& row : rows) {
    std::printf("| %s |", row.name.c_str());
    for (const double pairs : row.pairs_a_microsecond) std::printf(" %.1f |", pairs);
    std::printf(" %.2f | %.2f | %.2f |\n", row.two_over_one, row.two_over_one_by_cpu,
                row.eight_over_two);
  }
}

}  // namespace
}  // namespace cairn::micro

int main(int argc, char** argv) {
  CLI::App app("Allocators over the sizes of tensors", "allocator_bench");
  cairn::micro::ChurnOptions churn;
  cairn::micro::ThreadsOptions threads;
  uint64_t arena_gib = 64;
  std::string workload_name;
  std::string allocator_name;
  app.add_option("--arena-gib", arena_gib, "a power of two")->check(CLI::Range(1, 1024));
  app.add_option("--rounds", churn.rounds)->check(CLI::Range(1, 10'000));
  app.add_option("--pairs", churn.pairs_a_window, "a window")->check(CLI::Range(1, 10'000'000));
  app.add_option("--windows", churn.windows, "of which the median counts")
      ->check(CLI::Range(1, 1000));
  app.add_option("--workload", workload_name, "this one alone, and no threads");
  app.add_option("--allocator", allocator_name, "this one alone, and no threads");
  bool defragmentation_alone = false;
  uint64_t memory_mib = 1024;
  cairn::micro::DefragmentationOptions defragmentation;
  app.add_flag("--defragmentation", defragmentation_alone, "alone");
  app.add_option("--memory-mib", memory_mib, "real memory, where somebody reads it")
      ->check(CLI::Range(64, 65'536));
  app.add_option("--reader-milliseconds", defragmentation.reader_milliseconds)
      ->check(CLI::Range(1, 600'000));
  CLI11_PARSE(app, argc, argv);
  if (defragmentation_alone) {
    if (app.count("--arena-gib") > 0) defragmentation.arena_bytes = arena_gib << 30;
    defragmentation.memory_bytes = memory_mib << 20;
    defragmentation.window_bytes =
        std::min(defragmentation.window_bytes, defragmentation.arena_bytes / 64);
    return cairn::micro::PrintDefragmentation(defragmentation) ? 0 : 1;
  }
  churn.arena_bytes = arena_gib << 30;
  threads.windows = churn.windows;
  std::setvbuf(stdout, nullptr, _IONBF, 0);

  using cairn::micro::Only;
  const auto kinds = Only(cairn::micro::Kinds(), allocator_name);
  const auto workloads = Only(cairn::micro::Workloads(), workload_name);
  if (kinds.empty() || workloads.empty()) {
    std::fprintf(stderr, "allocator_bench: no such workload or allocator\n");
    return 2;
  }
  std::string rule = "|---|";
  std::printf("| workload |");
  for (const auto& kind : kinds) {
    std::printf(" %s |", kind.name.c_str());
    rule += "---|";
  }
  std::printf("\n%s\n", rule.c_str());
  for (const auto& workload : workloads) cairn::micro::PrintChurn(workload, kinds, churn);
  if (workload_name.empty() && allocator_name.empty()) {
    cairn::micro::PrintThreads(churn.arena_bytes, threads);
  }
  return 0;
}
