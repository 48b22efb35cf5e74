// What store-inspect verify says of entries whose bytes never reached the disk, and that it does
// not say it of damage.

#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/store_inspect_fixture.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

class PowerLossTest : public StoreInspectTest {
 protected:
  void ExpectNeverWritten(const std::string& key, const std::string& detail) const {
    const Json report = VerifyJson(0);
    EXPECT_EQ(report["sound"], true);
    EXPECT_EQ(report["superseded"], 0);
    ASSERT_THAT(report["never_written"], SizeIs(1));
    EXPECT_EQ(report["never_written"][0]["key"], key);
    EXPECT_THAT(report["never_written"][0]["detail"].get<std::string>(), HasSubstr(detail));
    const RunResult text = Run("verify " + path_);
    EXPECT_THAT(text.output, HasSubstr("never written: " + key + ": "));
    EXPECT_THAT(text.output, HasSubstr("1 never written (the power was lost first: no damage)"));
  }
  void ExpectDamaged(const std::string& key, const std::string& what) const {
    const Json report = VerifyJson(1);
    EXPECT_THAT(report["never_written"], SizeIs(0));
    ASSERT_FALSE(report["damaged"].empty());
    EXPECT_EQ(report["damaged"][0]["key"], key);
    EXPECT_EQ(report["damaged"][0]["what"], what);
  }
};

TEST_F(PowerLossTest, NothingArrivedInAFreshPlace) {
  Put("other", 8_MiB, 100, 1);
  const uint32_t id = *index_->FingerprintId("model");
  ASSERT_TRUE(
      index_
          ->Commit({{.key = {id, "key"},
                     .record = SampleRecord("model", "key", TensorMeta::Bytes(3_MiB), 4096, 2)}},
                   true)
          .ok());
  ExpectNeverWritten("key", "there");
}

TEST_F(PowerLossTest, TheHeaderArrivedAndThePayloadDidNot) {
  const IndexRecord record = Put("key", 4096, 1_MiB + 500, 5);
  Write(record.payload_offset(), std::string(1_MiB + 4096, '\0'));
  ExpectNeverWritten("key", "zeros are there");
}

TEST_F(PowerLossTest, ThePayloadArrivedAndTheHeaderDidNot) {
  const IndexRecord record = Put("key", 4096, 100, 5);
  Write(record.offset, std::string(record.header_bytes, '\0'));
  ExpectNeverWritten("key", "zeros are there");
}

TEST_F(PowerLossTest, AnEarlierTensorIsStillInThePlace) {
  Put("key", 4096, 100, 5);
  Put("earlier", 4096, 100, 3, /*index=*/false);
  ExpectNeverWritten("key", "the earlier write of earlier is there");
}

TEST_F(PowerLossTest, ThePlaceIsInTheMiddleOfAnEarlierTensor) {
  Put("key", 1_MiB + 8192, 100, 5);
  Put("earlier", 4096, 3_MiB, 3, /*index=*/false);
  ExpectNeverWritten("key", "the earlier write of earlier is there");
}

TEST_F(PowerLossTest, APartArrived) {
  Put("key", 4096, 3_MiB, 5);
  Put("earlier", 2_MiB, 100, 3, /*index=*/false);
  ExpectNeverWritten("key", "the earlier write of earlier is there");
}

TEST_F(PowerLossTest, APartArrivedInAFreshPlace) {
  // The header, and the first half of the payload, which is less than a chunk.
  const uint64_t other = files_->data_file_bytes() + 4096;
  const IndexRecord record = Put("key", 4096, 512_KiB, 5);
  if (!files_->HasNeverWritten(other, 4096)) GTEST_SKIP() << "no such file system";
  std::string bytes(record.header_bytes + 256_KiB, '\0');
  std::ifstream(Data(0)).seekg(4096).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  RecordHeader header =
      *DecodeRecordHeader({reinterpret_cast<const std::byte*>(bytes.data()), record.header_bytes});
  header.record.offset = other;
  EncodeRecordHeader(header, {reinterpret_cast<std::byte*>(bytes.data()), record.header_bytes});
  Write(other, bytes);
  ASSERT_TRUE(
      index_->Commit({{.key = {header.fingerprint_id, "key"}, .record = header.record}}, true)
          .ok());
  ExpectNeverWritten("key", "nothing was ever written there");
}

TEST_F(PowerLossTest, ThePackOfAMemberDidNotArrive) {
  const IndexRecord record = PutPack({"key"}, 1_MiB, 5)[0];
  PutPack({"a", "b", "c"}, 1_MiB - 8192, 2, /*index=*/false);
  Write(record.pack_offset, std::string(4096, '\0'));
  ExpectNeverWritten("key", "zeros are there");
}

TEST_F(PowerLossTest, FlippedBytesOfAHeaderOverAnEarlierTensorAreDamage) {
  Put("earlier", 4096, 3_MiB, 3, /*index=*/false);
  Put("key", 1_MiB + 8192, 100, 5);
  Flip(1_MiB + 8192 + 3);
  ExpectDamaged("key", "header");
}

TEST_F(PowerLossTest, FlippedBytesOfAPayloadOverAnEarlierTensorAreDamage) {
  Put("earlier", 4096, 3_MiB, 3, /*index=*/false);
  const IndexRecord record = Put("key", 1_MiB + 8192, 2_MiB, 5);
  Flip(record.payload_offset() + 1_MiB + 7);
  ExpectDamaged("key", "payload");
}

TEST_F(PowerLossTest, ZerosInAPartOfAChunkAreDamage) {
  const IndexRecord record = Put("key", 4096, 1_MiB, 5);
  Write(record.payload_offset() + 8192, std::string(8192, '\0'));
  ExpectDamaged("key", "payload");
}

TEST_F(PowerLossTest, APayloadOfOtherBytesIsDamage) {
  const IndexRecord record = Put("key", 4096, 8192, 5);
  Write(record.payload_offset(), Content(8192, 77));
  ExpectDamaged("key", "payload");
}

}  // namespace
}  // namespace cairn
