// Keys and values of the index (io/index.h, io/raw_index.h). An input is the size of the raw key
// (two bytes, little-endian), the raw key, and the value without its sum.

#include <algorithm>

#include "cairn/key.h"
#include "io/index.h"
#include "io/raw_index.h"
#include "io/record.h"
#include "src/base/check.h"
#include "tests/fuzz/repair.h"
#include "tests/fuzz/target.h"

namespace cairn::fuzz {
namespace {

// Every decoder refuses with kDataLoss, and what one accepts has one spelling.
template <typename T>
bool Accepted(const absl::StatusOr<T>& decoded) {
  CAIRN_CHECK(decoded.ok() || absl::IsDataLoss(decoded.status()));
  return decoded.ok();
}

bool DecodesKey(std::string_view raw_key) {
  const absl::StatusOr<IndexKey> key = DecodeIndexKey(raw_key);
  if (!Accepted(key)) return false;
  CAIRN_CHECK(key->fingerprint_id != 0);
  CAIRN_CHECK(!key->key.empty() && key->key.size() <= TensorKey::kBytesMax);
  CAIRN_CHECK(EncodeIndexKey(*key) == raw_key);
  return true;
}

bool DecodesValue(std::string_view raw_key, std::string_view value) {
  const absl::StatusOr<IndexRecord> record = DecodeIndexRecord(raw_key, value);
  if (Accepted(record)) {
    CAIRN_CHECK(DecodesKey(raw_key));
    CAIRN_CHECK(record->meta.Validate().ok());
    CAIRN_CHECK(record->payload_bytes <= kPayloadBytesMax);
    CAIRN_CHECK(record->extent_bytes() >= record->payload_bytes);
    CAIRN_CHECK(record->offset <= ~record->extent_bytes());
    CAIRN_CHECK(EncodeIndexRecord(raw_key, *record) == value);
  }
  const absl::StatusOr<Fingerprint> fingerprint = DecodeFingerprint(raw_key, value);
  if (Accepted(fingerprint)) {
    CAIRN_CHECK(EncodeFingerprintKey(fingerprint->id) == raw_key);
    CAIRN_CHECK(EncodeFingerprint(raw_key, fingerprint->text) == value);
  }
  CAIRN_CHECK(!record.ok() || !fingerprint.ok());
  bool next_ok = false;
  if (raw_key == kNextFingerprintKey) {
    const absl::StatusOr<uint32_t> next = DecodeNextFingerprint(value);
    next_ok = Accepted(next);
    if (next_ok) CAIRN_CHECK(EncodeNextFingerprint(*next) == value);
  }
  return record.ok() || fingerprint.ok() || next_ok;
}

std::string Joined(std::string_view raw_key, std::string_view value) {
  std::string joined(2, '\0');
  joined[0] = static_cast<char>(raw_key.size() & 0xff);
  joined[1] = static_cast<char>(raw_key.size() >> 8);
  return joined.append(raw_key).append(value.substr(0, value.size() - kSumBytes));
}

std::string RecordSeed(std::string_view key, const TensorMeta& meta) {
  IndexRecord record;
  record.sequence = 12;
  record.offset = uint64_t{5} << 20;
  record.meta = meta;
  record.payload_bytes = meta.byte_count();
  record.header_bytes = RecordHeaderBytes(13, key.size(), record.payload_bytes);
  record.checksum = 0xfedcba9876543210;
  record.tensor_class = TensorClass::kVision;
  record.retention = Retention::kKeep;
  record.expires_unix_ms = 1'700'000'000'000;
  const std::string raw_key = EncodeIndexKey({.fingerprint_id = 2, .key = key});
  return Joined(raw_key, EncodeIndexRecord(raw_key, record));
}

}  // namespace

bool Examine(std::string_view input) {
  FieldReader reader(input);
  const size_t key_bytes = reader.U8() + size_t{256} * reader.U8();
  const std::string_view raw_key = reader.Bytes(std::min(key_bytes, reader.left()));
  const std::string_view body = reader.Bytes(reader.left());
  DecodesKey(raw_key);
  const bool as_it_is = DecodesValue(raw_key, body);
  std::string value = std::string(body) + std::string(kSumBytes, '\0');
  PutSum(raw_key, value);
  return DecodesValue(raw_key, value) || as_it_is;
}

std::vector<std::string> Seeds() {
  const std::string fingerprint_key = EncodeFingerprintKey(2);
  return {
      RecordSeed("k", TensorMeta::Bytes(1)),
      RecordSeed("chain/3f2a", TensorMeta::Of(DType::kBf16, {2, 28, 8, 16, 128})),
      RecordSeed(std::string(255, 'k'), TensorMeta::Of(DType::kInt4, {1, 1, 1, 1, 1, 1, 1, 3})),
      RecordSeed("large", TensorMeta::Bytes(uint64_t{600} << 20)),
      Joined(fingerprint_key, EncodeFingerprint(fingerprint_key, "qwen3-8b bf16")),
      Joined(kNextFingerprintKey, EncodeNextFingerprint(3)),
  };
}

}  // namespace cairn::fuzz
