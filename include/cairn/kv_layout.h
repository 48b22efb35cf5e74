#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "cairn/export.h"
#include "cairn/tensor.h"

namespace cairn {

// KV blocks are kept in two orders. An attention kernel wants layer first: all blocks of one layer
// together. A store wants page first: all layers of one block together, so that a block is one
// tensor and one request. The piece that both have in one run is a layer's share of a block.
//
//   page first    [block][layer][piece]   layer_pitch = piece bytes, block_pitch = layers x that
//   layer first   [layer][block][piece]   block_pitch = piece bytes, layer_pitch = blocks x that
//
// Other pitches leave room between the pieces: a paged cache of a layer has a pitch of its own, and
// keys and values that lie apart are two layers.
struct KvShape {
  uint64_t blocks = 0;
  uint64_t layers = 0;
  uint64_t piece_bytes = 0;  // block_tokens x kv_heads x head_dim x bytes an element.
};

struct KvPitch {
  uint64_t block_bytes = 0;  // From a block's piece to the same layer's piece of the next block.
  uint64_t layer_bytes = 0;  // From a layer's piece to the next layer's piece of the same block.
};

// The pitches of the two orders without gaps.
CAIRN_EXPORT KvPitch PageFirst(const KvShape& shape);
CAIRN_EXPORT KvPitch LayerFirst(const KvShape& shape);

// Copies all pieces from one order to another, in host memory, by the calling thread. The target is
// written past the caches where it is larger than they are. Memory on 64-byte boundaries and pieces
// of a multiple of 64 bytes are the fast case; others work. Of GPU memory: Store::CopyKvBlocks.
// kInvalidArgument, with nothing written, naming the figures: an empty shape; pitches within which
// two pieces of the target overlap; or sizes beyond 2^63 bytes. Source and target must not overlap.
CAIRN_EXPORT absl::Status CopyKvBlocks(const KvShape& shape, std::byte* target,
                                       const KvPitch& target_pitch, const std::byte* source,
                                       const KvPitch& source_pitch);

// The ends of Store::CopyKvBlocks: where the first block's piece of the first layer is, in what
// memory.
struct KvTarget {
  std::byte* data = nullptr;
  KvPitch pitch;
  MemoryKind kind = MemoryKind::kGpu;
};
struct KvSource {
  const std::byte* data = nullptr;
  KvPitch pitch;
  MemoryKind kind = MemoryKind::kGpu;
};

}  // namespace cairn
