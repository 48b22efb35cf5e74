#pragma once

#include <string>
#include <string_view>

#include "io/checksum.h"
#include "io/little_endian.h"
#include "src/base/check.h"

namespace cairn::fuzz {

// Random bytes never get past a checksum of 64 bits. Targets therefore show a decoder each input
// twice: as it is, and as an adversary who knows the checksum would send it.

inline constexpr size_t kSumBytes = 8;

// Overwrites the last 8 bytes by the sum of all bytes before them, `prefix` first.
inline void PutSum(std::string_view prefix, std::string& bytes) {
  CAIRN_CHECK(bytes.size() >= kSumBytes);
  const size_t body_bytes = bytes.size() - kSumBytes;
  const uint64_t sum = StructureChecksum(std::string(prefix).append(bytes, 0, body_bytes));
  FieldWriter(bytes.data() + body_bytes, kSumBytes).U64(sum);
}

// Seeds without the zeros that fill their block: mutations then hit fields and not padding. A
// target puts the zeros and the sum back.
inline std::string WithoutPadding(std::string bytes) {
  bytes.resize(bytes.size() - kSumBytes);
  bytes.resize(bytes.find_last_not_of('\0') + 1);
  return bytes;
}

}  // namespace cairn::fuzz
