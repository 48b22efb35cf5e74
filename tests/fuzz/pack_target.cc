// The table behind the payloads of a pack (io/pack.h).

#include <algorithm>

#include "io/checksum.h"
#include "io/pack.h"
#include "io/raw_index.h"
#include "src/base/check.h"
#include "tests/fuzz/repair.h"
#include "tests/fuzz/target.h"

namespace cairn::fuzz {
namespace {

constexpr size_t kTableBytesAt = 12;
constexpr size_t kFingerprintBytesAt = 36;
constexpr size_t kFixedBytes = 56;
// Of the tables made whole again here.
constexpr size_t kRepairedBytesMax = size_t{16} * kRecordAlignment;

std::string Encoded(const PackTable& table) {
  std::string bytes(table.table_bytes, '\xee');
  EncodePackTable(table, {reinterpret_cast<std::byte*>(bytes.data()), bytes.size()});
  return bytes;
}

bool Decodes(std::string_view bytes) {
  const absl::StatusOr<PackTable> table =
      DecodePackTable({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
  if (!table.ok()) {
    CAIRN_CHECK(absl::IsNotFound(table.status()) || absl::IsDataLoss(table.status()));
    return false;
  }
  CAIRN_CHECK(table->table_bytes <= bytes.size() && !table->members.empty());
  for (const PackTable::Member& member : table->members) {
    CAIRN_CHECK(member.record.packed() && member.record.header_offset() == table->offset);
    CAIRN_CHECK(member.record.extent_bytes() >= member.record.payload_bytes);
  }
  // What is accepted has one spelling.
  CAIRN_CHECK(Encoded(*table) == bytes.substr(0, table->table_bytes));
  return true;
}

// The sums of the members, where their sizes say they are, and of the whole.
std::string Repaired(std::string_view input) {
  FieldReader head(input.substr(std::min(kTableBytesAt, input.size())));
  const size_t table_bytes = head.U32();
  std::string repaired(input.substr(0, kRepairedBytesMax));
  repaired.resize(std::clamp(table_bytes, kSumBytes, kRepairedBytesMax));
  size_t at = kFixedBytes;
  if (repaired.size() > kFingerprintBytesAt) {
    at += (static_cast<uint8_t>(repaired[kFingerprintBytesAt]) + size_t{7}) / 8 * 8;
  }
  while (at + 4 < repaired.size()) {
    const uint32_t sizes = FieldReader(std::string_view(repaired).substr(at)).U32();
    const size_t key_bytes = sizes & 0xffff;
    const size_t value_bytes = sizes >> 16;
    at += 4;
    if (value_bytes < kSumBytes || at + key_bytes + value_bytes > repaired.size()) break;
    std::string value = repaired.substr(at + key_bytes, value_bytes);
    PutSum(repaired.substr(at, key_bytes), value);
    repaired.replace(at + key_bytes, value_bytes, value);
    at += key_bytes + value_bytes;
  }
  PutSum("", repaired);
  return repaired;
}

PackTable Sample(std::string fingerprint, int members, const TensorMeta& meta) {
  static const std::string kKeys[] = {"k", "chain/3f2a", std::string(255, 'k')};
  PackTable table;
  table.store_uuid.fill(0x5a);
  table.fingerprint = std::move(fingerprint);
  table.fingerprint_id = 3;
  table.offset = uint64_t{1} << 30;
  uint64_t members_bytes = 0;
  for (int i = 0; i < members; ++i) {
    PackTable::Member member;
    member.key = {3, kKeys[i % 3]};
    member.record.sequence = static_cast<uint64_t>(i) + 1;
    member.record.offset = table.offset - kRecordAlignment * static_cast<uint64_t>(members - i);
    member.record.pack_offset = table.offset;
    member.record.meta = meta;
    member.record.payload_bytes = meta.byte_count();
    member.record.checksum = 0x0123456789abcdef;
    members_bytes += PackMemberBytes(member.key.key.size(), meta.rank);
    table.members.push_back(member);
  }
  table.table_bytes = PackTableBytes(table.fingerprint.size(), members_bytes);
  for (PackTable::Member& member : table.members) member.record.header_bytes = table.table_bytes;
  return table;
}

}  // namespace

bool Examine(std::string_view input) {
  const bool as_it_is = Decodes(input);
  return Decodes(Repaired(input)) || as_it_is;
}

std::vector<std::string> Seeds() {
  const std::vector<PackTable> tables = {
      Sample("qwen3-8b bf16", 2, TensorMeta::Of(DType::kBf16, {8, 128})),
      Sample("", 1, TensorMeta::Bytes(1)),
      Sample("f", 60, TensorMeta::Of(DType::kInt4, {1, 1, 1, 1, 1, 1, 1, 3}))};
  std::vector<std::string> seeds = {Encoded(tables.front())};
  for (const PackTable& table : tables) seeds.push_back(WithoutPadding(Encoded(table)));
  return seeds;
}

}  // namespace cairn::fuzz
