// RocksDB with its values in blob files.

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/peers/crew.h"
#include "bench/peers/peer_store.h"
#include "src/base/status_macros.h"

namespace cairn::peers {
namespace {

struct Use {
  bool sync = false;
  bool direct = false;
  // A batch is one write; else its items are put by the crew.
  bool batched = true;
};

absl::Status ToAbslStatus(const rocksdb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("rocksdb: ", status.ToString()));
}

rocksdb::Slice AsSlice(absl::Span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class RocksDbPeer final : public PeerStore {
 public:
  RocksDbPeer(std::unique_ptr<rocksdb::DB> db, Use use) : db_(std::move(db)), use_(use) {
    write_options_.sync = use.sync;
  }

  absl::Status Put(absl::Span<const PutItem> batch) override {
    if (!use_.batched) {
      return crew_.ForEach(batch.size(), [this, batch](size_t i) {
        return ToAbslStatus(db_->Put(write_options_, batch[i].key, AsSlice(batch[i].bytes)));
      });
    }
    rocksdb::WriteBatch writes;
    for (const PutItem& item : batch) {
      CAIRN_RETURN_IF_ERROR(ToAbslStatus(writes.Put(item.key, AsSlice(item.bytes))));
    }
    return ToAbslStatus(db_->Write(write_options_, &writes));
  }

  // Into synced files, so that the next Open has no log to replay.
  absl::Status Flush() override { return ToAbslStatus(db_->Flush(rocksdb::FlushOptions())); }

  absl::Status Get(absl::Span<const GetItem> batch) override {
    return crew_.ForEach(batch.size(), [this, batch](size_t i) { return GetOne(batch[i]); });
  }

  absl::Status Close() override { return ToAbslStatus(db_->Close()); }

 private:
  absl::Status GetOne(const GetItem& item) {
    rocksdb::PinnableSlice value;
    CAIRN_RETURN_IF_ERROR(ToAbslStatus(
        db_->Get(rocksdb::ReadOptions(), db_->DefaultColumnFamily(), item.key, &value)));
    if (value.size() != item.target.size()) return absl::DataLossError("rocksdb: another size");
    std::memcpy(item.target.data(), value.data(), value.size());
    return absl::OkStatus();
  }

  const std::unique_ptr<rocksdb::DB> db_;
  const Use use_;
  rocksdb::WriteOptions write_options_;
  Crew crew_{kPeerThreads};
};

absl::StatusOr<std::unique_ptr<PeerStore>> Open(const PeerOptions& options, Use use) {
  rocksdb::Options rocksdb_options;
  rocksdb_options.create_if_missing = true;
  rocksdb_options.compression = rocksdb::kNoCompression;
  rocksdb_options.enable_blob_files = true;
  rocksdb_options.min_blob_size = 4096;
  rocksdb_options.write_buffer_size = size_t{128} << 20;
  rocksdb_options.max_write_buffer_number = 4;
  rocksdb_options.max_background_jobs = 4;
  rocksdb_options.use_direct_reads = use.direct;
  rocksdb_options.use_direct_io_for_flush_and_compaction = use.direct;
  rocksdb::DB* db = nullptr;
  CAIRN_RETURN_IF_ERROR(
      ToAbslStatus(rocksdb::DB::Open(rocksdb_options, options.directory + "/db", &db)));
  return std::make_unique<RocksDbPeer>(std::unique_ptr<rocksdb::DB>(db), use);
}

PeerKind RocksDbKind(const char* name, const char* what, Use use) {
  return {name, what, use.sync, [use](const PeerOptions& options) { return Open(options, use); }};
}

}  // namespace

std::vector<PeerKind> RocksDbKinds() {
  return {
      RocksDbKind("rocksdb", "blob files, log not synced; a batch is one write; 4 threads get", {}),
      RocksDbKind("rocksdb-direct",
                  "blob files, log not synced, direct reads and flush; 4 threads put and get",
                  {.direct = true, .batched = false}),
      RocksDbKind("rocksdb-synced", "blob files, log synced for each batch; 4 threads get",
                  {.sync = true})};
}

}  // namespace cairn::peers
