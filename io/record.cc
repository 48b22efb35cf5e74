#include "io/record.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "cairn/key.h"
#include "io/checksum.h"
#include "io/little_endian.h"
#include "src/base/check.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

constexpr std::string_view kRecordMagic = "CAIRNREC";
constexpr uint32_t kRecordVersion = 1;
constexpr size_t kRecordFixedBytes = 152;

// The two texts are padded so that the list of sums begins at a multiple of 8.
constexpr size_t TextBytes(size_t fingerprint_bytes, size_t key_bytes) {
  return (fingerprint_bytes + key_bytes + 7) / 8 * 8;
}

absl::Status DamagedHeader(std::string_view what) {
  return absl::DataLossError(absl::StrCat("record header: ", ToAbsl(what)));
}

absl::Status ValidateHeader(const RecordHeader& header, size_t chunk_count) {
  const IndexRecord& record = header.record;
  const absl::Status meta = record.meta.Validate();
  if (!meta.ok()) return DamagedHeader(ToStd(meta.message()));
  if (record.payload_bytes > kPayloadBytesMax || record.payload_bytes != record.meta.byte_count()) {
    return DamagedHeader("the payload's size is not that of its shape");
  }
  if (header.fingerprint_id == 0) return DamagedHeader("no fingerprint number");
  if (header.key.empty()) return DamagedHeader("no key");
  if (record.offset < kRecordAlignment || record.offset % kRecordAlignment != 0) {
    return DamagedHeader("misplaced extent");
  }
  if (record.expires_unix_ms < 0) return DamagedHeader("expires before 1970");
  if (record.tensor_class > TensorClass::kText) return DamagedHeader("unknown class");
  if (record.retention > Retention::kKeep) return DamagedHeader("unknown retention");
  if (record.recompute_level > kRecomputeLevelMax)
    return DamagedHeader("unknown cost of recomputing");
  if (chunk_count != ChecksumChunkCount(record.payload_bytes)) {
    return DamagedHeader("the number of chunks is not that of the payload");
  }
  if (record.header_bytes !=
      RecordHeaderBytes(header.fingerprint.size(), header.key.size(), record.payload_bytes)) {
    return DamagedHeader("of a size that its fields do not have");
  }
  return absl::OkStatus();
}

}  // namespace

uint32_t RecordHeaderBytes(size_t fingerprint_bytes, size_t key_bytes, uint64_t payload_bytes) {
  const uint64_t bytes = kRecordFixedBytes + TextBytes(fingerprint_bytes, key_bytes) +
                         8 * ChecksumChunkCount(std::min(payload_bytes, kPayloadBytesMax)) +
                         kStructureSumBytes;
  return static_cast<uint32_t>((bytes + kRecordAlignment - 1) / kRecordAlignment *
                               kRecordAlignment);
}

void EncodeRecordHeader(const RecordHeader& header, absl::Span<std::byte> target) {
  const IndexRecord& record = header.record;
  CAIRN_CHECK(header.fingerprint.size() <= kFingerprintBytesMax);
  CAIRN_CHECK(header.key.size() <= TensorKey::kBytesMax);
  CAIRN_CHECK(header.chunk_sums.size() == ChecksumChunkCount(record.payload_bytes));
  CAIRN_CHECK(record.header_bytes == RecordHeaderBytes(header.fingerprint.size(), header.key.size(),
                                                       record.payload_bytes));
  CAIRN_CHECK(target.size() == record.header_bytes);
  FieldWriter writer(reinterpret_cast<char*>(target.data()), target.size());
  writer.Bytes(kRecordMagic);
  writer.U32(kRecordVersion);
  writer.U32(record.header_bytes);
  writer.Bytes({reinterpret_cast<const char*>(header.store_uuid.data()), header.store_uuid.size()});
  writer.U32(header.fingerprint_id);
  writer.U8(static_cast<uint8_t>(record.tensor_class));
  writer.U8(static_cast<uint8_t>(record.retention));
  writer.U8(static_cast<uint8_t>(record.meta.dtype));
  writer.U8(record.meta.rank);
  writer.U64(record.sequence);
  writer.U64(record.offset);
  writer.U64(record.payload_bytes);
  writer.U64(record.checksum);
  writer.U64(static_cast<uint64_t>(record.expires_unix_ms));
  writer.U32(static_cast<uint32_t>(header.chunk_sums.size()));
  writer.U8(static_cast<uint8_t>(header.fingerprint.size()));
  writer.U8(static_cast<uint8_t>(header.key.size()));
  writer.U8(record.recompute_level);
  writer.Zeros(1);
  for (uint8_t i = 0; i < TensorMeta::kRankMax; ++i) {
    writer.U64(i < record.meta.rank ? static_cast<uint64_t>(record.meta.dims[i]) : 0);
  }
  writer.Bytes(header.fingerprint);
  writer.Bytes(header.key);
  writer.Zeros(kRecordFixedBytes + TextBytes(header.fingerprint.size(), header.key.size()) -
               writer.position());
  for (const uint64_t sum : header.chunk_sums) writer.U64(sum);
  writer.Zeros(target.size() - kStructureSumBytes - writer.position());
  writer.U64(StructureChecksum(writer.written()));
}

absl::StatusOr<RecordHeader> DecodeRecordHeader(absl::Span<const std::byte> source) {
  const std::string_view bytes(reinterpret_cast<const char*>(source.data()), source.size());
  if (bytes.substr(0, kRecordMagic.size()) != kRecordMagic) {
    return absl::NotFoundError("no record header here");
  }
  FieldReader reader(bytes.substr(kRecordMagic.size()));
  RecordHeader header;
  IndexRecord& record = header.record;
  const uint32_t version = reader.U32();
  record.header_bytes = reader.U32();
  if (!reader.ok()) return DamagedHeader("cut off");
  if (version != kRecordVersion) {
    return DamagedHeader(absl::StrCat("version ", version, ", this build reads ", kRecordVersion));
  }
  if (record.header_bytes < kRecordAlignment || record.header_bytes % kRecordAlignment != 0) {
    return DamagedHeader("of impossible size");
  }
  if (record.header_bytes > bytes.size()) return DamagedHeader("cut off");
  const std::string_view body = bytes.substr(0, record.header_bytes - kStructureSumBytes);
  if (FieldReader(bytes.substr(body.size())).U64() != StructureChecksum(body)) {
    return DamagedHeader("the checksum does not match");
  }

  reader = FieldReader(body.substr(kRecordMagic.size() + 8));
  const std::string_view uuid = reader.Bytes(header.store_uuid.size());
  std::copy(uuid.begin(), uuid.end(), header.store_uuid.begin());
  header.fingerprint_id = reader.U32();
  record.tensor_class = static_cast<TensorClass>(reader.U8());
  record.retention = static_cast<Retention>(reader.U8());
  record.meta.dtype = static_cast<DType>(reader.U8());
  record.meta.rank = reader.U8();
  record.sequence = reader.U64();
  record.offset = reader.U64();
  record.payload_bytes = reader.U64();
  record.checksum = reader.U64();
  record.expires_unix_ms = static_cast<int64_t>(reader.U64());
  const size_t chunk_count = reader.U32();
  const size_t fingerprint_bytes = reader.U8();
  const size_t key_bytes = reader.U8();
  record.recompute_level = reader.U8();
  bool zeros = reader.Zeros(1);
  for (uint8_t i = 0; i < TensorMeta::kRankMax; ++i) {
    record.meta.dims[i] = static_cast<int64_t>(reader.U64());
    if (i >= record.meta.rank) zeros = zeros && record.meta.dims[i] == 0;
  }
  header.fingerprint = std::string(reader.Bytes(fingerprint_bytes));
  header.key = std::string(reader.Bytes(key_bytes));
  zeros = reader.Zeros(TextBytes(fingerprint_bytes, key_bytes) - fingerprint_bytes - key_bytes) &&
          zeros;
  const absl::Status valid = ValidateHeader(header, chunk_count);
  if (!valid.ok()) return valid;
  // Bounded by the bytes at hand, so a hostile count allocates nothing.
  if (chunk_count > reader.left() / 8) return DamagedHeader("cut off");
  header.chunk_sums.reserve(chunk_count);
  for (size_t i = 0; i < chunk_count; ++i) header.chunk_sums.push_back(reader.U64());
  zeros = reader.Zeros(reader.left()) && zeros;
  if (!reader.ok() || !zeros) return DamagedHeader("reserved bytes are not zero");
  return header;
}

}  // namespace cairn
