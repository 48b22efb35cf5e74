#include <bit>
#include <limits>

#include "cairn/machine.h"

namespace cairn {

uint32_t AttentionTileRows(uint64_t shared_bytes_per_block, uint32_t head_dim, DType dtype) {
  constexpr uint64_t kTiles = 3;
  const uint64_t row_bytes = (uint64_t{head_dim} * DTypeBits(dtype) + 7) / 8;
  if (row_bytes == 0) return 0;
  const uint64_t rows = shared_bytes_per_block / (kTiles * row_bytes);
  return static_cast<uint32_t>(
      std::bit_floor(rows < std::numeric_limits<uint32_t>::max() / 2
                         ? rows
                         : uint64_t{std::numeric_limits<uint32_t>::max() / 2}));
}

}  // namespace cairn
