#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "tiers/allocator.h"

namespace cairn::micro {

// Allocators of others over an arena of address space, for comparison: they are asked for memory of
// it, of which only what they write themselves is ever touched. They check no free, and know
// nothing of a largest one. kUnimplemented where the library was not found when this was built;
// kUnavailable where it cannot be loaded.

// jemalloc with hooks that give it the arena and nothing else.
absl::StatusOr<std::unique_ptr<Allocator>> NewJemalloc(uint64_t space_bytes);
// oneTBB's fixed pool, whose bookkeeping lies in the arena.
absl::StatusOr<std::unique_ptr<Allocator>> NewTbbPool(uint64_t space_bytes);

}  // namespace cairn::micro
