#pragma once

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <memory>
#include <string>

#include "src/base/mutex.h"

namespace cairn {

// Reads pass; whatever would change the directory is refused. Opening read-only is RocksDB's
// promise; that nothing is written, not even by a repair, is this one's.
std::shared_ptr<rocksdb::FileSystem> NewReadOnlyFileSystem();

// After the first write, flush or sync that fails, no file changes on disk any more: every further
// change of one is answered with success and not made, a new file or name is refused, as if the
// process had been killed at the failure. So what is on disk is what RocksDB recovers from,
// whatever it still does with its files (Debian's build asserts that nobody closes a log after a
// failed write); its owner asks for failure() before it believes a success, and opens the database
// anew. Thread-safe.
class FailStopFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  FailStopFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "CairnFailStop"; }

  // The first failure; OK while there was none.
  rocksdb::IOStatus failure() const ABSL_LOCKS_EXCLUDED(mutex_);

  // `change` unless something failed before. What it fails with is kept, and its caller told OK.
  template <class Change>
  rocksdb::IOStatus Do(Change change) ABSL_LOCKS_EXCLUDED(mutex_) {
    if (!failure().ok()) return rocksdb::IOStatus::OK();
    const rocksdb::IOStatus status = change();
    if (!status.ok()) Fail(status);
    return rocksdb::IOStatus::OK();
  }

  using Options = rocksdb::IOOptions;
  using Context = rocksdb::IODebugContext;
  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    Context* context) override;
  rocksdb::IOStatus ReopenWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                       std::unique_ptr<rocksdb::FSWritableFile>* file,
                                       Context* context) override;
  rocksdb::IOStatus ReuseWritableFile(const std::string& name, const std::string& old_name,
                                      const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSWritableFile>* file,
                                      Context* context) override;
  rocksdb::IOStatus NewDirectory(const std::string& name, const Options& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* directory,
                                 Context* context) override;
  rocksdb::IOStatus DeleteFile(const std::string& name, const Options& options,
                               Context* context) override;
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const Options& options, Context* context) override;
  rocksdb::IOStatus Truncate(const std::string& name, size_t size, const Options& options,
                             Context* context) override;

 private:
  void Fail(const rocksdb::IOStatus& status) ABSL_LOCKS_EXCLUDED(mutex_);
  rocksdb::IOStatus Wrap(rocksdb::IOStatus opened, std::unique_ptr<rocksdb::FSWritableFile>* file);

  mutable Mutex mutex_;
  rocksdb::IOStatus failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn
