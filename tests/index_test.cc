#include "io/index.h"

#include <sys/wait.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "io/checksum.h"
#include "io/memory_index.h"
#include "tests/index_contract.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

struct MemoryMaker {
  std::unique_ptr<RawIndex> Open() { return std::make_unique<MemoryIndex>(); }
};

struct RocksDbMaker {
  std::unique_ptr<RawIndex> Open() {
    absl::StatusOr<std::unique_ptr<Index>> index =
        OpenRocksDbIndex({.path = directory / "index", .bytes_max = 8_MiB});
    EXPECT_TRUE(index.ok()) << index.status();
    return std::unique_ptr<RawIndex>(static_cast<RawIndex*>(index->release()));
  }
  TemporaryDirectory directory;
};

using Makers = ::testing::Types<MemoryMaker, RocksDbMaker>;
INSTANTIATE_TYPED_TEST_SUITE_P(All, IndexContract, Makers);

// ---- Encodings ----

IndexRecord FullRecord() {
  IndexRecord record = SampleRecord("fingerprint", "key", TensorMeta::Of(DType::kInt4, {3, 5, 7}),
                                    uint64_t{123} * 4096, 77);
  record.tensor_class = TensorClass::kText;
  record.retention = Retention::kKeep;
  record.recompute_level = kRecomputeLevelMax;
  record.expires_unix_ms = 1'700'000'000'123;
  return record;
}

TEST(IndexEncodingTest, ComesBackAsItWas) {
  const std::string raw_key = EncodeIndexKey({7, "key"});
  const absl::StatusOr<IndexKey> key = DecodeIndexKey(raw_key);
  ASSERT_TRUE(key.ok());
  EXPECT_EQ(key->fingerprint_id, 7u);
  EXPECT_EQ(key->key, "key");
  IndexRecord record = FullRecord();
  for (uint8_t rank = 0; rank <= TensorMeta::kRankMax; ++rank) {
    record.meta.rank = rank;
    for (uint8_t i = 0; i < rank; ++i) record.meta.dims[i] = i + 1;
    record.payload_bytes = record.meta.byte_count();
    const absl::StatusOr<IndexRecord> decoded =
        DecodeIndexRecord(raw_key, EncodeIndexRecord(raw_key, record));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_TRUE(SameRecord(*decoded, record));
  }
}

TEST(IndexEncodingTest, RefusesKeysThatAreNone) {
  EXPECT_FALSE(DecodeIndexKey("").ok());
  EXPECT_FALSE(DecodeIndexKey("T").ok());
  EXPECT_FALSE(DecodeIndexKey(EncodeIndexKey({7, ""})).ok());
  EXPECT_FALSE(DecodeIndexKey(EncodeIndexKey({0, "key"})).ok());
  EXPECT_FALSE(DecodeIndexKey(EncodeIndexKey({7, std::string(256, 'x')})).ok());
  EXPECT_TRUE(DecodeIndexKey(EncodeIndexKey({7, std::string(255, 'x')})).ok());
}

TEST(IndexEncodingTest, EveryFlippedBitAndEveryLengthIsSeen) {
  std::string raw_key = EncodeIndexKey({7, "key"});
  std::string value = EncodeIndexRecord(raw_key, FullRecord());
  for (std::string* const bytes : {&value, &raw_key}) {
    for (char& byte : *bytes) {
      for (int bit = 0; bit < 8; ++bit) {
        byte = static_cast<char>(byte ^ (1 << bit));
        EXPECT_TRUE(absl::IsDataLoss(DecodeIndexRecord(raw_key, value).status()));
        byte = static_cast<char>(byte ^ (1 << bit));
      }
    }
  }
  EXPECT_TRUE(DecodeIndexRecord(raw_key, value).ok());
  for (size_t size = 0; size < value.size(); ++size) {
    EXPECT_FALSE(DecodeIndexRecord(raw_key, value.substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(DecodeIndexRecord(raw_key, value + "x").ok());
}

TEST(IndexEncodingTest, ValueUnderAnotherKeyIsSeen) {
  const std::string value = EncodeIndexRecord(EncodeIndexKey({7, "key"}), FullRecord());
  EXPECT_FALSE(DecodeIndexRecord(EncodeIndexKey({8, "key"}), value).ok());
  EXPECT_FALSE(DecodeIndexRecord(EncodeIndexKey({7, "kez"}), value).ok());
}

TEST(IndexEncodingTest, RefusesWhatCannotBe) {
  const std::string raw_key = EncodeIndexKey({7, "key"});
  const auto accepted = [&](auto change) {
    IndexRecord record = FullRecord();
    change(record);
    return DecodeIndexRecord(raw_key, EncodeIndexRecord(raw_key, record)).ok();
  };
  EXPECT_TRUE(accepted([](IndexRecord&) {}));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.offset = 0; }));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.offset += 512; }));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.offset = ~uint64_t{4095}; }));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.header_bytes = 0; }));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.header_bytes = 4097; }));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.header_bytes = 1 << 20; }));
  EXPECT_FALSE(accepted([](IndexRecord& record) { ++record.payload_bytes; }));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.meta.dims[1] = 0; }));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.meta.dtype = static_cast<DType>(99); }));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.expires_unix_ms = -1; }));
  EXPECT_FALSE(
      accepted([](IndexRecord& record) { record.tensor_class = static_cast<TensorClass>(4); }));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.retention = static_cast<Retention>(2); }));
  EXPECT_FALSE(accepted([](IndexRecord& record) { record.recompute_level = 16; }));
  EXPECT_FALSE(accepted([](IndexRecord& record) {
    record.meta = TensorMeta::Bytes(uint64_t{1} << 50);
    record.payload_bytes = uint64_t{1} << 50;
  }));
}

TEST(IndexEncodingTest, HostileValuesWithAGoodChecksum) {
  const std::string raw_key = EncodeIndexKey({7, "key"});
  std::string good = EncodeIndexRecord(raw_key, FullRecord());
  good.resize(good.size() - 8);
  std::mt19937 random(1);
  for (int i = 0; i < 100'000; ++i) {
    std::string value = good;
    for (unsigned change = 0; change <= random() % 4; ++change) {
      value[random() % value.size()] = static_cast<char>(random() % 3 == 0 ? 0xff : random());
    }
    if (i % 8 == 0) value.resize(random() % 200);
    const uint64_t sum = StructureChecksum(raw_key + value);
    for (int shift = 0; shift < 64; shift += 8) value.push_back(static_cast<char>(sum >> shift));
    const absl::StatusOr<IndexRecord> record = DecodeIndexRecord(raw_key, value);
    if (!record.ok()) continue;
    EXPECT_EQ(record->meta.byte_count(), record->payload_bytes);
    EXPECT_EQ(EncodeIndexRecord(raw_key, *record), value);
  }
}

TEST(IndexEncodingTest, KeysHashByFingerprintToo) {
  EXPECT_NE(HashKey({1, "key"}), HashKey({2, "key"}));
  EXPECT_NE(HashKey({1, "key"}), HashKey({1, "kex"}));
  EXPECT_EQ(HashKey({3, "key"}), ChunkChecksum(3, "key", 3));
}

}  // namespace
}  // namespace cairn
