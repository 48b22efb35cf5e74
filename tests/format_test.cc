// The worked example of io/FORMAT.md, made again byte by byte: what the document shows is what
// this build writes.

#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "io/checksum.h"
#include "io/data_folders.h"
#include "io/index.h"
#include "io/raw_index.h"
#include "io/record.h"
#include "io/superblock.h"

namespace cairn {
namespace {

constexpr std::string_view kFingerprint = "tiny-llama bf16";
constexpr std::string_view kKey = "block-0";

// As xxd shows bytes; lines of zeros only are one "*".
std::string Hex(std::string_view bytes) {
  std::string text;
  bool skipping = false;
  for (size_t line = 0; line < bytes.size(); line += 16) {
    const std::string_view row = bytes.substr(line, 16);
    const bool zeros = row.size() == 16 && row.find_first_not_of('\0') == std::string_view::npos;
    if (zeros) {
      if (!skipping) text += "*\n";
      skipping = true;
      continue;
    }
    skipping = false;
    absl::StrAppendFormat(&text, "%04x: ", line);
    std::string printable;
    for (size_t i = 0; i < 16; ++i) {
      if (i < row.size()) {
        const auto byte = static_cast<unsigned char>(row[i]);
        absl::StrAppendFormat(&text, " %02x", byte);
        printable.push_back(byte >= 0x20 && byte < 0x7f ? row[i] : '.');
      } else {
        text += "   ";
      }
    }
    absl::StrAppend(&text, "  ", printable, "\n");
  }
  return text;
}

struct Example {
  Example() {
    for (uint8_t i = 0; i < 16; ++i) uuid[i] = i;
    for (char i = 0; i < 12; ++i) payload.push_back(i);
    const uint64_t seed = ChecksumSeed(HashKey({1, kKey}), 1);
    header.store_uuid = uuid;
    header.fingerprint = std::string(kFingerprint);
    header.fingerprint_id = 1;
    header.key = std::string(kKey);
    header.chunk_sums = {ChunkChecksum(seed, payload.data(), payload.size())};
    IndexRecord& record = header.record;
    record.sequence = 1;
    record.offset = 4096;
    record.payload_bytes = payload.size();
    record.header_bytes = RecordHeaderBytes(kFingerprint.size(), kKey.size(), payload.size());
    record.checksum = TensorChecksum(seed, header.chunk_sums);
    record.meta = TensorMeta::Of(DType::kBf16, {2, 3});
    record.tensor_class = TensorClass::kKv;
  }

  StoreUuid uuid;
  std::string payload;
  RecordHeader header;
};

// The section of the document: "### title", then one block of code.
std::string Documented(const std::string& title) {
  std::ifstream file(CAIRN_FORMAT_MD);
  std::ostringstream text;
  text << file.rdbuf();
  const std::string all = text.str();
  const size_t section = all.find("### " + title + "\n");
  if (section == all.npos) return "no section " + title;
  const size_t begin = all.find("```\n", section) + 4;
  return all.substr(begin, all.find("```", begin) - begin);
}

TEST(FormatTest, Superblock) {
  EXPECT_EQ(Documented("Superblock"),
            Hex(EncodeSuperblock(
                {.uuid = Example().uuid, .data_file_bytes = 16 << 20, .file_count = 2})));
}

TEST(FormatTest, SuperblockWithWeights) {
  EXPECT_EQ(Documented("Superblock of a store with weights"),
            Hex(EncodeSuperblock({.uuid = Example().uuid,
                                  .data_file_bytes = 16 << 20,
                                  .file_count = 4,
                                  .data_paths = {"/nvme0", "/nvme1"},
                                  .data_weights = {3, 1}})));
}

// Where files lie can never be told otherwise.
TEST(FormatTest, FoldersOfDataFiles) {
  const auto folders = [](std::vector<uint32_t> weights) {
    const DataFolders placed("/store", {}, std::vector<std::string>(weights.size(), "/drive"),
                             weights);
    std::string text;
    for (size_t file = 0; file < 12; ++file) absl::StrAppend(&text, placed.FolderOf(file));
    return text;
  };
  EXPECT_EQ(folders({1, 1, 1}), "012012012012");
  EXPECT_EQ(folders({3, 1}), "001000100010");
  EXPECT_EQ(folders({1, 3}), "101110111011");
  EXPECT_EQ(folders({5, 2, 3}), "021002012002");
}

TEST(FormatTest, DataFileHeader) {
  EXPECT_EQ(Documented("Header of data file 1"),
            Hex(EncodeDataFileHeader({.uuid = Example().uuid,
                                      .data_file_bytes = 16 << 20,
                                      .bytes = (8 << 20) - 4096,
                                      .number = 1})));
}

TEST(FormatTest, IndexEntries) {
  const Example example;
  const std::string fingerprint_key = EncodeFingerprintKey(1);
  EXPECT_EQ(Documented("Index entry of the fingerprint"),
            absl::StrCat("key\n", Hex(fingerprint_key), "value\n",
                         Hex(EncodeFingerprint(fingerprint_key, kFingerprint))));
  EXPECT_EQ(
      Documented("Index entry of the next number"),
      absl::StrCat("key\n", Hex(kNextFingerprintKey), "value\n", Hex(EncodeNextFingerprint(2))));
  const std::string tensor_key = EncodeIndexKey({1, kKey});
  EXPECT_EQ(Documented("Index entry of the tensor"),
            absl::StrCat("key\n", Hex(tensor_key), "value\n",
                         Hex(EncodeIndexRecord(tensor_key, example.header.record))));
}

TEST(FormatTest, Record) {
  const Example example;
  std::vector<std::byte> extent(example.header.record.header_bytes);
  EncodeRecordHeader(example.header, absl::MakeSpan(extent));
  std::string bytes(reinterpret_cast<const char*>(extent.data()), extent.size());
  bytes += example.payload;
  bytes.resize(example.header.record.extent_bytes());
  EXPECT_EQ(Documented("Record"), Hex(bytes));
}

}  // namespace
}  // namespace cairn
