#include "io/pack.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "io/checksum.h"
#include "tests/disk_fixture.h"

namespace cairn {
namespace {

constexpr std::string_view kFingerprint = "tiny-llama bf16";

// A pack and the keys its members name.
struct Sample {
  PackTable table;
  std::vector<std::string> keys;
};

uint64_t RoundUp(uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

Sample SamplePack(size_t count, uint64_t payload_bytes, uint64_t offset = 2_MiB) {
  Sample sample;
  for (size_t i = 0; i < count; ++i) sample.keys.push_back(absl::StrCat("embedding/", i));
  uint64_t members_bytes = 0;
  for (const std::string& key : sample.keys) members_bytes += PackMemberBytes(key.size(), 1);
  PackTable& table = sample.table;
  table.store_uuid.fill(7);
  table.fingerprint = std::string(kFingerprint);
  table.fingerprint_id = 3;
  table.offset = offset;
  table.table_bytes = PackTableBytes(kFingerprint.size(), members_bytes);
  uint64_t at = offset - count * RoundUp(payload_bytes);
  for (size_t i = 0; i < count; ++i) {
    IndexRecord record =
        SampleRecord(kFingerprint, sample.keys[i], TensorMeta::Bytes(payload_bytes), at, i + 1);
    record.pack_offset = offset;
    record.header_bytes = table.table_bytes;
    table.members.push_back({{3, sample.keys[i]}, record});
    at += record.extent_bytes();
  }
  return sample;
}

std::vector<std::byte> Encoded(const PackTable& table) {
  std::vector<std::byte> bytes(table.table_bytes, std::byte{0xee});
  EncodePackTable(table, absl::MakeSpan(bytes));
  return bytes;
}

TEST(PackTest, ComesBackAsItWas) {
  for (const size_t count : {1u, 2u, 50u, 250u}) {
    const Sample sample = SamplePack(count, 4096);
    const std::vector<std::byte> bytes = Encoded(sample.table);
    const absl::StatusOr<PackTable> decoded = DecodePackTable(bytes);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(decoded->store_uuid, sample.table.store_uuid);
    EXPECT_EQ(decoded->fingerprint, kFingerprint);
    EXPECT_EQ(decoded->fingerprint_id, 3u);
    EXPECT_EQ(decoded->offset, sample.table.offset);
    ASSERT_EQ(decoded->members.size(), count);
    for (size_t i = 0; i < count; ++i) {
      EXPECT_EQ(decoded->members[i].key.key, sample.keys[i]);
      EXPECT_TRUE(SameRecord(decoded->members[i].record, sample.table.members[i].record));
    }
  }
}

TEST(PackTest, AMemberIsAnIndexEntry) {
  const Sample sample = SamplePack(1, 100);
  const PackTable::Member& member = sample.table.members[0];
  const std::string raw_key = EncodeIndexKey(member.key);
  const std::string value = EncodeIndexRecord(raw_key, member.record);
  const std::vector<std::byte> bytes = Encoded(sample.table);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  EXPECT_NE(text.find(raw_key + value), std::string_view::npos);
  const absl::StatusOr<IndexRecord> record = DecodeIndexRecord(raw_key, value);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->pack_offset, 2_MiB);
  EXPECT_EQ(record->extent_bytes(), 4096u);
}

TEST(PackTest, NoMagicIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(DecodePackTable({}).status()));
  EXPECT_TRUE(absl::IsNotFound(DecodePackTable(std::vector<std::byte>(4096)).status()));
}

TEST(PackTest, EveryTruncationIsSeen) {
  const std::vector<std::byte> bytes = Encoded(SamplePack(60, 4096).table);
  for (size_t size = 8; size < bytes.size(); size += 61) {
    EXPECT_TRUE(absl::IsDataLoss(DecodePackTable(absl::MakeSpan(bytes).first(size)).status()))
        << size;
  }
}

TEST(PackTest, EveryFlippedBitIsSeen) {
  std::vector<std::byte> bytes = Encoded(SamplePack(5, 4096).table);
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes[i] ^= std::byte{1} << bit;
      ASSERT_FALSE(DecodePackTable(bytes).ok()) << i << "." << bit;
      bytes[i] ^= std::byte{1} << bit;
    }
  }
}

TEST(PackTest, AMemberOfAnotherPackIsRefused) {
  Sample sample = SamplePack(3, 4096);
  const Sample other = SamplePack(3, 4096, 4_MiB);
  sample.table.members[1].record = other.table.members[1].record;
  EXPECT_TRUE(absl::IsDataLoss(DecodePackTable(Encoded(sample.table)).status()));
}

// Bytes of an adversary who knows the checksum: no crash, no huge allocation, and what is accepted
// can be true.
TEST(PackTest, HostileBytesWithAGoodChecksum) {
  const std::vector<std::byte> good = Encoded(SamplePack(5, 4096).table);
  std::mt19937 random(5);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> bytes = good;
    for (size_t change = 0; change < 1 + i % 4u; ++change) {
      bytes[8 + random() % 600] = static_cast<std::byte>(random() % 3 == 0 ? 0xff : random());
    }
    const size_t body = bytes.size() - 8;
    const uint64_t sum = StructureChecksum({reinterpret_cast<const char*>(bytes.data()), body});
    std::memcpy(bytes.data() + body, &sum, 8);
    const absl::StatusOr<PackTable> decoded = DecodePackTable(bytes);
    if (!decoded.ok()) continue;
    EXPECT_FALSE(decoded->members.empty());
    for (const PackTable::Member& member : decoded->members) {
      EXPECT_LE(member.record.payload_bytes, kPackedPayloadBytesMax);
      EXPECT_LE(decoded->offset + decoded->table_bytes - member.record.offset, kPackBytesMax);
    }
  }
}

TEST(PackTest, AnIndexEntryOfAPackThatCannotBeIsDamaged) {
  const Sample sample = SamplePack(1, 4096);
  const std::string raw_key = EncodeIndexKey(sample.table.members[0].key);
  const auto accepted = [&](auto&& change) {
    IndexRecord record = sample.table.members[0].record;
    change(record);
    return DecodeIndexRecord(raw_key, EncodeIndexRecord(raw_key, record)).ok();
  };
  EXPECT_TRUE(accepted([](IndexRecord&) {}));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.header_bytes = 0; }));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.header_bytes = 4097; }));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.pack_offset += 2_MiB; }));
  EXPECT_FALSE(accepted([](IndexRecord& record) {
    record.meta = TensorMeta::Bytes(64_KiB);
    record.payload_bytes = 64_KiB;
  }));
}

}  // namespace
}  // namespace cairn
