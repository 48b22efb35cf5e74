#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/memtablerep.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <cstdarg>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/file.h"
#include "io/raw_index.h"
#include "io/rocksdb_files.h"
#include "src/base/start_thread.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

// A scan is of all there is, at Open: files are read in pieces of this.
constexpr size_t kScanReadBytes = size_t{1} << 20;
// A flush and a compaction.
constexpr int kBackgroundJobs = 2;
// And a clock. RocksDB ends the process when it cannot start one.
constexpr size_t kThreads = kBackgroundJobs + 1;

class SilentLogger final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

absl::Status Damaged(const std::string& path, std::string_view what) {
  const std::string store_path = std::filesystem::path(path).parent_path().string();
  return absl::DataLossError(
      absl::StrCat("index ", path, " is damaged: ", ToAbsl(what), RebuildInstruction(store_path)));
}

absl::Status FromRocksDb(const rocksdb::Status& status, const std::string& path) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat("index ", path, ": ", status.ToString());
  if (status.IsNotFound()) return absl::NotFoundError(message);
  if (status.IsCorruption()) return Damaged(path, status.ToString());
  if (status.IsNotSupported()) return absl::FailedPreconditionError(message);
  return absl::UnavailableError(message);
}

absl::Status FromOpen(const rocksdb::Status& status, const std::string& path) {
  const std::string text = status.ToString();
  // RocksDB has no code for a lock that another holds.
  if (text.find("While lock file") != std::string::npos ||
      text.find("lock hold by") != std::string::npos) {
    return absl::FailedPreconditionError(absl::StrCat("index ", path, " is in use: ", text));
  }
  if (status.IsNoSpace()) {
    return absl::ResourceExhaustedError(absl::StrCat("index ", path, ": ", text));
  }
  if (status.IsCorruption() || status.IsPathNotFound() || status.IsInvalidArgument()) {
    return Damaged(path, text);
  }
  return FromRocksDb(status, path);
}

// The files of bytes_max: two memtables and their logs, a few files on level 0, the levels, and
// what a compaction writes before it may delete. Everything follows from the size of a memtable.
rocksdb::Options SizedOptions(uint64_t bytes_max) {
  constexpr uint64_t kKiB = 1024;
  const uint64_t memtable_bytes = std::clamp(bytes_max / 32, 256 * kKiB, 16 * 1024 * kKiB);
  rocksdb::Options options;
  options.create_if_missing = true;
  options.write_buffer_size = memtable_bytes;
  options.max_write_buffer_number = 2;
  options.max_total_wal_size = 2 * memtable_bytes;
  options.level_compaction_dynamic_level_bytes = true;
  options.level0_file_num_compaction_trigger = 3;
  // No slowing down before the stop: it sleeps by a rate that knows nothing of the device.
  options.level0_slowdown_writes_trigger = 6;
  options.level0_stop_writes_trigger = 6;
  options.max_bytes_for_level_base = 2 * memtable_bytes;
  // Each file that a compaction makes is one more to be synced, which writers come to wait for.
  options.target_file_size_base = 2 * memtable_bytes;
  options.compression = rocksdb::kNoCompression;  // Hashes and sums do not shrink.
  options.bottommost_compression = rocksdb::kNoCompression;
  options.max_background_jobs = kBackgroundJobs;
  options.max_file_opening_threads = 1;  // The caller's: no others are started.
  // Sorted when it is written to a file, and not with each entry: nobody reads what was just
  // written, and there is one writer.
  options.memtable_factory = std::make_shared<rocksdb::VectorRepFactory>();
  options.allow_concurrent_memtable_write = false;
  options.max_open_files = 128;
  // No LOG: what matters is in a status, and a write to it that fails on a full disk ends the
  // process by an assertion.
  options.info_log = std::make_shared<SilentLogger>();
  options.max_manifest_file_size = std::clamp(bytes_max / 32, 256 * kKiB, 16 * 1024 * kKiB);
  options.manifest_preallocation_size = 64 * kKiB;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  rocksdb::BlockBasedTableOptions table;
  // Read in order at Open and by compactions, and by nobody else: the directory answers for it.
  table.block_cache = rocksdb::NewLRUCache(2 * 1024 * kKiB);
  table.block_size = 32 * kKiB;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

// An open database and what its files are reached through.
struct Database {
  std::shared_ptr<FailStopFileSystem> files;  // Null: read-only.
  std::unique_ptr<rocksdb::Env> env;          // Outlives the database.
  std::unique_ptr<rocksdb::DB> db;

  // A change that RocksDB believes in is one only if its files took it.
  rocksdb::Status Settle(const rocksdb::Status& status) const {
    if (files == nullptr) return status;
    rocksdb::Status failure = files->failure();
    return failure.ok() ? status : failure;
  }
};

class RocksDbIndex final : public RawIndex {
 public:
  RocksDbIndex(const RocksDbIndexOptions& options, std::shared_ptr<const Database> database)
      : options_(options), path_(options.path), database_(std::move(database)) {}

  absl::StatusOr<std::string> ReadRaw(std::string_view key) const override {
    CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<const Database> database, Current());
    std::string value;
    const rocksdb::Status status = database->db->Get(rocksdb::ReadOptions(), ToSlice(key), &value);
    if (!status.ok()) return FromRocksDb(status, path_);
    return value;
  }

  absl::Status WriteRaw(const std::vector<RawEdit>& edits, bool sync) override {
    CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<const Database> database, Current());
    constexpr size_t kEditOverheadBytes = 16;  // Of RocksDB's, at most.
    size_t bytes = kEditOverheadBytes;
    for (const RawEdit& edit : edits) {
      bytes += kEditOverheadBytes + edit.key.size() + edit.value.size();
    }
    rocksdb::WriteBatch batch(bytes);
    for (const RawEdit& edit : edits) {
      if (edit.kind == IndexEdit::Kind::kPut) {
        batch.Put(edit.key, edit.value);
      } else {
        batch.Delete(edit.key);
      }
    }
    rocksdb::WriteOptions write;
    write.sync = sync;
    return FromWrite(database->Settle(database->db->Write(write, &batch)));
  }

  absl::Status ScanRaw(
      std::string_view prefix, RawVisitor visitor,
      absl::FunctionRef<bool(std::string_view, const absl::Status&)> damaged) const override;

  absl::StatusOr<std::string> LastRaw(std::string_view prefix) const override {
    CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<const Database> database, Current());
    const std::unique_ptr<rocksdb::Iterator> entry(
        database->db->NewIterator(rocksdb::ReadOptions()));
    std::string after(prefix);
    ++after.back();
    entry->SeekForPrev(after);
    if (entry->Valid() && entry->key() == after) entry->Prev();
    CAIRN_RETURN_IF_ERROR(FromRocksDb(entry->status(), path_));
    if (!entry->Valid() || !entry->key().starts_with(ToSlice(prefix))) {
      return absl::NotFoundError("no index entry of this kind");
    }
    return entry->key().ToString();
  }

  absl::Status Sync() override {
    CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<const Database> database, Current());
    return FromWrite(database->Settle(database->db->SyncWAL()));
  }

  absl::Status Reopen() override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  static rocksdb::Slice ToSlice(std::string_view text) { return {text.data(), text.size()}; }

  absl::StatusOr<std::shared_ptr<const Database>> Current() const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    if (database_ == nullptr) return closed_;
    return database_;
  }

  absl::Status FromWrite(const rocksdb::Status& status) const {
    if (status.ok()) return absl::OkStatus();
    if (status.IsNotSupported() && options_.read_only) {
      return absl::FailedPreconditionError(absl::StrCat("index ", path_, " is open for reading"));
    }
    return absl::UnavailableError(absl::StrCat("index ", path_, ": ", status.ToString()));
  }

  const RocksDbIndexOptions options_;
  const std::string path_;

  mutable Mutex mutex_;
  // Null while it could not be opened again, and then why.
  std::shared_ptr<const Database> database_ ABSL_GUARDED_BY(mutex_);
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
};

// For inspection, what RocksDB finds damaged is read on from the last key without its checksums:
// every entry has one of ours.
absl::Status RocksDbIndex::ScanRaw(
    std::string_view prefix, RawVisitor visitor,
    absl::FunctionRef<bool(std::string_view, const absl::Status&)> damaged) const {
  CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<const Database> database, Current());
  std::string last(prefix);
  for (const bool verify : {true, false}) {
    rocksdb::ReadOptions read;
    read.verify_checksums = verify;
    read.fill_cache = false;
    read.readahead_size = kScanReadBytes;
    const std::unique_ptr<rocksdb::Iterator> entry(database->db->NewIterator(read));
    entry->Seek(last);
    // The entry that was visited before the damage.
    if (!verify && last.size() > prefix.size() && entry->Valid() && entry->key() == last) {
      entry->Next();
    }
    for (; entry->Valid() && entry->key().starts_with(ToSlice(prefix)); entry->Next()) {
      last.assign(entry->key().data(), entry->key().size());
      const rocksdb::Slice value = entry->value();
      if (!visitor(last, {value.data(), value.size()})) return absl::OkStatus();
    }
    const absl::Status status = FromRocksDb(entry->status(), path_);
    if (status.ok() || !verify || !options_.read_only || !options_.salvage) return status;
    if (!damaged(last, status)) return absl::OkStatus();
  }
  return absl::OkStatus();
}

// Nothing, a database, or the remains of one (kDataLoss): RocksDB would take the last for a new
// one and delete what is left of it.
absl::StatusOr<bool> HasIndex(const std::string& path) {
  std::error_code error;
  if (std::filesystem::exists(path + "/CURRENT", error)) return true;
  for (std::filesystem::directory_iterator file(path, error), end; !error && file != end;
       file.increment(error)) {
    const std::string extension = file->path().extension().string();
    if (extension == ".sst" || extension == ".log") {
      return Damaged(path, "its file CURRENT is missing");
    }
  }
  return false;
}

absl::StatusOr<std::shared_ptr<const Database>> OpenReadOnly(
    const RocksDbIndexOptions& index_options) {
  auto database = std::make_shared<Database>();
  rocksdb::Options options = SizedOptions(index_options.bytes_max);
  options.create_if_missing = false;
  // Every file is held from the start: a live owner may delete it the next moment.
  options.max_open_files = -1;
  database->env = rocksdb::NewCompositeEnv(NewReadOnlyFileSystem());
  options.env = database->env.get();

  rocksdb::Status status;
  // The first tries are for a live owner that deletes files under our eyes; the later ones read
  // what is left of a damaged index, each asking for less.
  for (int attempt = 0; attempt < (index_options.salvage ? 6 : 4); ++attempt) {
    options.paranoid_checks = attempt < 4;
    options.wal_recovery_mode = attempt < 4 ? rocksdb::WALRecoveryMode::kPointInTimeRecovery
                                            : rocksdb::WALRecoveryMode::kSkipAnyCorruptedRecords;
    options.best_efforts_recovery = attempt == 5;
    rocksdb::DB* db = nullptr;
    status = rocksdb::DB::OpenForReadOnly(options, index_options.path, &db);
    if (status.ok()) {
      database->db.reset(db);
      return database;
    }
  }
  return FromOpen(status, index_options.path);
}

absl::StatusOr<std::shared_ptr<const Database>> OpenForWriting(
    const RocksDbIndexOptions& index_options) {
  CAIRN_RETURN_IF_ERROR(CheckThreadsLeft(kThreads));
  auto database = std::make_shared<Database>();
  database->files = std::make_shared<FailStopFileSystem>();
  database->env = rocksdb::NewCompositeEnv(database->files);
  rocksdb::Options options = SizedOptions(index_options.bytes_max);
  options.env = database->env.get();
  rocksdb::DB* db = nullptr;
  rocksdb::Status status = rocksdb::DB::Open(options, index_options.path, &db);
  if (status.ok()) database->db.reset(db);
  status = database->Settle(status);
  if (!status.ok()) return FromOpen(status, index_options.path);
  return database;
}

absl::Status RocksDbIndex::Reopen() {
  MutexLock lock(mutex_);
  if (options_.read_only) return absl::OkStatus();
  if (database_ != nullptr) {
    if (database_->files->failure().ok()) return absl::OkStatus();
    // Somebody still waits for an answer of the broken one: next time.
    if (database_.use_count() > 1) return absl::UnavailableError("the index is in use");
    database_.reset();
  }
  absl::StatusOr<std::shared_ptr<const Database>> database = OpenForWriting(options_);
  // Whatever keeps it closed: to a write it is that nothing can be written now.
  closed_ = database.ok() ? absl::OkStatus() : absl::UnavailableError(database.status().message());
  if (database.ok()) database_ = *std::move(database);
  return closed_;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Index>> OpenRocksDbIndex(const RocksDbIndexOptions& index_options) {
  CAIRN_ASSIGN_OR_RETURN(const bool exists, HasIndex(index_options.path));
  if (!exists && (index_options.read_only || !index_options.create)) {
    return absl::NotFoundError(absl::StrCat("no index at ", index_options.path));
  }
  if (index_options.read_only) {
    CAIRN_ASSIGN_OR_RETURN(std::shared_ptr<const Database> database, OpenReadOnly(index_options));
    return std::make_unique<RocksDbIndex>(index_options, std::move(database));
  }
  CAIRN_ASSIGN_OR_RETURN(const bool made, MakeDirectory(index_options.path));
  if (made) {
    const std::filesystem::path parent = std::filesystem::path(index_options.path).parent_path();
    CAIRN_RETURN_IF_ERROR(SyncDirectory(parent.empty() ? "." : parent.string()));
  }
  CAIRN_ASSIGN_OR_RETURN(std::shared_ptr<const Database> database, OpenForWriting(index_options));
  return std::make_unique<RocksDbIndex>(index_options, std::move(database));
}

}  // namespace cairn
