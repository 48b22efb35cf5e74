#include "io/checksum.h"

#if defined(__x86_64__)
// Its macros turn the XXH3 functions below into those that pick AVX2 or AVX-512 at run time.
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include <algorithm>
#include <bit>

#include "io/little_endian.h"
#include "src/base/check.h"

namespace cairn {

uint64_t ChecksumSeed(uint64_t key_hash, uint64_t sequence) {
  char bytes[16];
  FieldWriter writer(bytes, sizeof(bytes));
  writer.U64(key_hash);
  writer.U64(sequence);
  return XXH3_64bits(bytes, sizeof(bytes));
}

uint64_t ChunkChecksum(uint64_t seed, const void* data, size_t size) {
  return XXH3_64bits_withSeed(data, size, seed);
}

std::vector<uint64_t> ChunkChecksums(uint64_t seed, absl::Span<const ConstPiece> pieces) {
  uint64_t bytes = 0;
  for (const ConstPiece& piece : pieces) bytes += piece.size;
  // Most tensors that are small: no state is needed, and none is made.
  if (pieces.size() == 1 && bytes > 0 && bytes <= kChecksumChunkBytes) {
    return {ChunkChecksum(seed, pieces[0].data, bytes)};
  }
  std::vector<uint64_t> sums;
  sums.reserve(ChecksumChunkCount(bytes));
  ChunkHasher hasher;
  hasher.Reset(seed);
  uint64_t in_chunk = 0;
  for (const ConstPiece& piece : pieces) {
    for (uint64_t offset = 0; offset < piece.size;) {
      const uint64_t take = std::min(kChecksumChunkBytes - in_chunk, piece.size - offset);
      hasher.Update(piece.data + offset, take);
      offset += take;
      in_chunk += take;
      if (in_chunk < kChecksumChunkBytes) continue;
      sums.push_back(hasher.Finish());
      hasher.Reset(seed);
      in_chunk = 0;
    }
  }
  if (in_chunk > 0) sums.push_back(hasher.Finish());
  return sums;
}

uint64_t TensorChecksum(uint64_t seed, absl::Span<const uint64_t> chunk_sums) {
  if constexpr (std::endian::native == std::endian::little) {
    return XXH3_64bits_withSeed(chunk_sums.data(), chunk_sums.size() * sizeof(uint64_t), seed);
  }
  ChunkHasher hasher;
  hasher.Reset(seed);
  for (const uint64_t sum : chunk_sums) {
    char bytes[8];
    FieldWriter(bytes, sizeof(bytes)).U64(sum);
    hasher.Update(bytes, sizeof(bytes));
  }
  return hasher.Finish();
}

uint64_t StructureChecksum(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

struct ChunkHasher::State {
  XXH3_state_t* xxh3;
};

ChunkHasher::ChunkHasher() : state_(new State{XXH3_createState()}) {
  CAIRN_CHECK(state_->xxh3 != nullptr);
  Reset(0);
}

ChunkHasher::~ChunkHasher() { XXH3_freeState(state_->xxh3); }

void ChunkHasher::Reset(uint64_t seed) { XXH3_64bits_reset_withSeed(state_->xxh3, seed); }

void ChunkHasher::Update(const void* data, size_t size) {
  XXH3_64bits_update(state_->xxh3, data, size);
}

uint64_t ChunkHasher::Finish() const { return XXH3_64bits_digest(state_->xxh3); }

}  // namespace cairn
