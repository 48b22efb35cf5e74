#include "io/pack.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "io/checksum.h"
#include "io/little_endian.h"
#include "io/raw_index.h"
#include "src/base/check.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

constexpr std::string_view kMagic = "CAIRNPAK";
constexpr uint32_t kPackVersion = 1;
constexpr size_t kFixedBytes = 56;
constexpr size_t kSumBytes = 8;
constexpr size_t kMemberSizesBytes = 4;
constexpr size_t kFingerprintBytesMax = 255;

constexpr size_t TextBytes(size_t fingerprint_bytes) { return (fingerprint_bytes + 7) / 8 * 8; }

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(absl::StrCat("pack header: ", ToAbsl(what)));
}

absl::StatusOr<PackHeader::Member> DecodeMember(const PackHeader& header, FieldReader& reader) {
  const uint32_t sizes = reader.U32();
  const std::string_view raw_key = reader.Bytes(sizes & 0xffff);
  const std::string_view value = reader.Bytes(sizes >> 16);
  if (!reader.ok()) return Damaged("cut off");
  const absl::StatusOr<IndexKey> key = DecodeIndexKey(raw_key);
  if (!key.ok()) return key.status();
  const absl::StatusOr<IndexRecord> record = DecodeIndexRecord(raw_key, value);
  if (!record.ok()) return record.status();
  if (key->fingerprint_id != header.fingerprint_id || record->pack_offset != header.offset ||
      record->header_bytes != header.header_bytes) {
    return Damaged("a member is of another pack");
  }
  return PackHeader::Member{.key = *key, .record = *record};
}

// The fields before the members, `reader` behind the checksummed sizes.
bool DecodeFixed(FieldReader& reader, PackHeader& header, uint32_t& count) {
  const std::string_view uuid = reader.Bytes(header.store_uuid.size());
  std::copy(uuid.begin(), uuid.end(), header.store_uuid.begin());
  header.fingerprint_id = reader.U32();
  const size_t fingerprint_bytes = reader.U8();
  bool zeros = reader.Zeros(3);
  header.offset = reader.U64();
  count = reader.U32();
  zeros = reader.Zeros(4) && zeros;
  header.fingerprint = std::string(reader.Bytes(fingerprint_bytes));
  return reader.Zeros(TextBytes(fingerprint_bytes) - fingerprint_bytes) && zeros && reader.ok();
}

}  // namespace

uint64_t PackMemberBytes(size_t key_bytes, uint8_t rank) {
  return kMemberSizesBytes + IndexKeyBytes(key_bytes) + IndexRecordBytes(rank);
}

uint32_t PackHeaderBytes(size_t fingerprint_bytes, uint64_t members_bytes) {
  const uint64_t bytes = kFixedBytes + TextBytes(fingerprint_bytes) + members_bytes + kSumBytes;
  return static_cast<uint32_t>((bytes + kRecordAlignment - 1) / kRecordAlignment *
                               kRecordAlignment);
}

void EncodePackHeader(const PackHeader& header, absl::Span<std::byte> target) {
  CAIRN_CHECK(header.fingerprint.size() <= kFingerprintBytesMax);
  CAIRN_CHECK(target.size() == header.header_bytes);
  FieldWriter writer(reinterpret_cast<char*>(target.data()), target.size());
  writer.Bytes(kMagic);
  writer.U32(kPackVersion);
  writer.U32(header.header_bytes);
  writer.Bytes({reinterpret_cast<const char*>(header.store_uuid.data()), header.store_uuid.size()});
  writer.U32(header.fingerprint_id);
  writer.U8(static_cast<uint8_t>(header.fingerprint.size()));
  writer.Zeros(3);
  writer.U64(header.offset);
  writer.U32(static_cast<uint32_t>(header.members.size()));
  writer.Zeros(4);
  writer.Bytes(header.fingerprint);
  writer.Zeros(TextBytes(header.fingerprint.size()) - header.fingerprint.size());
  for (const PackHeader::Member& member : header.members) {
    const std::string raw_key = EncodeIndexKey(member.key);
    const std::string value = EncodeIndexRecord(raw_key, member.record);
    writer.U32(static_cast<uint32_t>(raw_key.size() | value.size() << 16));
    writer.Bytes(raw_key);
    writer.Bytes(value);
  }
  writer.Zeros(target.size() - kSumBytes - writer.position());
  writer.U64(StructureChecksum(writer.written()));
}

absl::StatusOr<PackHeader> DecodePackHeader(absl::Span<const std::byte> source) {
  const std::string_view bytes(reinterpret_cast<const char*>(source.data()), source.size());
  if (bytes.substr(0, kMagic.size()) != kMagic) return absl::NotFoundError("no pack here");
  FieldReader reader(bytes.substr(kMagic.size()));
  PackHeader header;
  const uint32_t version = reader.U32();
  header.header_bytes = reader.U32();
  if (!reader.ok()) return Damaged("cut off");
  if (version != kPackVersion) {
    return Damaged(absl::StrCat("version ", version, ", this build reads ", kPackVersion));
  }
  if (header.header_bytes < kRecordAlignment || header.header_bytes % kRecordAlignment != 0 ||
      header.header_bytes > kPackBytesMax) {
    return Damaged("of impossible size");
  }
  if (header.header_bytes > bytes.size()) return Damaged("cut off");
  const std::string_view body = bytes.substr(0, header.header_bytes - kSumBytes);
  if (FieldReader(bytes.substr(body.size())).U64() != StructureChecksum(body)) {
    return Damaged("the checksum does not match");
  }
  reader = FieldReader(body.substr(kMagic.size() + 8));
  uint32_t count = 0;
  if (!DecodeFixed(reader, header, count)) return Damaged("reserved bytes are not zero");
  // Bounded by the bytes at hand, so a hostile count allocates nothing.
  if (count == 0 || count > reader.left() / PackMemberBytes(1, 0)) {
    return Damaged("of an impossible number of members");
  }
  header.members.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    absl::StatusOr<PackHeader::Member> member = DecodeMember(header, reader);
    if (!member.ok()) return member.status();
    header.members.push_back(*std::move(member));
  }
  if (!reader.Zeros(reader.left())) return Damaged("reserved bytes are not zero");
  return header;
}

}  // namespace cairn
