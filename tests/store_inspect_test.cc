// Runs store-inspect on stores made with the io layer, whole, damaged and in use.

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/store_inspect_fixture.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST_F(StoreInspectTest, SoundStoreInUseIsLeftAsItIs) {
  Put("a", 4096, 3_MiB + 5, 1);
  Put("b", 8_MiB, 12, 2);
  Put("c", files_->data_file_bytes() + 4096, 100, 3, true, "other model");
  const auto before = Snapshot(path_);
  const Json report = VerifyJson(0);
  EXPECT_EQ(report["sound"], true);
  EXPECT_EQ(report["tensors"], 3);
  EXPECT_EQ(report["bytes"], 3_MiB + 5 + 12 + 100);
  EXPECT_THAT(report["damaged"], SizeIs(0));
  EXPECT_THAT(Run("verify " + path_).output, HasSubstr(": sound"));
  EXPECT_EQ(Run("summary " + path_).exit_code, 0);
  EXPECT_EQ(Run("keys " + path_).exit_code, 0);
  EXPECT_EQ(Snapshot(path_), before);
}

TEST_F(StoreInspectTest, TellsOfTheMachineWithoutAStore) {
  const RunResult text = Run("machine " + path_ + "/none");
  EXPECT_EQ(text.exit_code, 0) << text.errors;
  EXPECT_THAT(text.output, HasSubstr("l3_bytes_max"));
  const RunResult run = Run("machine --json " + path_ + "/none");
  EXPECT_EQ(run.exit_code, 0);
  const Json report = Json::parse(run.output);
  EXPECT_GE(report["cpus"], 1);
  EXPECT_EQ(report["options"][0]["option"], "l1_bytes_max");
  EXPECT_EQ(report["attention_tile"]["tiles"].size(), 12);
  EXPECT_FALSE(std::filesystem::exists(path_ + "/none"));
}

TEST_F(StoreInspectTest, EmptyStoreIsSound) {
  EXPECT_EQ(VerifyJson(0)["tensors"], 0);
  Close();
  std::filesystem::remove_all(path_ + "/index");
  EXPECT_EQ(VerifyJson(0)["sound"], true);
}

TEST_F(StoreInspectTest, NamesTheDamagedChunk) {
  const IndexRecord record = Put("a", 4096, 3_MiB + 5, 1);
  Put("b", 8_MiB, 12, 2);
  const uint64_t chunk = 4096 + record.header_bytes + 2_MiB;
  Flip(chunk + 77);
  Close();
  const Json report = VerifyJson(1);
  EXPECT_EQ(report["sound"], false);
  ASSERT_THAT(report["damaged"], SizeIs(1));
  EXPECT_EQ(report["damaged"][0]["key"], "a");
  EXPECT_EQ(report["damaged"][0]["what"], "payload");
  EXPECT_EQ(report["damaged"][0]["offset"], chunk);
  EXPECT_EQ(report["damaged"][0]["fingerprint"], "model");
  const RunResult text = Run("verify " + path_);
  EXPECT_EQ(text.exit_code, 1);
  EXPECT_THAT(text.output, HasSubstr("damaged: a: payload: chunk 2 of 4"));
}

// Every byte of a small tensor's extent, and of every structure around it, but for padding.
TEST_F(StoreInspectTest, FindsEveryFlippedByteOfAnExtent) {
  const IndexRecord record = Put("key", 4096, 300, 1);
  for (uint64_t at = 0; at < record.header_bytes + 300; at += at < 260 || at > 4080 ? 23 : 301) {
    Flip(4096 + at);
    const Json report = VerifyJson(1);
    ASSERT_FALSE(report["damaged"].empty()) << at;
    EXPECT_EQ(report["damaged"][0]["what"], at < record.header_bytes ? "header" : "payload") << at;
    Flip(4096 + at);
  }
  VerifyJson(0);
}

TEST_F(StoreInspectTest, DamagedHeaderLeavesThePayloadSound) {
  Put("a", 4096, 300, 1);
  Flip(4096 + 60);
  const RunResult result = Run("show " + path_ + " a");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.output, HasSubstr("payload         verified"));
  EXPECT_THAT(result.output, HasSubstr("record header: the checksum does not match"));
}

TEST_F(StoreInspectTest, LaterWriteIsSupersededAndNotDamage) {
  // The old entries' removal was lost with the power; the new tensors' entries too.
  Put("same place", 4096, 2_MiB, 1);
  Put("same place, later", 4096, 2_MiB, 7, /*index=*/false);
  Put("later begins before", 4_MiB + 8192, 1_MiB, 2);
  Put("before", 4_MiB, 1_MiB, 8, /*index=*/false);
  Put("later begins inside", 8_MiB, 2_MiB, 3);
  Put("inside", 9_MiB, 12, 9, /*index=*/false);
  Put("indexed later", 12_MiB, 2_MiB, 4);
  Put("indexed", 12_MiB, 2_MiB, 10);
  const Json report = VerifyJson(0);
  EXPECT_EQ(report["superseded"], 4);
  EXPECT_THAT(report["damaged"], SizeIs(0));
  EXPECT_THAT(Run("verify " + path_).output, HasSubstr("4 superseded by later writes"));
}

TEST_F(StoreInspectTest, NamesOverlappingExtents) {
  // The older lies over the newer's header, as only a mistake of an allocator could do.
  Put("newer", 8192, 100, 9);
  Put("older", 4096, 100, 2);
  const Json report = VerifyJson(1);
  std::vector<std::string> what;
  for (const Json& damage : report["damaged"]) {
    what.push_back(damage["key"].get<std::string>() + ": " + damage["what"].get<std::string>());
  }
  EXPECT_THAT(what, ::testing::UnorderedElementsAre("newer: header", "older: overlap"));
}

TEST_F(StoreInspectTest, NamesMissingFilesAndWhatWasInThem) {
  Put("kept", 4096, 100, 1);
  Put("lost", files_->data_file_bytes() + 4096, 100, 2);
  Close();
  std::filesystem::remove(Data(1));
  const Json report = VerifyJson(1);
  ASSERT_THAT(report["damaged"], SizeIs(2));
  EXPECT_EQ(report["damaged"][0]["key"], nullptr);
  EXPECT_THAT(report["damaged"][0]["detail"].get<std::string>(), HasSubstr("missing"));
  EXPECT_EQ(report["damaged"][1]["key"], "lost");
  EXPECT_EQ(report["damaged"][1]["what"], "file");
  EXPECT_EQ(Run("summary " + path_).exit_code, 1);
}

TEST_F(StoreInspectTest, NamesExtentsThatCannotBe) {
  const uint32_t id = *index_->FingerprintId("model");
  const uint64_t end = files_->offset_end();
  ASSERT_TRUE(index_
                  ->Commit({{.key = {id, "at the end"},
                             .record = SampleRecord("model", "at the end", TensorMeta::Bytes(100),
                                                    end - 4096, 1)},
                            {.key = {id, "far away"},
                             .record = SampleRecord("model", "far away", TensorMeta::Bytes(100),
                                                    uint64_t{1} << 60, 2)},
                            {.key = {id, "in a header"},
                             .record = SampleRecord("model", "in a header", TensorMeta::Bytes(100),
                                                    files_->data_file_bytes(), 3)},
                            {.key = {id + 5, "of no fingerprint"},
                             .record = SampleRecord("model", "of no fingerprint",
                                                    TensorMeta::Bytes(100), 8192, 4)}},
                           true)
                  .ok());
  const Json report = VerifyJson(1);
  const std::string all = report.dump();
  EXPECT_THAT(all, HasSubstr("past the end of data file 1"));
  EXPECT_THAT(all, HasSubstr("of none"));
  EXPECT_THAT(all, HasSubstr("in the header of a data file"));
  EXPECT_THAT(all, HasSubstr("is not in the index"));
}

TEST_F(StoreInspectTest, LostIndexIsDamage) {
  Put("a", 4096, 100, 1);
  Close();
  std::filesystem::remove_all(path_ + "/index");
  EXPECT_THAT(VerifyJson(1)["damaged"][0]["detail"].get<std::string>(),
              HasSubstr("1 records in the data files cannot be found"));
  EXPECT_EQ(Run("keys " + path_).exit_code, 2);
}

TEST_F(StoreInspectTest, DamagedIndexIsDamage) {
  for (int i = 0; i < 100; ++i) Put(absl::StrCat("key", i), 4096 + i * 8192, 100, i + 1);
  Close();
  OpenIndex();  // Moves the entries from the log to a table.
  Close();
  for (const auto& entry : std::filesystem::directory_iterator(path_ + "/index")) {
    if (entry.path().extension() == ".sst") FlipByte(entry.path(), 200);
  }
  const Json report = VerifyJson(1);
  EXPECT_EQ(report["damaged"][0]["what"], "index");
  EXPECT_EQ(Run("keys " + path_).exit_code, 1);
  for (const auto& entry : std::filesystem::directory_iterator(path_ + "/index")) {
    if (entry.path().filename().string().starts_with("MANIFEST")) WriteFile(entry.path(), "x");
  }
  EXPECT_EQ(VerifyJson(1)["damaged"][0]["what"], "index");
}

TEST_F(StoreInspectTest, KeysArePrintedAsTheyCanBeTyped) {
  const std::string binary("\x00\xff\\x41\n'", 8);
  Put("plain", 4096, 100, 1);
  Put(binary, 16384, 100, 2);
  Put("plain", 32768, 100, 3, true, "other");
  const RunResult keys = Run("keys " + path_);
  EXPECT_EQ(keys.output, "\\x00\\xff\\x5cx41\\x0a'\nplain\nplain\n");
  EXPECT_EQ(Run("keys " + path_ + " --prefix '\\x00'").output, "\\x00\\xff\\x5cx41\\x0a'\n");
  EXPECT_EQ(Run("keys " + path_ + " --prefix pl --fingerprint other").output, "plain\n");
  EXPECT_EQ(Run("keys " + path_ + " --fingerprint nothing").output, "");
  const RunResult shown = Run("show " + path_ + " \"\\\\x00\\\\xff\\\\x5cx41\\\\x0a'\"");
  EXPECT_EQ(shown.exit_code, 0) << shown.errors;
  EXPECT_THAT(shown.output, HasSubstr("sequence        2"));
  const Json json = Json::parse(Run("keys --json " + path_).output, nullptr, false);
  EXPECT_EQ(json["keys"][1]["key"], "plain");
  EXPECT_EQ(json["keys"][1]["bytes"], 100);
}

TEST_F(StoreInspectTest, ShowTakesKeyAndDirectoryInAnyOrder) {
  Put("layer0/block17", 4096, 100, 1);
  const RunResult first = Run("show layer0/block17 " + path_);
  const RunResult second = Run("show " + path_ + " layer0/block17");
  EXPECT_EQ(first.exit_code, 0) << first.errors;
  EXPECT_EQ(first.output, second.output);
  EXPECT_THAT(first.output, HasSubstr("uint8[100]"));
  const Json json = Json::parse(Run("show --json layer0/block17 " + path_).output, nullptr, false);
  EXPECT_EQ(json["tensors"][0]["payload"], "verified");
  const RunResult missing = Run("show nothing " + path_);
  EXPECT_EQ(missing.exit_code, 2);
  EXPECT_THAT(missing.errors, HasSubstr("no tensor of the key nothing"));
}

TEST_F(StoreInspectTest, SummaryHasFigures) {
  Put("a", 4096, 100, 1);
  Put("b", 16384, 1_MiB, 2);
  Put("c", 4_MiB, 300, 3, true, "other");
  const Json json = Json::parse(Run("summary --json " + path_).output, nullptr, false);
  EXPECT_EQ(json["uuid"], UuidText(files_->uuid()));
  EXPECT_EQ(json["format_version"], 1);
  EXPECT_EQ(json["tensors"], 3);
  EXPECT_EQ(json["bytes"], 1_MiB + 400);
  EXPECT_EQ(json["fingerprints"]["model"]["tensors"], 2);
  EXPECT_EQ(json["fingerprints"]["other"]["bytes"], 300);
  EXPECT_EQ(json["classes"]["general"]["tensors"], 3);
  EXPECT_EQ(json["dtypes"]["uint8"]["tensors"], 3);
  EXPECT_EQ(json["size_median"], 300);
  EXPECT_EQ(json["data_files"], 2);
  EXPECT_EQ(json["used_bytes"], 8192 + 8192 + 4096 + 1_MiB);
  EXPECT_GT(json["index_bytes_on_disk"], 0);
  const std::string text = Run("summary " + path_).output;
  EXPECT_THAT(text, HasSubstr(UuidText(files_->uuid())));
  EXPECT_THAT(text, HasSubstr("other: 1 tensors, 300 B"));
}

TEST_F(StoreInspectTest, WhatCannotBeReadIsOneLine) {
  Close();
  WriteFile(directory_ / "file", "x");
  FlipByte(path_ + "/superblock", 8, 1 ^ 9);
  const std::string commands[] = {
      "summary " + (directory_ / "nothing"),
      "verify " + (directory_ / "file"),
      "keys " + directory_.path(),
      "verify " + path_,
      "",
      "frobnicate " + path_,
      "verify",
      "keys --what " + path_,
  };
  for (const std::string& command : commands) {
    const RunResult result = Run(command);
    EXPECT_EQ(result.exit_code, 2) << command;
    EXPECT_EQ(result.output, "") << command;
    EXPECT_EQ(std::count(result.errors.begin(), result.errors.end(), '\n'), 1) << result.errors;
    EXPECT_THAT(result.errors, HasSubstr("store-inspect: ")) << command;
  }
  EXPECT_THAT(Run("verify " + path_).errors, HasSubstr("format version 9, this build reads 1"));
  EXPECT_EQ(Run("--help").exit_code, 0);
  EXPECT_EQ(Run("verify --help").exit_code, 0);
}

TEST_F(StoreInspectTest, ClosedPipeIsNoError) {
  for (int i = 0; i < 3000; ++i) {
    const std::string key = absl::StrCat(std::string(200, 'x'), i);
    const uint32_t id = *index_->FingerprintId("model");
    ASSERT_TRUE(index_
                    ->Commit({{.key = {id, key},
                               .record = SampleRecord("model", key, TensorMeta::Bytes(100))}},
                             false)
                    .ok());
  }
  const std::string errors = directory_ / "errors";
  FILE* const pipe =
      popen((CAIRN_STORE_INSPECT " keys " + path_ + " 2>" + Quoted(errors)).c_str(), "r");
  EXPECT_EQ(fgetc(pipe), 'x');
  EXPECT_EQ(pclose(pipe), 0);
  EXPECT_EQ(ReadFile(errors), "");
  const RunResult full = Run("keys " + path_ + " >/dev/full");
  EXPECT_EQ(full.exit_code, 2);
  EXPECT_THAT(full.errors, HasSubstr("cannot write the output"));
}

}  // namespace
}  // namespace cairn
