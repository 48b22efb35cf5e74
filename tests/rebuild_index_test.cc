// Runs store-inspect rebuild-index on stores made with the io layer, whose index is lost, damaged
// or sound.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/store_inspect_fixture.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class RebuildIndexTest : public StoreInspectTest {
 protected:
  // By fingerprint and key, as the index has them byte by byte.
  std::map<std::string, std::string> Entries() const {
    std::map<std::string, std::string> entries;
    const auto record = [&entries](IndexKey key, const IndexRecord& found) {
      const std::string raw_key = EncodeIndexKey(key);
      entries[raw_key] = EncodeIndexRecord(raw_key, found);
      return true;
    };
    const auto damaged = [](std::string_view, const absl::Status&) { return false; };
    EXPECT_TRUE(index_->ForEach({.record = record, .damaged = damaged}).ok());
    return entries;
  }
  std::vector<std::string> Keys() const {
    std::vector<std::string> keys;
    for (const auto& [raw_key, value] : Entries()) keys.push_back(raw_key.substr(5));
    return keys;
  }
  void LoseIndex() {
    Close();
    std::filesystem::remove_all(path_ + "/index");
  }
  // Rebuilds, expects `verify` to find nothing wrong, and opens the index.
  Json Rebuild(int exit_code = 0, const std::string& arguments = "") {
    Close();
    Json report = RunJson("rebuild-index " + arguments, exit_code);
    EXPECT_FALSE(std::filesystem::exists(path_ + "/index.new"));
    EXPECT_FALSE(std::filesystem::exists(path_ + "/index.old"));
    if (report.value("lost_files", Json::array()).empty()) VerifyJson(0);
    OpenIndex();
    return report;
  }
  Json RebuildLost(int exit_code = 0) {
    LoseIndex();
    return Rebuild(exit_code);
  }
};

TEST_F(RebuildIndexTest, GivesBackEveryEntryByteByByte) {
  const int64_t tomorrow = absl::ToUnixMillis(absl::Now() + absl::Hours(24));
  Put("plain", 4096, 3_MiB + 5, 1);
  Put("kept", 8_MiB, 12, 2, true, "model", 0, Retention::kKeep);
  Put("mortal", 9_MiB, 500, 3, true, "other", tomorrow);
  Put("in the second file", files_->data_file_bytes() + 4096, 2_MiB, 4);
  PutPack({"a", "b", "c"}, 10_MiB, 5);
  const std::map<std::string, std::string> before = Entries();
  const Json report = RebuildLost();
  EXPECT_EQ(Entries(), before);
  EXPECT_EQ(report["tensors"], 7);
  EXPECT_EQ(report["records"], 7);
  EXPECT_EQ(report["bytes"], 3_MiB + 5 + 12 + 500 + 2_MiB + 4096 + 4095 + 4094);
  EXPECT_EQ(report["lossless"], true);
  EXPECT_EQ(report["fingerprints"]["model"], 6);
  EXPECT_EQ(report["fingerprints"]["other"], 1);
  // The numbers that are in the checksums, and none of them given again.
  EXPECT_EQ(*index_->FingerprintId("model"), 1u);
  EXPECT_EQ(*index_->FingerprintId("other"), 2u);
  EXPECT_EQ(*index_->FingerprintId("new"), 3u);
}

TEST_F(RebuildIndexTest, TheLatestWriteOfAKeyWins) {
  Put("key", 4096, 100, 1);
  Put("key", 1_MiB, 200, 7);
  Put("key", 2_MiB, 300, 3);
  PutPack({"key", "b"}, 3_MiB, 4);
  const Json report = RebuildLost();
  EXPECT_EQ(report["tensors"], 2);
  EXPECT_EQ(report["skipped"]["older_write"], 3);
  EXPECT_EQ(index_->Find({1, "key"})->sequence, 7u);
  // Erased since: nothing on the data files says so.
  EXPECT_THAT(Keys(), ElementsAre("b", "key"));
}

TEST_F(RebuildIndexTest, AnOlderWriteNeverStandsInForADamagedOne) {
  Put("key", 4096, 100, 1);
  const IndexRecord latest = Put("key", 1_MiB, 200, 2);
  Put("sound", 2_MiB, 300, 3);
  Flip(latest.payload_offset() + 5);
  const Json report = RebuildLost(1);
  EXPECT_THAT(Keys(), ElementsAre("sound"));
  EXPECT_EQ(report["skipped"]["damaged"], 1);
  ASSERT_THAT(report["damaged"], SizeIs(1));
  EXPECT_EQ(report["damaged"][0]["key"], "key");
  EXPECT_EQ(report["damaged"][0]["offset"], latest.payload_offset());
  EXPECT_EQ(report["lossless"], false);
}

TEST_F(RebuildIndexTest, FlippedBytesOfAPackCostItsMemberAndOfATableAll) {
  const std::vector<IndexRecord> pack = PutPack({"a", "b", "c"}, 1_MiB, 1);
  PutPack({"d", "e"}, 2_MiB, 5);
  Flip(pack[1].offset + 9);
  EXPECT_EQ(RebuildLost(1)["damaged"][0]["key"], "b");
  EXPECT_THAT(Keys(), ElementsAre("a", "c", "d", "e"));
  files_ = *Open();
  Flip(pack[1].offset + 9);
  Flip(pack[0].pack_offset + 70);
  const Json report = RebuildLost(1);
  EXPECT_THAT(Keys(), ElementsAre("d", "e"));
  EXPECT_EQ(report["damaged_headers"], 1);
}

TEST_F(RebuildIndexTest, PlacesUsedAgainAreLeftToTheLaterWrite) {
  Put("beneath", 4096, 2_MiB, 1);
  Put("on top", 4096, 1_MiB, 7);
  Put("begins before", 4_MiB, 2_MiB, 2);
  Put("inside", 5_MiB, 12, 8);
  const std::vector<IndexRecord> pack = PutPack({"a", "b", "c"}, 8_MiB, 3);
  Put("over b", pack[1].offset, 4096, 9, /*index=*/false);
  Put("in the place of c", 10_MiB, 100, 10);
  const Json report = RebuildLost();
  // The header over b lies where b was, its payload where c was. Of "beneath" not even the header
  // is left.
  EXPECT_THAT(Keys(), ElementsAre("a", "in the place of c", "inside", "on top", "over b"));
  EXPECT_EQ(report["records"], 8);
  EXPECT_EQ(report["skipped"]["place_used_again"], 3);
  EXPECT_EQ(report["skipped"]["damaged"], 0);
}

TEST_F(RebuildIndexTest, WhatDoesNotVerifyTakesNoPlace) {
  // Numbers are given before places: the later number was written first, and is gone.
  Put("later number", 1_MiB, 2_MiB, 9);
  Put("earlier number", 2_MiB, 100, 8);
  Put("beneath a write that was cut off", 5_MiB, 100, 1);
  const IndexRecord cut_off = Put("cut off", 4_MiB, 2_MiB, 10, /*index=*/false);
  Write(cut_off.payload_offset(), std::string(2_MiB, '\0'));
  Put("beneath a write that was cut off", 5_MiB, 100, 1);
  const Json report = RebuildLost();
  EXPECT_THAT(Keys(), ElementsAre("beneath a write that was cut off", "earlier number"));
  EXPECT_EQ(report["skipped"]["place_used_again"], 2);
}

TEST_F(RebuildIndexTest, AWriteThatWasCutOffIsNoDamage) {
  const IndexRecord record = Put("cut off", 4096, 2_MiB, 1, /*index=*/false);
  Write(record.payload_offset(), std::string(2_MiB, '\0'));
  const Json report = RebuildLost();
  EXPECT_EQ(report["skipped"]["never_written"], 1);
  EXPECT_EQ(report["tensors"], 0);
}

TEST_F(RebuildIndexTest, ExpiredTensorsStayAway) {
  Put("gone", 4096, 100, 1, true, "model", /*expires_unix_ms=*/1000);
  Put("here", 1_MiB, 100, 2);
  EXPECT_EQ(RebuildLost()["skipped"]["expired"], 1);
  EXPECT_THAT(Keys(), ElementsAre("here"));
}

TEST_F(RebuildIndexTest, APurgedFingerprintStaysAwayWhenItHasComeBack) {
  Put("old", 4096, 100, 1, true, "model");
  ASSERT_TRUE(index_->DropFingerprint(1).ok());
  Put("new", 1_MiB, 100, 2, true, "model");
  ASSERT_EQ(*index_->FingerprintId("model"), 2u);
  EXPECT_EQ(RebuildLost()["skipped"]["purged_fingerprint"], 1);
  EXPECT_THAT(Keys(), ElementsAre("new"));
  EXPECT_EQ(*index_->FingerprintId("model"), 2u);
  EXPECT_EQ(*index_->FingerprintId("other"), 3u);
}

TEST_F(RebuildIndexTest, DamagedHeadersAndLostFilesAreNamed) {
  Put("a", 4096, 100, 1);
  Put("b", 1_MiB, 100, 2);
  Put("c", files_->data_file_bytes() + 4096, 100, 3);
  Flip(4096 + 90);
  LoseIndex();
  std::filesystem::remove(Data(1));
  const RunResult text = Run("rebuild-index " + path_);
  EXPECT_EQ(text.exit_code, 1) << text.errors;
  EXPECT_THAT(text.output, HasSubstr("damaged: 1 headers of records"));
  EXPECT_THAT(text.output, HasSubstr("000001.data: missing"));
  EXPECT_THAT(text.output, HasSubstr("the index is rebuilt: 1 tensors, 100 B, of 1 records"));
  EXPECT_EQ(Run("keys " + path_).output, "b\n");
}

TEST_F(RebuildIndexTest, ASoundIndexIsReplacedOnlyWhenToldSo) {
  Put("key", 4096, 100, 1);
  Put("unknown to the index", 1_MiB, 100, 2, /*index=*/false);
  Close();
  const auto before = Snapshot(path_ + "/index");
  const RunResult refused = Run("rebuild-index " + path_);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_EQ(refused.output, "");
  EXPECT_THAT(refused.errors, HasSubstr("is sound, with 1 tensors (--replace"));
  EXPECT_EQ(Snapshot(path_ + "/index"), before);
  EXPECT_EQ(Rebuild(0, "--replace")["tensors"], 2);
  EXPECT_THAT(Keys(), ElementsAre("key", "unknown to the index"));
}

TEST_F(RebuildIndexTest, AStoreInUseIsLeftAsItIs) {
  Put("key", 4096, 100, 1);
  const auto before = Snapshot(path_);
  const RunResult refused = Run("rebuild-index --replace " + path_);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.errors, HasSubstr("in use"));
  EXPECT_EQ(Snapshot(path_), before);
}

TEST_F(RebuildIndexTest, DamagedIndexesAreReplaced) {
  for (int i = 0; i < 100; ++i) Put(absl::StrCat("key", i), 4096 + i * 8192, 100, i + 1);
  const std::map<std::string, std::string> before = Entries();
  Close();
  OpenIndex();  // Moves the entries from the log to a table.
  Close();
  for (const auto& entry : std::filesystem::directory_iterator(path_ + "/index")) {
    if (entry.path().extension() == ".sst") FlipByte(entry.path(), 200);
  }
  VerifyJson(1);
  Rebuild();
  EXPECT_EQ(Entries(), before);
  Close();
  for (const auto& entry : std::filesystem::directory_iterator(path_ + "/index")) {
    if (entry.path().filename().string().starts_with("MANIFEST")) WriteFile(entry.path(), "x");
  }
  Rebuild();
  EXPECT_EQ(Entries(), before);
  Close();
  std::filesystem::remove(path_ + "/index/CURRENT");
  Rebuild();
  EXPECT_EQ(Entries(), before);
}

TEST_F(RebuildIndexTest, GoesOnAfterAnAttemptThatWasCutOff) {
  Put("key", 4096, 100, 1);
  Close();
  // Cut off while it wrote.
  std::filesystem::rename(path_ + "/index", path_ + "/index.new");
  Rebuild();
  EXPECT_THAT(Keys(), ElementsAre("key"));
  // Cut off between two renames, where the file system cannot exchange.
  Close();
  std::filesystem::copy(path_ + "/index", path_ + "/index.new");
  std::filesystem::rename(path_ + "/index", path_ + "/index.old");
  Rebuild();
  EXPECT_THAT(Keys(), ElementsAre("key"));
}

TEST_F(RebuildIndexTest, AnUnusedStoreGetsAnEmptyIndex) {
  EXPECT_EQ(RebuildLost()["records"], 0);
  EXPECT_THAT(Keys(), SizeIs(0));
}

TEST_F(RebuildIndexTest, WhatIsNoStoreIsOneLine) {
  for (const std::string& path : {directory_ / "nothing", directory_.path()}) {
    const RunResult result = Run("rebuild-index " + path);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.errors, HasSubstr("no store at"));
    EXPECT_FALSE(std::filesystem::exists(path + "/data"));
  }
  EXPECT_THAT(Run("rebuild-index --help").output, HasSubstr("comes back"));
}

}  // namespace
}  // namespace cairn
