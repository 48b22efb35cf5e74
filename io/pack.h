#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/index.h"
#include "io/record.h"

namespace cairn {

// Tensors up to this share a table in the place of record headers, and one write: see FORMAT.md.
inline constexpr uint64_t kPackedPayloadBytesMax = (uint64_t{64} << 10) - 1;
// Payloads and table of a pack: what fits one request to the device.
inline constexpr uint64_t kPackBytesMax = (uint64_t{1} << 20) + (uint64_t{64} << 10);

// What stands behind the payloads of a pack. Its members are index entries, as the index has them.
struct PackTable {
  struct Member {
    IndexKey key;
    IndexRecord record;  // With this table's offset and size as pack_offset and header_bytes.
  };

  StoreUuid store_uuid = {};
  std::string fingerprint;
  uint32_t fingerprint_id = 0;
  uint64_t offset = 0;  // On L3.
  uint32_t table_bytes = 0;
  std::vector<Member> members;  // Keys are views: of the caller's, or of the decoded bytes.
};

// What a member takes of the table, and the size of a table whose members take so much.
uint64_t PackMemberBytes(size_t key_bytes, uint8_t rank);
uint32_t PackTableBytes(size_t fingerprint_bytes, uint64_t members_bytes);

// Fills all of `target`, whose size must be table.table_bytes.
void EncodePackTable(const PackTable& table, absl::Span<std::byte> target);

// As DecodeRecordHeader: kNotFound where no table starts, kDataLoss where one does and is damaged.
absl::StatusOr<PackTable> DecodePackTable(absl::Span<const std::byte> source);

}  // namespace cairn
