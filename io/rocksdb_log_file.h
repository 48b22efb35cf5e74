#pragma once

#include <rocksdb/file_system.h>

#include <cstdint>
#include <memory>
#include <string>

#include "src/base/mutex.h"

namespace cairn {

// A log that is synced without the file system's journal. Each sync of a file that has grown waits
// for a commit of the journal: some small writes one after the other, each behind all the data that
// the device was given before. So a sync that finds no room ahead writes zeros behind what was
// appended, and those after it find a file of that length and blocks that are written. RocksDB
// takes zeros for the end of a log; Close cuts them off. Thread-safe.
class RocksDbLogFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  using Options = rocksdb::IOOptions;
  using Context = rocksdb::IODebugContext;

  // What a log may be longer than what was appended.
  static constexpr uint64_t kAheadBytes = uint64_t{128} << 10;

  // `file` is new and has this name. Where it cannot be opened a second time nothing is written
  // ahead.
  RocksDbLogFile(const std::string& name, std::unique_ptr<rocksdb::FSWritableFile> file);
  ~RocksDbLogFile() override;

  rocksdb::IOStatus Append(const rocksdb::Slice& data, const Options& options,
                           Context* context) override ABSL_LOCKS_EXCLUDED(mutex_);
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const Options& options,
                           const rocksdb::DataVerificationInfo& checksum, Context* context) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  rocksdb::IOStatus Sync(const Options& options, Context* context) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  rocksdb::IOStatus Fsync(const Options& options, Context* context) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  rocksdb::IOStatus Close(const Options& options, Context* context) override
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void WriteAhead() ABSL_LOCKS_EXCLUDED(mutex_);

  Mutex mutex_;  // Nothing is appended where zeros are being written.
  int fd_ ABSL_GUARDED_BY(mutex_) = -1;
  uint64_t size_ ABSL_GUARDED_BY(mutex_) = 0;       // That was appended.
  uint64_t ahead_end_ ABSL_GUARDED_BY(mutex_) = 0;  // Of the zeros.
};

}  // namespace cairn
