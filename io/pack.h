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

// Tensors below this share a record header with others, and one write: see FORMAT.md, "Pack".
inline constexpr uint64_t kPackedPayloadBytesMax = (uint64_t{64} << 10) - 1;
// Header and payloads of a pack: what fits one request to the device.
inline constexpr uint64_t kPackBytesMax = (uint64_t{1} << 20) + (uint64_t{64} << 10);

// What stands before the payloads of a pack. Its members are index entries, as the index has them.
struct PackHeader {
  struct Member {
    IndexKey key;
    IndexRecord record;  // With this pack's pack_offset and header_bytes.
  };

  StoreUuid store_uuid = {};
  std::string fingerprint;
  uint32_t fingerprint_id = 0;
  uint64_t offset = 0;  // On L3.
  uint32_t header_bytes = 0;
  std::vector<Member> members;  // Keys are views: of the caller's, or of the decoded bytes.
};

// What a member takes of the header, and the size of a header whose members take so much.
uint64_t PackMemberBytes(size_t key_bytes, uint8_t rank);
uint32_t PackHeaderBytes(size_t fingerprint_bytes, uint64_t members_bytes);

// Fills all of `target`, whose size must be header.header_bytes.
void EncodePackHeader(const PackHeader& header, absl::Span<std::byte> target);

// As DecodeRecordHeader: kNotFound where no pack starts, kDataLoss where one does and is damaged.
absl::StatusOr<PackHeader> DecodePackHeader(absl::Span<const std::byte> source);

}  // namespace cairn
