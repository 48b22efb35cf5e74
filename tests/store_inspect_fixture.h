#pragma once

#include <algorithm>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "io/checksum.h"
#include "io/pack.h"
#include "nlohmann/json.hpp"
#include "tests/run_store_inspect.h"
#include "tests/store_files_fixture.h"

namespace cairn {

using Json = nlohmann::json;

class StoreInspectTest : public StoreFilesTest {
 protected:
  void SetUp() override {
    Files files = Open();
    ASSERT_TRUE(files.ok()) << files.status();
    files_ = *std::move(files);
    OpenIndex();
  }

  void OpenIndex() {
    absl::StatusOr<std::unique_ptr<Index>> index =
        OpenRocksDbIndex({.path = path_ + "/index", .bytes_max = 8_MiB});
    ASSERT_TRUE(index.ok()) << index.status();
    index_ = *std::move(index);
  }

  // As the store would have left it.
  void Close() {
    index_.reset();
    files_.reset();
  }

  static std::string Content(uint64_t bytes, uint64_t sequence) {
    std::string content(bytes, '\0');
    for (size_t i = 0; i < bytes; ++i) content[i] = static_cast<char>(i * 31 + sequence);
    return content;
  }

  // Writes header and payload at the offset, and the index entry if asked.
  IndexRecord Put(const std::string& key, uint64_t offset, uint64_t bytes, uint64_t sequence,
                  bool index = true, const std::string& fingerprint = "model",
                  int64_t expires_unix_ms = 0, Retention retention = Retention::kCache) {
    RecordHeader header;
    header.store_uuid = files_->uuid();
    header.fingerprint = fingerprint;
    header.fingerprint_id = *index_->FingerprintId(fingerprint);
    header.key = key;
    header.record = SampleRecord(fingerprint, key, TensorMeta::Bytes(bytes), offset, sequence);
    const IndexKey index_key = {header.fingerprint_id, header.key};
    const uint64_t seed = ChecksumSeed(HashKey(index_key), sequence);
    header.record.expires_unix_ms = expires_unix_ms;
    header.record.retention = retention;
    const std::string payload = Content(bytes, sequence);
    for (uint64_t at = 0; at < bytes; at += kChecksumChunkBytes) {
      header.chunk_sums.push_back(
          ChunkChecksum(seed, payload.data() + at, std::min(kChecksumChunkBytes, bytes - at)));
    }
    header.record.checksum = TensorChecksum(seed, header.chunk_sums);
    std::vector<std::byte> encoded(header.record.header_bytes);
    EncodeRecordHeader(header, absl::MakeSpan(encoded));
    Write(offset, {reinterpret_cast<const char*>(encoded.data()), encoded.size()});
    Write(offset + encoded.size(), payload);
    if (index) {
      EXPECT_TRUE(index_->Commit({{.key = index_key, .record = header.record}}, true).ok());
    }
    return header.record;
  }

  // Tensors of one block each from the offset on, their table behind; the first has the sequence.
  std::vector<IndexRecord> PutPack(const std::vector<std::string>& keys, uint64_t offset,
                                   uint64_t sequence, bool index = true) {
    PackTable table;
    table.store_uuid = files_->uuid();
    table.fingerprint = "model";
    table.fingerprint_id = *index_->FingerprintId("model");
    table.offset = offset + keys.size() * 4096;
    uint64_t members_bytes = 0;
    for (const std::string& key : keys) members_bytes += PackMemberBytes(key.size(), 1);
    table.table_bytes = PackTableBytes(table.fingerprint.size(), members_bytes);
    std::vector<IndexRecord> records;
    for (size_t i = 0; i < keys.size(); ++i) {
      IndexRecord record = SampleRecord("model", keys[i], TensorMeta::Bytes(4096 - i),
                                        offset + i * 4096, sequence + i);
      record.pack_offset = table.offset;
      record.header_bytes = table.table_bytes;
      const IndexKey key = {table.fingerprint_id, keys[i]};
      const std::string payload = Content(4096 - i, record.sequence);
      const uint64_t seed = ChecksumSeed(HashKey(key), record.sequence);
      const uint64_t sum = ChunkChecksum(seed, payload.data(), payload.size());
      record.checksum = TensorChecksum(seed, {&sum, 1});
      Write(record.offset, payload);
      table.members.push_back({key, record});
      records.push_back(record);
      if (index) {
        EXPECT_TRUE(index_->Commit({{.key = key, .record = record}}, true).ok());
      }
    }
    std::vector<std::byte> encoded(table.table_bytes);
    EncodePackTable(table, absl::MakeSpan(encoded));
    Write(table.offset, {reinterpret_cast<const char*>(encoded.data()), encoded.size()});
    return records;
  }

  void Write(uint64_t offset, std::string_view bytes) {
    std::fstream file(DataPathOf(offset), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(offset % files_->data_file_bytes()));
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    EXPECT_TRUE(file.good());
  }
  std::string DataPathOf(uint64_t offset) const {
    return Data(static_cast<uint32_t>(offset / files_->data_file_bytes()));
  }
  void Flip(uint64_t offset) { FlipByte(DataPathOf(offset), offset % files_->data_file_bytes()); }

  RunResult Run(const std::string& arguments) const {
    return RunStoreInspect(arguments, directory_ / "errors");
  }
  Json VerifyJson(int exit_code) const { return RunJson("verify", exit_code); }
  Json RunJson(const std::string& command, int exit_code) const {
    const RunResult result = Run(command + " --json " + path_);
    EXPECT_EQ(result.exit_code, exit_code) << result.output << result.errors;
    EXPECT_EQ(result.errors, "");
    return Json::parse(result.output, nullptr, false);
  }

  std::unique_ptr<StoreFiles> files_;
  std::unique_ptr<Index> index_;
};

}  // namespace cairn
