// LMDB: one transaction a batch, synced once at the end.

#include <lmdb.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/peers/crew.h"
#include "bench/peers/peer_store.h"
#include "src/base/status_macros.h"

namespace cairn::peers {
namespace {

absl::Status ToAbslStatus(int error) {
  if (error == MDB_SUCCESS) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("lmdb: ", mdb_strerror(error)));
}

MDB_val AsValue(std::string_view key) {
  return {.mv_size = key.size(), .mv_data = const_cast<char*>(key.data())};
}

class LmdbPeer final : public PeerStore {
 public:
  explicit LmdbPeer(MDB_env* env) : env_(env) {}
  ~LmdbPeer() override { mdb_env_close(env_); }

  absl::Status Start(const PeerOptions& options) {
    // Whole pages for each tensor, and the tree above them.
    CAIRN_RETURN_IF_ERROR(
        ToAbslStatus(mdb_env_set_mapsize(env_, options.bytes * 2 + (size_t{64} << 20))));
    CAIRN_RETURN_IF_ERROR(
        ToAbslStatus(mdb_env_open(env_, options.directory.c_str(), MDB_NOSYNC, 0600)));
    MDB_txn* txn = nullptr;
    CAIRN_RETURN_IF_ERROR(ToAbslStatus(mdb_txn_begin(env_, nullptr, 0, &txn)));
    const int opened = mdb_dbi_open(txn, nullptr, 0, &dbi_);
    if (opened != MDB_SUCCESS) {
      mdb_txn_abort(txn);
      return ToAbslStatus(opened);
    }
    return ToAbslStatus(mdb_txn_commit(txn));
  }

  absl::Status Put(absl::Span<const PutItem> batch) override {
    MDB_txn* txn = nullptr;
    CAIRN_RETURN_IF_ERROR(ToAbslStatus(mdb_txn_begin(env_, nullptr, 0, &txn)));
    for (const PutItem& item : batch) {
      MDB_val key = AsValue(item.key);
      MDB_val value = {.mv_size = item.bytes.size(),
                       .mv_data = const_cast<std::byte*>(item.bytes.data())};
      const int put = mdb_put(txn, dbi_, &key, &value, 0);
      if (put != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return ToAbslStatus(put);
      }
    }
    return ToAbslStatus(mdb_txn_commit(txn));
  }

  absl::Status Flush() override { return ToAbslStatus(mdb_env_sync(env_, /*force=*/1)); }

  absl::Status Get(absl::Span<const GetItem> batch) override {
    return crew_.ForEach(batch.size(), [this, batch](size_t i) { return GetOne(batch[i]); });
  }

  absl::Status Close() override { return absl::OkStatus(); }

 private:
  absl::Status GetOne(const GetItem& item) {
    MDB_txn* txn = nullptr;
    CAIRN_RETURN_IF_ERROR(ToAbslStatus(mdb_txn_begin(env_, nullptr, MDB_RDONLY, &txn)));
    MDB_val key = AsValue(item.key);
    MDB_val value = {};
    absl::Status status = ToAbslStatus(mdb_get(txn, dbi_, &key, &value));
    if (status.ok() && value.mv_size != item.target.size()) {
      status = absl::DataLossError("lmdb: another size");
    }
    // The map is read from disk here, page by page as the copy gets there.
    if (status.ok()) std::memcpy(item.target.data(), value.mv_data, value.mv_size);
    mdb_txn_abort(txn);
    return status;
  }

  MDB_env* const env_;
  MDB_dbi dbi_ = 0;
  Crew crew_{kPeerThreads};
};

absl::StatusOr<std::unique_ptr<PeerStore>> OpenLmdb(const PeerOptions& options) {
  MDB_env* env = nullptr;
  CAIRN_RETURN_IF_ERROR(ToAbslStatus(mdb_env_create(&env)));
  auto peer = std::make_unique<LmdbPeer>(env);
  CAIRN_RETURN_IF_ERROR(peer->Start(options));
  return peer;
}

}  // namespace

std::vector<PeerKind> LmdbKinds() {
  return {{"lmdb", "`NOSYNC`; a batch is one transaction; 4 threads get; no checksums", false,
           OpenLmdb}};
}

}  // namespace cairn::peers
