#include "bench/tier/session.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "bench/tier/nvme_target.h"
#include "bench/tier/store_target.h"
#include "src/base/status_macros.h"
#include "tools/offload/block_content.h"

namespace cairn::bench {

namespace {

uint64_t StrideOf(const Job& job) {
  constexpr uint64_t kPage = 4096;
  return (job.slot_bytes() + kPage - 1) / kPage * kPage;
}

}  // namespace

uint64_t SlotMemory::BytesOf(const Job& job) {
  return uint64_t{job.depth} * job.buffers_per_slot() * StrideOf(job);
}

absl::StatusOr<SlotMemory> SlotMemory::Create(const Job& job, const MemorySource& source) {
  absl::Span<std::byte> memory;
  if (source.shared != nullptr) memory = source.shared->Take(BytesOf(job));
  std::unique_ptr<Arena> arena;
  ArenaPages pages = ArenaPages::kHugetlb;
  if (memory.empty()) {
    CAIRN_ASSIGN_OR_RETURN(arena, Arena::Create(BytesOf(job)));
    memory = arena->memory();
    pages = arena->pages();
    if (source.small_pages && pages != ArenaPages::kHugetlb) {
      madvise(arena->base(), arena->bytes(), MADV_NOHUGEPAGE);
      pages = ArenaPages::kSmall;
    }
  }
  // Not zeros: nothing on the way may find them easier than what people store. This also touches
  // every page, so that none is first touched while it is measured.
  offload::FillBlock(job.slot_bytes(), memory);
  return SlotMemory(job, std::move(arena), memory, StrideOf(job), ArenaPagesName(pages));
}

absl::StatusOr<std::unique_ptr<Target>> OpenTarget(absl::Span<const Job* const> jobs,
                                                   const TargetOptions& options) {
  if (jobs.front()->tier == Tier::kNvme) return OpenNvmeTarget(jobs, options);
  return OpenStoreTarget(jobs, options);
}

}  // namespace cairn::bench
