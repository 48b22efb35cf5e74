#include "io/record.h"

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "io/checksum.h"
#include "tests/disk_fixture.h"

namespace cairn {
namespace {

RecordHeader Sample(const std::string& fingerprint, const std::string& key, uint64_t bytes) {
  RecordHeader header;
  for (size_t i = 0; i < header.store_uuid.size(); ++i) {
    header.store_uuid[i] = static_cast<uint8_t>(i + 1);
  }
  header.fingerprint = fingerprint;
  header.fingerprint_id = 7;
  header.key = key;
  header.record = SampleRecord(fingerprint, key, TensorMeta::Bytes(bytes), 81920, 42);
  header.record.retention = Retention::kKeep;
  header.record.tensor_class = TensorClass::kVision;
  header.record.recompute_level = 9;
  header.record.expires_unix_ms = 1'700'000'000'000;
  for (uint64_t i = 0; i < ChecksumChunkCount(bytes); ++i) header.chunk_sums.push_back(~i * 77);
  return header;
}

std::vector<std::byte> Encoded(const RecordHeader& header) {
  std::vector<std::byte> bytes(header.record.header_bytes, std::byte{0xee});
  EncodeRecordHeader(header, absl::MakeSpan(bytes));
  return bytes;
}

void ExpectSame(const RecordHeader& a, const RecordHeader& b) {
  EXPECT_EQ(a.store_uuid, b.store_uuid);
  EXPECT_EQ(a.fingerprint, b.fingerprint);
  EXPECT_EQ(a.fingerprint_id, b.fingerprint_id);
  EXPECT_EQ(a.key, b.key);
  EXPECT_TRUE(SameRecord(a.record, b.record));
  EXPECT_EQ(a.chunk_sums, b.chunk_sums);
}

TEST(RecordHeaderTest, ComesBackAsItWas) {
  for (const size_t fingerprint_bytes : {0, 1, 7, 255}) {
    for (const size_t key_bytes : {1, 8, 32, 255}) {
      for (const uint64_t bytes : {1_MiB - 1, 1_MiB, 1_MiB + 1, 700_MiB, uint64_t{1}}) {
        const RecordHeader header =
            Sample(std::string(fingerprint_bytes, 'f'), std::string(key_bytes, '\xff'), bytes);
        const std::vector<std::byte> encoded = Encoded(header);
        const absl::StatusOr<RecordHeader> decoded = DecodeRecordHeader(encoded);
        ASSERT_TRUE(decoded.ok()) << decoded.status();
        ExpectSame(*decoded, header);
      }
    }
  }
}

TEST(RecordHeaderTest, IsOneBlockForTensorsUpToHundredsOfMegabytes) {
  EXPECT_EQ(RecordHeaderBytes(255, 255, 400_MiB), 4096u);
  EXPECT_EQ(RecordHeaderBytes(0, 32, 1_GiB), 12288u);
  EXPECT_EQ(RecordHeaderBytes(0, 1, ~uint64_t{0}) % 4096, 0u);
}

TEST(RecordHeaderTest, SourceMayBeLonger) {
  std::vector<std::byte> bytes = Encoded(Sample("f", "k", 100));
  bytes.resize(bytes.size() + 4096, std::byte{0x55});
  EXPECT_TRUE(DecodeRecordHeader(bytes).ok());
}

TEST(RecordHeaderTest, NoMagicIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(DecodeRecordHeader({}).status()));
  EXPECT_TRUE(absl::IsNotFound(DecodeRecordHeader(std::vector<std::byte>(4096)).status()));
  EXPECT_TRUE(absl::IsNotFound(DecodeRecordHeader(std::vector<std::byte>(3)).status()));
}

TEST(RecordHeaderTest, EveryTruncationIsSeen) {
  const std::vector<std::byte> bytes = Encoded(Sample("fingerprint", "key", 600_MiB));
  ASSERT_EQ(bytes.size(), 8192u);
  for (size_t size = 8; size < bytes.size(); ++size) {
    EXPECT_TRUE(absl::IsDataLoss(DecodeRecordHeader(absl::MakeSpan(bytes).first(size)).status()))
        << size;
  }
}

TEST(RecordHeaderTest, EveryFlippedBitIsSeen) {
  std::vector<std::byte> bytes = Encoded(Sample("fingerprint", "key", 3_MiB));
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes[i] ^= std::byte{1} << bit;
      ASSERT_FALSE(DecodeRecordHeader(bytes).ok()) << i << "." << bit;
      bytes[i] ^= std::byte{1} << bit;
    }
  }
}

// Bytes of an adversary who knows the checksum: any status will do, but no crash, no huge
// allocation, and nothing that does not encode to the same bytes again.
TEST(RecordHeaderTest, HostileBytesWithAGoodChecksum) {
  const std::vector<std::byte> good = Encoded(Sample("fingerprint", "key", 3_MiB));
  std::mt19937 random(5);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> bytes = good;
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int change = 0; change < changes; ++change) {
      bytes[8 + random() % 200] = static_cast<std::byte>(random() % 3 == 0 ? 0xff : random());
    }
    const size_t body = bytes.size() - 8;
    const uint64_t sum = StructureChecksum({reinterpret_cast<const char*>(bytes.data()), body});
    for (int byte = 0; byte < 8; ++byte)
      bytes[body + byte] = static_cast<std::byte>(sum >> 8 * byte);
    const absl::StatusOr<RecordHeader> decoded = DecodeRecordHeader(bytes);
    if (!decoded.ok()) continue;
    EXPECT_TRUE(decoded->record.meta.Validate().ok());
    EXPECT_EQ(decoded->record.meta.byte_count(), decoded->record.payload_bytes);
    EXPECT_LE(decoded->record.payload_bytes, kPayloadBytesMax);
  }
}

TEST(RecordHeaderTest, GarbageBehindTheMagic) {
  std::mt19937 random(6);
  std::vector<std::byte> bytes(8192);
  for (int i = 0; i < 2'000; ++i) {
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    std::memcpy(bytes.data(), "CAIRNREC\1\0\0\0", 12);
    if (i % 2 == 0) std::memcpy(bytes.data() + 12, "\0\x10\0\0", 4);
    EXPECT_TRUE(absl::IsDataLoss(DecodeRecordHeader(bytes).status()));
  }
}

}  // namespace
}  // namespace cairn
