#include "io/index.h"

#include "absl/strings/str_cat.h"
#include "cairn/key.h"
#include "io/checksum.h"
#include "io/little_endian.h"
#include "io/pack.h"
#include "io/raw_index.h"
#include "io/record.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

constexpr uint8_t kValueFormat = 1;
constexpr char kFingerprintPrefix = 'F';
constexpr char kTensorPrefix = 'T';
constexpr size_t kNumberedKeyBytes = 5;
constexpr size_t kRecordValueBytesMin = 64;

absl::Status DamagedEntry(std::string_view what) {
  return absl::DataLossError(absl::StrCat("index entry: ", ToAbsl(what)));
}

// The number is big-endian, alone in the whole format: so the order of the bytes is the order of
// the numbers.
std::string NumberedKey(char prefix, uint32_t id) {
  std::string raw_key(1, prefix);
  for (int shift = 24; shift >= 0; shift -= 8) {
    raw_key.push_back(static_cast<char>(static_cast<uint8_t>(id >> shift)));
  }
  return raw_key;
}

// 0, which no fingerprint has, when the key is not of this kind.
uint32_t NumberOf(char prefix, std::string_view raw_key) {
  if (raw_key.size() < kNumberedKeyBytes || raw_key[0] != prefix) return 0;
  uint32_t id = 0;
  for (size_t i = 1; i < kNumberedKeyBytes; ++i) {
    id = id << 8 | static_cast<uint8_t>(raw_key[i]);
  }
  return id;
}

// The sum covers the key too, so that a value that turns up under another key does not verify.
uint64_t ValueSum(std::string_view raw_key, std::string_view value) {
  std::string both;
  both.reserve(raw_key.size() + value.size());
  both.append(raw_key).append(value);
  return StructureChecksum(both);
}

void AppendSum(std::string_view raw_key, std::string& value) {
  const uint64_t sum = ValueSum(raw_key, value);
  char bytes[kStructureSumBytes];
  FieldWriter(bytes, sizeof(bytes)).U64(sum);
  value.append(bytes, sizeof(bytes));
}

// The value without its sum.
absl::StatusOr<std::string_view> Verify(std::string_view raw_key, std::string_view value) {
  if (value.size() < 1 + kStructureSumBytes) return DamagedEntry("too short");
  const std::string_view body = value.substr(0, value.size() - kStructureSumBytes);
  if (FieldReader(value.substr(body.size())).U64() != ValueSum(raw_key, body)) {
    return DamagedEntry("the checksum does not match");
  }
  if (static_cast<uint8_t>(body[0]) != kValueFormat) {
    return DamagedEntry(absl::StrCat("format ", static_cast<uint8_t>(body[0]),
                                     ", this build reads ", kValueFormat));
  }
  return body;
}

absl::Status ValidateExtent(size_t key_bytes, const IndexRecord& record) {
  if (record.payload_bytes > kPayloadBytesMax) return DamagedEntry("payload of impossible size");
  if (record.payload_bytes != record.meta.byte_count()) {
    return DamagedEntry("the payload's size is not that of its shape");
  }
  if (record.offset % kRecordAlignment != 0 || record.offset < kRecordAlignment) {
    return DamagedEntry("misplaced extent");
  }
  if (record.offset > uint64_t{1} << 62) return DamagedEntry("extent at an impossible offset");
  if (record.packed()) {
    const bool fits = record.payload_bytes <= kPackedPayloadBytesMax &&
                      record.header_bytes >= kRecordAlignment &&
                      record.header_bytes % kRecordAlignment == 0 &&
                      record.offset + record.extent_bytes() <= record.pack_offset &&
                      record.pack_offset + record.header_bytes - record.offset <= kPackBytesMax;
    return fits ? absl::OkStatus() : DamagedEntry("in a pack of impossible size");
  }
  if (record.header_bytes < RecordHeaderBytes(0, key_bytes, record.payload_bytes) ||
      record.header_bytes >
          RecordHeaderBytes(kFingerprintBytesMax, key_bytes, record.payload_bytes) ||
      record.header_bytes % kRecordAlignment != 0) {
    return DamagedEntry("record header of impossible size");
  }
  return absl::OkStatus();
}

}  // namespace

std::string RebuildInstruction(const std::string& store_path) {
  return absl::StrCat(" (to find its tensors again, run: store-inspect rebuild-index ", store_path,
                      ")");
}

uint64_t HashKey(IndexKey key) {
  return ChunkChecksum(key.fingerprint_id, key.key.data(), key.key.size());
}

size_t IndexKeyBytes(size_t key_bytes) { return kNumberedKeyBytes + key_bytes; }

size_t IndexRecordBytes(uint8_t rank) { return kRecordValueBytesMin + 8 * size_t{rank}; }

uint64_t IndexFootprintBytes(size_t key_bytes, uint8_t rank) {
  return 2 * (IndexRecordBytes(rank) + 2 * IndexKeyBytes(key_bytes));
}

std::string EncodeIndexKey(IndexKey key) {
  std::string raw_key;
  raw_key.reserve(IndexKeyBytes(key.key.size()));
  return raw_key.append(NumberedKey(kTensorPrefix, key.fingerprint_id)).append(key.key);
}

absl::StatusOr<IndexKey> DecodeIndexKey(std::string_view raw_key) {
  const uint32_t id = NumberOf(kTensorPrefix, raw_key);
  if (id == 0) return DamagedEntry("not the key of a tensor");
  const std::string_view key = raw_key.substr(kNumberedKeyBytes);
  if (key.empty() || key.size() > TensorKey::kBytesMax)
    return DamagedEntry("key of impossible size");
  return IndexKey{.fingerprint_id = id, .key = key};
}

std::string EncodeIndexRecord(std::string_view raw_key, const IndexRecord& record) {
  std::string value;
  value.reserve(IndexRecordBytes(record.meta.rank));
  value.resize(IndexRecordBytes(record.meta.rank) - kStructureSumBytes);
  FieldWriter writer(value.data(), value.size());
  writer.U8(kValueFormat);
  writer.U8(static_cast<uint8_t>(record.tensor_class));
  writer.U8(static_cast<uint8_t>(record.retention));
  writer.U8(static_cast<uint8_t>(record.meta.dtype));
  writer.U8(record.meta.rank);
  writer.U8(record.recompute_level);
  writer.Zeros(2);
  writer.U64(record.sequence);
  writer.U64(record.offset);
  writer.U64(record.payload_bytes);
  writer.U32(record.header_bytes);
  // In blocks: a pack's table is not far from its members.
  writer.U32(record.packed()
                 ? static_cast<uint32_t>((record.pack_offset - record.offset) / kRecordAlignment)
                 : 0);
  writer.U64(record.checksum);
  writer.U64(static_cast<uint64_t>(record.expires_unix_ms));
  for (uint8_t i = 0; i < record.meta.rank; ++i) {
    writer.U64(static_cast<uint64_t>(record.meta.dims[i]));
  }
  AppendSum(raw_key, value);
  return value;
}

absl::StatusOr<IndexRecord> DecodeIndexRecord(std::string_view raw_key, std::string_view value) {
  const absl::StatusOr<IndexKey> key = DecodeIndexKey(raw_key);
  if (!key.ok()) return key.status();
  const absl::StatusOr<std::string_view> body = Verify(raw_key, value);
  if (!body.ok()) return body.status();

  FieldReader reader(*body);
  IndexRecord record;
  reader.U8();  // The format, already seen.
  const uint8_t tensor_class = reader.U8();
  const uint8_t retention = reader.U8();
  record.meta.dtype = static_cast<DType>(reader.U8());
  record.meta.rank = reader.U8();
  record.recompute_level = reader.U8();
  const bool zeros = reader.Zeros(2);
  record.sequence = reader.U64();
  record.offset = reader.U64();
  record.payload_bytes = reader.U64();
  record.header_bytes = reader.U32();
  const uint64_t pack_distance = reader.U32() * kRecordAlignment;
  // An impossible sum is refused with the extent.
  record.pack_offset = pack_distance == 0 ? 0 : record.offset + pack_distance;
  record.checksum = reader.U64();
  record.expires_unix_ms = static_cast<int64_t>(reader.U64());
  if (!reader.ok() || record.meta.rank > TensorMeta::kRankMax) return DamagedEntry("too short");
  for (uint8_t i = 0; i < record.meta.rank; ++i) {
    record.meta.dims[i] = static_cast<int64_t>(reader.U64());
  }
  if (!reader.ok() || reader.left() != 0)
    return DamagedEntry("of a length that its rank does not have");
  if (!zeros) return DamagedEntry("reserved bytes are not zero");
  if (tensor_class > static_cast<uint8_t>(TensorClass::kText)) return DamagedEntry("unknown class");
  if (retention > static_cast<uint8_t>(Retention::kKeep)) return DamagedEntry("unknown retention");
  if (record.recompute_level > kRecomputeLevelMax)
    return DamagedEntry("unknown cost of recomputing");
  if (record.expires_unix_ms < 0) return DamagedEntry("expires before 1970");
  record.tensor_class = static_cast<TensorClass>(tensor_class);
  record.retention = static_cast<Retention>(retention);
  const absl::Status meta = record.meta.Validate();
  if (!meta.ok()) return DamagedEntry(ToStd(meta.message()));
  const absl::Status extent = ValidateExtent(key->key.size(), record);
  if (!extent.ok()) return extent;
  return record;
}

std::string EncodeFingerprintKey(uint32_t id) { return NumberedKey(kFingerprintPrefix, id); }

std::string EncodeFingerprint(std::string_view raw_key, std::string_view text) {
  std::string value(1, static_cast<char>(kValueFormat));
  value.append(text);
  AppendSum(raw_key, value);
  return value;
}

absl::StatusOr<Fingerprint> DecodeFingerprint(std::string_view raw_key, std::string_view value) {
  const uint32_t id = NumberOf(kFingerprintPrefix, raw_key);
  if (id == 0 || raw_key.size() != kNumberedKeyBytes) {
    return DamagedEntry("not the key of a fingerprint");
  }
  const absl::StatusOr<std::string_view> body = Verify(raw_key, value);
  if (!body.ok()) return body.status();
  const std::string_view text = body->substr(1);
  if (text.size() > kFingerprintBytesMax) return DamagedEntry("fingerprint of impossible size");
  return Fingerprint{.id = id, .text = std::string(text)};
}

std::string EncodeNextFingerprint(uint32_t id) {
  std::string value(5, '\0');
  FieldWriter writer(value.data(), value.size());
  writer.U8(kValueFormat);
  writer.U32(id);
  AppendSum(kNextFingerprintKey, value);
  return value;
}

absl::StatusOr<uint32_t> DecodeNextFingerprint(std::string_view value) {
  const absl::StatusOr<std::string_view> body = Verify(kNextFingerprintKey, value);
  if (!body.ok()) return body.status();
  FieldReader reader(*body);
  reader.U8();
  const uint32_t id = reader.U32();
  if (!reader.ok() || reader.left() != 0 || id == 0) return DamagedEntry("next fingerprint number");
  return id;
}

}  // namespace cairn
