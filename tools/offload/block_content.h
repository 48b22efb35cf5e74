#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/types/span.h"

namespace cairn::offload {

// The bytes a block must hold follow from its id and the offset alone, so whatever a store gives
// back can be checked without keeping a copy: bytes of another block, of another place in the same
// block, or of an earlier length all differ. They look random, so nothing compresses them.

// 64 bits that share nothing visible with those of a neighbouring `value`.
uint64_t Scramble(uint64_t value);

// "Computes" block `id`.
void FillBlock(uint64_t id, absl::Span<std::byte> target);

// The offset of the first byte that is not what block `id` must hold; nullopt when all are right.
std::optional<uint64_t> FirstDifference(uint64_t id, absl::Span<const std::byte> bytes);

}  // namespace cairn::offload
