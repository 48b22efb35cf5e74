#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/status/status.h"
#include "cairn/export.h"

namespace cairn {

// Element types. The values are on disk: never change them.
enum class DType : uint8_t {
  kUint8 = 1,
  kInt8 = 2,
  kInt4 = 3,  // Two elements a byte, low nibble first; an odd count is rounded up to a byte.
  kBool = 4,  // One byte an element.
  kInt32 = 5,
  kInt64 = 6,
  kFp16 = 7,
  kBf16 = 8,
  kFp32 = 9,
  kFp8E4m3 = 10,
  kFp8E5m2 = 11,
};

// What a tensor is for: a hint to eviction and admission. The values are on disk.
enum class TensorClass : uint8_t { kGeneral = 0, kKv = 1, kVision = 2, kText = 3 };
inline constexpr size_t kTensorClasses = 4;

// Where a copy of a tensor is.
enum class Level : uint8_t { kL1Gpu = 1, kL2Pinned = 2, kL3Nvme = 3 };

// What memory a pointer points to.
enum class MemoryKind : uint8_t {
  kHost = 0,        // Pageable.
  kHostPinned = 1,  // Registered with the GPU driver: copies from it are asynchronous.
  kGpu = 2,
  kManaged = 3,
};

// Whether the host's own instructions may read and write it.
inline bool IsHost(MemoryKind kind) {
  return kind == MemoryKind::kHost || kind == MemoryKind::kHostPinned;
}

// "bf16", "int4", ...; "?" for a value outside the enum.
CAIRN_EXPORT const char* DTypeName(DType dtype);
CAIRN_EXPORT const char* TensorClassName(TensorClass tensor_class);
CAIRN_EXPORT const char* LevelName(Level level);

// Bits of one element: 4 for kInt4; 0 for a value outside the enum.
CAIRN_EXPORT uint32_t DTypeBits(DType dtype);

// Element type and shape. Rank 0 is a scalar of one element.
struct CAIRN_EXPORT TensorMeta {
  static constexpr uint8_t kRankMax = 8;

  DType dtype = DType::kUint8;
  uint8_t rank = 0;
  std::array<int64_t, kRankMax> dims = {};

  static TensorMeta Of(DType dtype, std::initializer_list<int64_t> dims);
  // A flat array of bytes: kUint8 of shape [size].
  static TensorMeta Bytes(uint64_t size);

  // kInvalidArgument, naming the figure, for an unknown dtype, a rank over kRankMax, a dimension
  // below 1 (a tensor of no bytes cannot be stored), or a size that does not fit 63 bits.
  absl::Status Validate() const;

  // Bytes of a tensor of this type and shape, densely packed. Only for a meta that validates.
  uint64_t byte_count() const;

  // "bf16[2,28,8,16,128]".
  std::string ToString() const;

  friend bool operator==(const TensorMeta& a, const TensorMeta& b) {
    if (a.dtype != b.dtype || a.rank != b.rank) return false;
    for (uint8_t i = 0; i < a.rank; ++i) {
      if (a.dims[i] != b.dims[i]) return false;
    }
    return true;
  }
};

// Borrowed bytes of one tensor, dense and row-major, and what memory they are in. Never frees.
struct TensorView {
  TensorMeta meta;
  const std::byte* data = nullptr;
  uint64_t size = 0;  // Must equal meta.byte_count().
  MemoryKind kind = MemoryKind::kHost;
  // Ordinal of the GPU that kGpu and kManaged are of. A handle on L1 has it where the host stands
  // in for that GPU, too. -1, of what is put: not said.
  int device = -1;

  bool host() const { return IsHost(kind); }
};

// One run of a tensor's bytes in the caller's memory. A KV block is often one slice per layer:
// then a tensor is a short list of pieces, in order.
struct Piece {
  std::byte* data = nullptr;
  uint64_t size = 0;
};
struct ConstPiece {
  const std::byte* data = nullptr;
  uint64_t size = 0;
};

// A GPU stream of the caller, as the driver's own handle (cudaStream_t) in a void pointer.
struct StreamRef {
  void* stream = nullptr;
  int device = 0;
};

}  // namespace cairn
