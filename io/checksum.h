#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "cairn/tensor.h"

namespace cairn {

// How every byte is verified. A tensor's bytes are cut into chunks of kChecksumChunkBytes (the
// last may be shorter); each has an XXH3-64 of its bytes, and the tensor has the XXH3-64 of the
// little-endian list of those sums. Both are seeded by the identity of the write (fingerprint,
// key, sequence), so that bytes of another tensor, or of an earlier write of this one, that turn
// up in this place do not verify.
inline constexpr uint64_t kChecksumChunkBytes = uint64_t{1} << 20;

inline constexpr uint64_t ChecksumChunkCount(uint64_t bytes) {
  return (bytes + kChecksumChunkBytes - 1) / kChecksumChunkBytes;
}

// `key_hash` is HashKey(fingerprint_id, key) of io/index.h.
uint64_t ChecksumSeed(uint64_t key_hash, uint64_t sequence);

// The sum of one chunk that lies in one piece.
uint64_t ChunkChecksum(uint64_t seed, const void* data, size_t size);

// The sums of all chunks of what the pieces are, in order.
std::vector<uint64_t> ChunkChecksums(uint64_t seed, absl::Span<const ConstPiece> pieces);

// The sum of a tensor from the sums of its chunks, in order.
uint64_t TensorChecksum(uint64_t seed, absl::Span<const uint64_t> chunk_sums);

// The sum at the end of every structure of the format (superblock, headers, index values): plain
// XXH3-64 of all its bytes before.
uint64_t StructureChecksum(std::string_view bytes);
inline constexpr size_t kStructureSumBytes = 8;

// The sum of one chunk that lies in several pieces: Reset, Update for each, Finish.
class ChunkHasher {
 public:
  ChunkHasher();
  ~ChunkHasher();
  ChunkHasher(const ChunkHasher&) = delete;
  ChunkHasher& operator=(const ChunkHasher&) = delete;

  void Reset(uint64_t seed);
  void Update(const void* data, size_t size);
  uint64_t Finish() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cairn
