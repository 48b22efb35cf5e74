#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/index.h"

namespace cairn {

using StoreUuid = std::array<uint8_t, 16>;

// Every offset and size on L3 is a multiple of it.
inline constexpr uint64_t kRecordAlignment = 4096;
// Far above any data file; keeps hostile sizes away from arithmetic and allocation.
inline constexpr uint64_t kPayloadBytesMax = uint64_t{1} << 40;

// What stands before every payload on L3 and makes it self-describing: enough to rebuild a lost
// index, and to say which chunk of a damaged tensor is damaged. Not read on the way of a Get.
struct RecordHeader {
  StoreUuid store_uuid = {};
  std::string fingerprint;
  uint32_t fingerprint_id = 0;
  std::string key;
  IndexRecord record;
  std::vector<uint64_t> chunk_sums;  // ChecksumChunkCount(record.payload_bytes) of them.
};

// Bytes of the header of such a record: a multiple of 4096. Payloads over kPayloadBytesMax, which
// fit no data file, count as that.
uint32_t RecordHeaderBytes(size_t fingerprint_bytes, size_t key_bytes, uint64_t payload_bytes);

// Fills all of `target`, whose size must be header.record.header_bytes, which must be
// RecordHeaderBytes() of it.
void EncodeRecordHeader(const RecordHeader& header, absl::Span<std::byte> target);

// From the first bytes of an extent; `source` may be longer than the header. kNotFound: no record
// starts here (no magic); kDataLoss: one does, and is damaged or cut off.
absl::StatusOr<RecordHeader> DecodeRecordHeader(absl::Span<const std::byte> source);

}  // namespace cairn
