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

constexpr std::string_view kPackMagic = "CAIRNPAK";
constexpr uint32_t kPackVersion = 1;
constexpr size_t kPackFixedBytes = 56;
constexpr size_t kMemberSizesBytes = 4;

constexpr size_t TextBytes(size_t fingerprint_bytes) { return (fingerprint_bytes + 7) / 8 * 8; }

absl::Status DamagedTable(std::string_view what) {
  return absl::DataLossError(absl::StrCat("pack table: ", ToAbsl(what)));
}

absl::StatusOr<PackTable::Member> DecodeMember(const PackTable& table, FieldReader& reader) {
  const uint32_t sizes = reader.U32();
  const std::string_view raw_key = reader.Bytes(sizes & 0xffff);
  const std::string_view value = reader.Bytes(sizes >> 16);
  if (!reader.ok()) return DamagedTable("cut off");
  const absl::StatusOr<IndexKey> key = DecodeIndexKey(raw_key);
  if (!key.ok()) return key.status();
  const absl::StatusOr<IndexRecord> record = DecodeIndexRecord(raw_key, value);
  if (!record.ok()) return record.status();
  if (key->fingerprint_id != table.fingerprint_id || record->pack_offset != table.offset ||
      record->header_bytes != table.table_bytes) {
    return DamagedTable("a member is of another pack");
  }
  return PackTable::Member{.key = *key, .record = *record};
}

// The fields before the members, `reader` behind the checksummed sizes.
bool DecodeFixed(FieldReader& reader, PackTable& table, uint32_t& count) {
  const std::string_view uuid = reader.Bytes(table.store_uuid.size());
  std::copy(uuid.begin(), uuid.end(), table.store_uuid.begin());
  table.fingerprint_id = reader.U32();
  const size_t fingerprint_bytes = reader.U8();
  bool zeros = reader.Zeros(3);
  table.offset = reader.U64();
  count = reader.U32();
  zeros = reader.Zeros(4) && zeros;
  table.fingerprint = std::string(reader.Bytes(fingerprint_bytes));
  return reader.Zeros(TextBytes(fingerprint_bytes) - fingerprint_bytes) && zeros && reader.ok();
}

}  // namespace

uint64_t PackMemberBytes(size_t key_bytes, uint8_t rank) {
  return kMemberSizesBytes + IndexKeyBytes(key_bytes) + IndexRecordBytes(rank);
}

uint32_t PackTableBytes(size_t fingerprint_bytes, uint64_t members_bytes) {
  const uint64_t bytes =
      kPackFixedBytes + TextBytes(fingerprint_bytes) + members_bytes + kStructureSumBytes;
  return static_cast<uint32_t>((bytes + kRecordAlignment - 1) / kRecordAlignment *
                               kRecordAlignment);
}

void EncodePackTable(const PackTable& table, absl::Span<std::byte> target) {
  CAIRN_CHECK(table.fingerprint.size() <= kFingerprintBytesMax);
  CAIRN_CHECK(target.size() == table.table_bytes);
  FieldWriter writer(reinterpret_cast<char*>(target.data()), target.size());
  writer.Bytes(kPackMagic);
  writer.U32(kPackVersion);
  writer.U32(table.table_bytes);
  writer.Bytes({reinterpret_cast<const char*>(table.store_uuid.data()), table.store_uuid.size()});
  writer.U32(table.fingerprint_id);
  writer.U8(static_cast<uint8_t>(table.fingerprint.size()));
  writer.Zeros(3);
  writer.U64(table.offset);
  writer.U32(static_cast<uint32_t>(table.members.size()));
  writer.Zeros(4);
  writer.Bytes(table.fingerprint);
  writer.Zeros(TextBytes(table.fingerprint.size()) - table.fingerprint.size());
  for (const PackTable::Member& member : table.members) {
    const std::string raw_key = EncodeIndexKey(member.key);
    const std::string value = EncodeIndexRecord(raw_key, member.record);
    writer.U32(static_cast<uint32_t>(raw_key.size() | value.size() << 16));
    writer.Bytes(raw_key);
    writer.Bytes(value);
  }
  writer.Zeros(target.size() - kStructureSumBytes - writer.position());
  writer.U64(StructureChecksum(writer.written()));
}

absl::StatusOr<PackTable> DecodePackTable(absl::Span<const std::byte> source) {
  const std::string_view bytes(reinterpret_cast<const char*>(source.data()), source.size());
  if (bytes.substr(0, kPackMagic.size()) != kPackMagic)
    return absl::NotFoundError("no pack table here");
  FieldReader reader(bytes.substr(kPackMagic.size()));
  PackTable table;
  const uint32_t version = reader.U32();
  table.table_bytes = reader.U32();
  if (!reader.ok()) return DamagedTable("cut off");
  if (version != kPackVersion) {
    return DamagedTable(absl::StrCat("version ", version, ", this build reads ", kPackVersion));
  }
  if (table.table_bytes < kRecordAlignment || table.table_bytes % kRecordAlignment != 0 ||
      table.table_bytes > kPackBytesMax) {
    return DamagedTable("of impossible size");
  }
  if (table.table_bytes > bytes.size()) return DamagedTable("cut off");
  const std::string_view body = bytes.substr(0, table.table_bytes - kStructureSumBytes);
  if (FieldReader(bytes.substr(body.size())).U64() != StructureChecksum(body)) {
    return DamagedTable("the checksum does not match");
  }
  reader = FieldReader(body.substr(kPackMagic.size() + 8));
  uint32_t count = 0;
  if (!DecodeFixed(reader, table, count)) return DamagedTable("reserved bytes are not zero");
  // Bounded by the bytes at hand, so a hostile count allocates nothing.
  if (count == 0 || count > reader.left() / PackMemberBytes(1, 0)) {
    return DamagedTable("of an impossible number of members");
  }
  table.members.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    absl::StatusOr<PackTable::Member> member = DecodeMember(table, reader);
    if (!member.ok()) return member.status();
    table.members.push_back(*std::move(member));
  }
  if (!reader.Zeros(reader.left())) return DamagedTable("reserved bytes are not zero");
  return table;
}

}  // namespace cairn
