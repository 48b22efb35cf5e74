#include "cairn/kv_layout.h"

#include <algorithm>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "tiers/kv_rows.h"

namespace cairn {
namespace {

constexpr uint64_t kLineBytes = 64;
// What the processor reads ahead by itself ends with a page, so that a piece as long as one begins
// with lines that nobody asked for. So many are: with more it costs more than it saves, as it does
// for shorter pieces.
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kAheadBytes = 512;
// Where the system does not tell its caches.
constexpr uint64_t kCacheBytesDefault = uint64_t{8} << 20;
constexpr uint64_t kBytesMax = uint64_t{1} << 63;

// What is larger than this would only drive from the cache what the caller works on.
uint64_t CacheBytes() {
  static const uint64_t bytes = [] {
    const long last_level = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return last_level > 0 ? static_cast<uint64_t>(last_level) : kCacheBytesDefault;
  }();
  return bytes;
}

// The bytes from the first piece's begin to the last one's end; 0: too many to count.
uint64_t Reach(const KvShape& shape, const KvPitch& pitch) {
  uint64_t blocks = 0;
  uint64_t layers = 0;
  uint64_t reach = 0;
  if (__builtin_mul_overflow(shape.blocks - 1, pitch.block_bytes, &blocks) ||
      __builtin_mul_overflow(shape.layers - 1, pitch.layer_bytes, &layers) ||
      __builtin_add_overflow(blocks, layers, &reach) ||
      __builtin_add_overflow(reach, shape.piece_bytes, &reach) || reach >= kBytesMax) {
    return 0;
  }
  return reach;
}

// One of the two indices must step over all that the other one spans.
bool Overlaps(const KvShape& shape, const KvPitch& pitch) {
  const bool many_blocks = shape.blocks > 1;
  const bool many_layers = shape.layers > 1;
  if (many_blocks && pitch.block_bytes < shape.piece_bytes) return true;
  if (many_layers && pitch.layer_bytes < shape.piece_bytes) return true;
  if (!many_blocks || !many_layers) return false;
  const uint64_t layers_span = (shape.layers - 1) * pitch.layer_bytes + shape.piece_bytes;
  const uint64_t blocks_span = (shape.blocks - 1) * pitch.block_bytes + shape.piece_bytes;
  return pitch.block_bytes < layers_span && pitch.layer_bytes < blocks_span;
}

absl::Status Refuse(const KvShape& shape, const KvPitch& pitch, const char* why) {
  return absl::InvalidArgumentError(absl::StrCat(
      shape.blocks, " blocks of ", shape.layers, " layers of ", shape.piece_bytes,
      " bytes, pitches of ", pitch.block_bytes, " and ", pitch.layer_bytes, " bytes: ", why));
}

bool OnLine(const void* address) { return reinterpret_cast<uintptr_t>(address) % kLineBytes == 0; }

#if defined(__SSE2__)
// Written without being read into the cache first.
void StreamLine(std::byte* target, const std::byte* source) {
  auto* const to = reinterpret_cast<__m128i*>(target);
  const auto* const from = reinterpret_cast<const __m128i*>(source);
  const __m128i a = _mm_loadu_si128(from);
  const __m128i b = _mm_loadu_si128(from + 1);
  const __m128i c = _mm_loadu_si128(from + 2);
  const __m128i d = _mm_loadu_si128(from + 3);
  _mm_stream_si128(to, a);
  _mm_stream_si128(to + 1, b);
  _mm_stream_si128(to + 2, c);
  _mm_stream_si128(to + 3, d);
}

// Whole lines.
void StreamPiece(std::byte* target, const std::byte* source, const std::byte* next_source,
                 uint64_t bytes) {
  uint64_t at = 0;
  if (bytes >= kPageBytes) {
    for (; at < kAheadBytes; at += kLineBytes) {
      _mm_prefetch(reinterpret_cast<const char*>(next_source + at), _MM_HINT_T0);
      StreamLine(target + at, source + at);
    }
  }
  for (; at < bytes; at += kLineBytes) StreamLine(target + at, source + at);
}

void EndStream() { _mm_sfence(); }
constexpr bool kStreams = true;
#else
void StreamPiece(std::byte* target, const std::byte* source, const std::byte* /*next_source*/,
                 uint64_t bytes) {
  std::memcpy(target, source, bytes);
}

void EndStream() {}
constexpr bool kStreams = false;
#endif

// The index with the larger pitch in the target goes outside.
struct Walk {
  uint64_t outer = 0;
  uint64_t inner = 0;
  uint64_t target_outer_bytes = 0;
  uint64_t target_inner_bytes = 0;
  uint64_t source_outer_bytes = 0;
  uint64_t source_inner_bytes = 0;
};

Walk InOrderOf(const KvShape& shape, const KvPitch& target, const KvPitch& source) {
  if (target.block_bytes >= target.layer_bytes) {
    return {shape.blocks,       shape.layers,       target.block_bytes,
            target.layer_bytes, source.block_bytes, source.layer_bytes};
  }
  return {shape.layers,       shape.blocks,       target.layer_bytes,
          target.block_bytes, source.layer_bytes, source.block_bytes};
}

// Sources of so many runs at once are what a processor reads ahead of; and a tile's pieces together
// make a run of the target.
constexpr uint64_t kTilePieces = 16;

// In tiles of the inner index: within one, each step of the outer index goes on in the source where
// the step before it ended. `copy` is told the source of the piece after it, too.
template <typename CopyPiece>
void ForEachPiece(const Walk& walk, std::byte* target, const std::byte* source,
                  const CopyPiece& copy) {
  for (uint64_t first = 0; first < walk.inner; first += kTilePieces) {
    const uint64_t end = std::min(walk.inner, first + kTilePieces);
    for (uint64_t outer = 0; outer < walk.outer; ++outer) {
      std::byte* const to = target + outer * walk.target_outer_bytes;
      const std::byte* const from = source + outer * walk.source_outer_bytes;
      for (uint64_t inner = first; inner < end; ++inner) {
        const std::byte* next = from + inner * walk.source_inner_bytes;
        if (inner + 1 < end) {
          next = from + (inner + 1) * walk.source_inner_bytes;
        } else if (outer + 1 < walk.outer) {
          next = from + walk.source_outer_bytes + first * walk.source_inner_bytes;
        }
        copy(to + inner * walk.target_inner_bytes, from + inner * walk.source_inner_bytes, next);
      }
    }
  }
}

}  // namespace

KvPitch PageFirst(const KvShape& shape) {
  return {.block_bytes = shape.layers * shape.piece_bytes, .layer_bytes = shape.piece_bytes};
}

KvPitch LayerFirst(const KvShape& shape) {
  return {.block_bytes = shape.piece_bytes, .layer_bytes = shape.blocks * shape.piece_bytes};
}

absl::Status ValidateKvCopy(const KvShape& shape, const KvPitch& target_pitch,
                            const KvPitch& source_pitch) {
  if (shape.blocks == 0 || shape.layers == 0 || shape.piece_bytes == 0) {
    return Refuse(shape, target_pitch, "nothing to copy");
  }
  if (Reach(shape, target_pitch) == 0) return Refuse(shape, target_pitch, "beyond 2^63 bytes");
  if (Reach(shape, source_pitch) == 0) return Refuse(shape, source_pitch, "beyond 2^63 bytes");
  if (Overlaps(shape, target_pitch)) {
    return Refuse(shape, target_pitch, "pieces of the target overlap");
  }
  return absl::OkStatus();
}

absl::Status CopyKvBlocks(const KvShape& shape, std::byte* target, const KvPitch& target_pitch,
                          const std::byte* source, const KvPitch& source_pitch) {
  CAIRN_RETURN_IF_ERROR(ValidateKvCopy(shape, target_pitch, source_pitch));
  const Walk walk = InOrderOf(shape, target_pitch, source_pitch);
  const uint64_t bytes = shape.piece_bytes;
  const bool whole_lines = OnLine(target) && bytes % kLineBytes == 0 &&
                           target_pitch.block_bytes % kLineBytes == 0 &&
                           target_pitch.layer_bytes % kLineBytes == 0;
  // Both are read and written: together they must find room in the cache to gain by it.
  const bool past_caches = 2 * shape.blocks * shape.layers * bytes > CacheBytes();
  if (kStreams && whole_lines && past_caches) {
    ForEachPiece(walk, target, source,
                 [bytes](std::byte* to, const std::byte* from, const std::byte* next) {
                   StreamPiece(to, from, next, bytes);
                 });
    EndStream();
  } else {
    ForEachPiece(walk, target, source,
                 [bytes](std::byte* to, const std::byte* from, const std::byte* /*next*/) {
                   std::memcpy(to, from, bytes);
                 });
  }
  return absl::OkStatus();
}

}  // namespace cairn
