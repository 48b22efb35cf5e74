// The header before every payload (io/record.h).

#include <algorithm>

#include "io/checksum.h"
#include "io/record.h"
#include "src/base/check.h"
#include "tests/fuzz/repair.h"
#include "tests/fuzz/target.h"

namespace cairn::fuzz {
namespace {

constexpr size_t kHeaderBytesAt = 12;
// Of the headers made whole again here: that of a tensor of some 8 GiB.
constexpr size_t kRepairedBytesMax = size_t{16} * kRecordAlignment;

std::string Encoded(const RecordHeader& header) {
  std::string bytes(header.record.header_bytes, '\xee');
  EncodeRecordHeader(header, {reinterpret_cast<std::byte*>(bytes.data()), bytes.size()});
  return bytes;
}

bool Decodes(std::string_view bytes) {
  const absl::StatusOr<RecordHeader> header =
      DecodeRecordHeader({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
  if (!header.ok()) {
    CAIRN_CHECK(absl::IsNotFound(header.status()) || absl::IsDataLoss(header.status()));
    return false;
  }
  const IndexRecord& record = header->record;
  CAIRN_CHECK(record.header_bytes <= bytes.size());
  CAIRN_CHECK(header->chunk_sums.size() <= bytes.size() / 8);
  CAIRN_CHECK(record.payload_bytes <= kPayloadBytesMax);
  CAIRN_CHECK(record.extent_bytes() >= record.payload_bytes);
  // What is accepted has one spelling.
  CAIRN_CHECK(Encoded(*header) == bytes.substr(0, record.header_bytes));
  return true;
}

std::string Repaired(std::string_view input) {
  FieldReader reader(input.substr(std::min(kHeaderBytesAt, input.size())));
  const size_t header_bytes = reader.U32();
  std::string repaired(input.substr(0, kRepairedBytesMax));
  repaired.resize(std::clamp(header_bytes, kSumBytes, kRepairedBytesMax));
  PutSum("", repaired);
  return repaired;
}

RecordHeader Sample(std::string fingerprint, std::string key, const TensorMeta& meta) {
  RecordHeader header;
  header.store_uuid.fill(0x5a);
  header.fingerprint = std::move(fingerprint);
  header.fingerprint_id = 3;
  header.key = std::move(key);
  IndexRecord& record = header.record;
  record.sequence = 77;
  record.offset = uint64_t{1} << 30;
  record.meta = meta;
  record.payload_bytes = meta.byte_count();
  record.header_bytes =
      RecordHeaderBytes(header.fingerprint.size(), header.key.size(), record.payload_bytes);
  record.checksum = 0x0123456789abcdef;
  for (uint64_t i = 0; i < ChecksumChunkCount(record.payload_bytes); ++i) {
    header.chunk_sums.push_back(~i * 0x9e3779b97f4a7c15);
  }
  return header;
}

}  // namespace

bool Examine(std::string_view input) {
  const bool as_it_is = Decodes(input);
  return Decodes(Repaired(input)) || as_it_is;
}

std::vector<std::string> Seeds() {
  RecordHeader kept =
      Sample("qwen3-8b bf16", "chain/3f2a", TensorMeta::Of(DType::kBf16, {2, 28, 8, 16, 128}));
  kept.record.retention = Retention::kKeep;
  kept.record.tensor_class = TensorClass::kKv;
  kept.record.expires_unix_ms = 1'700'000'000'000;
  const std::vector<RecordHeader> headers = {
      kept, Sample("", "k", TensorMeta::Bytes(1)),
      Sample("f", std::string(255, 'k'), TensorMeta::Of(DType::kInt4, {1, 1, 1, 1, 1, 1, 1, 3})),
      Sample("fingerprint", "key", TensorMeta::Bytes((uint64_t{3} << 20) + 1)),
      Sample("fingerprint", "key", TensorMeta::Bytes(uint64_t{600} << 20))};
  std::vector<std::string> seeds = {Encoded(headers.front())};
  for (const RecordHeader& header : headers) seeds.push_back(WithoutPadding(Encoded(header)));
  return seeds;
}

}  // namespace cairn::fuzz
