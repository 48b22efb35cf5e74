#include "bench/tier/session.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "bench/tier/nvme_target.h"
#include "bench/tier/store_target.h"
#include "src/base/status_macros.h"
#include "tools/offload/block_content.h"

namespace cairn::bench {

absl::StatusOr<SlotMemory> SlotMemory::Create(size_t slots, uint64_t slot_bytes, bool small_pages) {
  constexpr uint64_t kPage = 4096;
  const uint64_t stride = (slot_bytes + kPage - 1) / kPage * kPage;
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena, Arena::Create(slots * stride));
  if (small_pages) madvise(arena->base(), arena->bytes(), MADV_NOHUGEPAGE);
  // Not zeros: nothing on the way may find them easier than what people store. This also touches
  // every page, so that none is first touched while it is measured.
  offload::FillBlock(slot_bytes, arena->memory());
  return SlotMemory(std::move(arena), stride, small_pages);
}

std::string SlotMemory::pages() const {
  return small_pages_ && arena_->pages() != ArenaPages::kHugetlb ? "small"
                                                                 : ArenaPagesName(arena_->pages());
}

absl::StatusOr<std::unique_ptr<Target>> OpenTarget(absl::Span<const Job* const> jobs,
                                                   const TargetOptions& options) {
  if (jobs.front()->tier == Tier::kNvme) return OpenNvmeTarget(jobs, options);
  return OpenStoreTarget(jobs, options);
}

}  // namespace cairn::bench
