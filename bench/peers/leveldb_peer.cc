// LevelDB.

#include <leveldb/db.h>
#include <leveldb/options.h>
#include <leveldb/write_batch.h>

#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/peers/crew.h"
#include "bench/peers/peer_store.h"
#include "src/base/status_macros.h"

namespace cairn::peers {
namespace {

absl::Status ToAbslStatus(const leveldb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("leveldb: ", status.ToString()));
}

leveldb::Slice AsLevelDbSlice(std::string_view text) { return {text.data(), text.size()}; }
leveldb::Slice AsLevelDbSlice(absl::Span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class LevelDbPeer final : public PeerStore {
 public:
  explicit LevelDbPeer(std::unique_ptr<leveldb::DB> db) : db_(std::move(db)) {
    // The others that have checksums verify them, too.
    read_options_.verify_checksums = true;
  }

  absl::Status Put(absl::Span<const PutItem> batch) override {
    leveldb::WriteBatch writes;
    for (const PutItem& item : batch)
      writes.Put(AsLevelDbSlice(item.key), AsLevelDbSlice(item.bytes));
    return ToAbslStatus(db_->Write(leveldb::WriteOptions(), &writes));
  }

  // There is no flush; a synced write syncs the log with all that came before it.
  absl::Status Flush() override {
    leveldb::WriteOptions synced;
    synced.sync = true;
    leveldb::WriteBatch nothing;
    return ToAbslStatus(db_->Write(synced, &nothing));
  }

  absl::Status Get(absl::Span<const GetItem> batch) override {
    return crew_.ForEach(batch.size(), [this, batch](size_t i) { return GetOne(batch[i]); });
  }

  absl::Status Close() override {
    db_.reset();
    return absl::OkStatus();
  }

 private:
  absl::Status GetOne(const GetItem& item) {
    std::string value;
    CAIRN_RETURN_IF_ERROR(ToAbslStatus(db_->Get(read_options_, AsLevelDbSlice(item.key), &value)));
    if (value.size() != item.target.size()) return absl::DataLossError("leveldb: another size");
    std::memcpy(item.target.data(), value.data(), value.size());
    return absl::OkStatus();
  }

  std::unique_ptr<leveldb::DB> db_;
  leveldb::ReadOptions read_options_;
  Crew crew_{kPeerThreads};
};

absl::StatusOr<std::unique_ptr<PeerStore>> OpenLevelDb(const PeerOptions& options) {
  leveldb::Options leveldb_options;
  leveldb_options.create_if_missing = true;
  leveldb_options.compression = leveldb::kNoCompression;
  leveldb_options.write_buffer_size = size_t{128} << 20;
  leveldb_options.max_file_size = size_t{64} << 20;
  leveldb::DB* db = nullptr;
  CAIRN_RETURN_IF_ERROR(
      ToAbslStatus(leveldb::DB::Open(leveldb_options, options.directory + "/db", &db)));
  return std::make_unique<LevelDbPeer>(std::unique_ptr<leveldb::DB>(db));
}

}  // namespace

std::vector<PeerKind> LevelDbKinds() {
  return {{"leveldb", "log not synced; a batch is one write; 4 threads get", false, OpenLevelDb}};
}

}  // namespace cairn::peers
