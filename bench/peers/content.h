#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/types/span.h"

namespace cairn::peers {

// The name of tensor `id`: in no order that the ids have.
std::string KeyOf(uint64_t id);

// The bytes of tensor `id`: each id its own, and nothing that could be compressed.
void FillContent(uint64_t id, absl::Span<std::byte> target);

// Whether every byte is what FillContent makes. Sizes are multiples of 8.
bool HasContent(uint64_t id, absl::Span<const std::byte> bytes);

}  // namespace cairn::peers
