#include "io/rocksdb_files.h"

#include <string_view>
#include <utility>

#include "io/rocksdb_log_file.h"

namespace cairn {
namespace {

using rocksdb::IOStatus;

class ReadOnlyFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  using Status = rocksdb::IOStatus;
  using Options = rocksdb::IOOptions;
  using Context = rocksdb::IODebugContext;

  ReadOnlyFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "CairnReadOnly"; }

  Status NewWritableFile(const std::string&, const rocksdb::FileOptions&,
                         std::unique_ptr<rocksdb::FSWritableFile>*, Context*) override {
    return Refused();
  }
  Status ReopenWritableFile(const std::string&, const rocksdb::FileOptions&,
                            std::unique_ptr<rocksdb::FSWritableFile>*, Context*) override {
    return Refused();
  }
  Status ReuseWritableFile(const std::string&, const std::string&, const rocksdb::FileOptions&,
                           std::unique_ptr<rocksdb::FSWritableFile>*, Context*) override {
    return Refused();
  }
  Status NewRandomRWFile(const std::string&, const rocksdb::FileOptions&,
                         std::unique_ptr<rocksdb::FSRandomRWFile>*, Context*) override {
    return Refused();
  }
  Status NewLogger(const std::string&, const Options&, std::shared_ptr<rocksdb::Logger>*,
                   Context*) override {
    return Refused();
  }
  Status DeleteFile(const std::string&, const Options&, Context*) override { return Refused(); }
  Status Truncate(const std::string&, size_t, const Options&, Context*) override {
    return Refused();
  }
  Status CreateDir(const std::string&, const Options&, Context*) override { return Refused(); }
  Status CreateDirIfMissing(const std::string&, const Options&, Context*) override {
    return Refused();
  }
  Status DeleteDir(const std::string&, const Options&, Context*) override { return Refused(); }
  Status RenameFile(const std::string&, const std::string&, const Options&, Context*) override {
    return Refused();
  }
  Status LinkFile(const std::string&, const std::string&, const Options&, Context*) override {
    return Refused();
  }
  // Answers for a lock that is not taken: a live owner has it, and recovery only asks for one.
  Status LockFile(const std::string&, const Options&, rocksdb::FileLock** lock, Context*) override {
    *lock = nullptr;
    return Status::OK();
  }
  Status UnlockFile(rocksdb::FileLock*, const Options&, Context*) override { return Status::OK(); }

 private:
  static Status Refused() { return Status::NotSupported("the index is open for reading only"); }
};

class FailStopFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  using Options = rocksdb::IOOptions;
  using Context = rocksdb::IODebugContext;
  using Checksum = rocksdb::DataVerificationInfo;

  FailStopFile(FailStopFileSystem* files, std::unique_ptr<rocksdb::FSWritableFile> file)
      : FSWritableFileOwnerWrapper(std::move(file)), files_(files) {}

  IOStatus Append(const rocksdb::Slice& data, const Options& options, Context* context) override {
    return files_->Do([&] { return FSWritableFileWrapper::Append(data, options, context); });
  }
  IOStatus Append(const rocksdb::Slice& data, const Options& options, const Checksum& checksum,
                  Context* context) override {
    return files_->Do(
        [&] { return FSWritableFileWrapper::Append(data, options, checksum, context); });
  }
  IOStatus PositionedAppend(const rocksdb::Slice& data, uint64_t offset, const Options& options,
                            Context* context) override {
    return files_->Do(
        [&] { return FSWritableFileWrapper::PositionedAppend(data, offset, options, context); });
  }
  IOStatus PositionedAppend(const rocksdb::Slice& data, uint64_t offset, const Options& options,
                            const Checksum& checksum, Context* context) override {
    return files_->Do([&] {
      return FSWritableFileWrapper::PositionedAppend(data, offset, options, checksum, context);
    });
  }
  IOStatus Truncate(uint64_t size, const Options& options, Context* context) override {
    return files_->Do([&] { return FSWritableFileWrapper::Truncate(size, options, context); });
  }
  IOStatus Flush(const Options& options, Context* context) override {
    return files_->Do([&] { return FSWritableFileWrapper::Flush(options, context); });
  }
  IOStatus Sync(const Options& options, Context* context) override {
    return files_->Do([&] { return FSWritableFileWrapper::Sync(options, context); });
  }
  IOStatus Fsync(const Options& options, Context* context) override {
    return files_->Do([&] { return FSWritableFileWrapper::Fsync(options, context); });
  }
  IOStatus RangeSync(uint64_t offset, uint64_t bytes, const Options& options,
                     Context* context) override {
    return files_->Do(
        [&] { return FSWritableFileWrapper::RangeSync(offset, bytes, options, context); });
  }
  // Cuts what was preallocated and not used, so it is a change too.
  IOStatus Close(const Options& options, Context* context) override {
    return files_->Do([&] { return FSWritableFileWrapper::Close(options, context); });
  }

 private:
  FailStopFileSystem* const files_;
};

class FailStopDirectory final : public rocksdb::FSDirectoryWrapper {
 public:
  using Options = rocksdb::IOOptions;
  using Context = rocksdb::IODebugContext;

  FailStopDirectory(FailStopFileSystem* files, std::unique_ptr<rocksdb::FSDirectory> directory)
      : FSDirectoryWrapper(std::move(directory)), files_(files) {}

  IOStatus Fsync(const Options& options, Context* context) override {
    return files_->Do([&] { return FSDirectoryWrapper::Fsync(options, context); });
  }
  IOStatus FsyncWithDirOptions(const Options& options, Context* context,
                               const rocksdb::DirFsyncOptions& what) override {
    return files_->Do(
        [&] { return FSDirectoryWrapper::FsyncWithDirOptions(options, context, what); });
  }

 private:
  FailStopFileSystem* const files_;
};

}  // namespace

std::shared_ptr<rocksdb::FileSystem> NewReadOnlyFileSystem() {
  return std::make_shared<ReadOnlyFileSystem>();
}

IOStatus FailStopFileSystem::failure() const {
  MutexLock lock(mutex_);
  return failure_;
}

void FailStopFileSystem::Fail(const IOStatus& status) {
  MutexLock lock(mutex_);
  if (failure_.ok()) failure_ = status;
}

// A file that cannot be had is told as it is: there is nothing yet that could be closed.
IOStatus FailStopFileSystem::Wrap(IOStatus opened, std::unique_ptr<rocksdb::FSWritableFile>* file) {
  if (opened.ok()) {
    *file = std::make_unique<FailStopFile>(this, std::move(*file));
  } else {
    Fail(opened);
  }
  return opened;
}

IOStatus FailStopFileSystem::NewWritableFile(const std::string& name,
                                             const rocksdb::FileOptions& options,
                                             std::unique_ptr<rocksdb::FSWritableFile>* file,
                                             Context* context) {
  if (const IOStatus failed = failure(); !failed.ok()) return failed;
  const IOStatus opened = FileSystemWrapper::NewWritableFile(name, options, file, context);
  if (opened.ok() && std::string_view(name).ends_with(".log")) {
    *file = std::make_unique<RocksDbLogFile>(name, std::move(*file));
  }
  return Wrap(opened, file);
}

IOStatus FailStopFileSystem::ReopenWritableFile(const std::string& name,
                                                const rocksdb::FileOptions& options,
                                                std::unique_ptr<rocksdb::FSWritableFile>* file,
                                                Context* context) {
  if (const IOStatus failed = failure(); !failed.ok()) return failed;
  return Wrap(FileSystemWrapper::ReopenWritableFile(name, options, file, context), file);
}

IOStatus FailStopFileSystem::ReuseWritableFile(const std::string& name, const std::string& old_name,
                                               const rocksdb::FileOptions& options,
                                               std::unique_ptr<rocksdb::FSWritableFile>* file,
                                               Context* context) {
  if (const IOStatus failed = failure(); !failed.ok()) return failed;
  return Wrap(FileSystemWrapper::ReuseWritableFile(name, old_name, options, file, context), file);
}

IOStatus FailStopFileSystem::NewDirectory(const std::string& name, const Options& options,
                                          std::unique_ptr<rocksdb::FSDirectory>* directory,
                                          Context* context) {
  IOStatus opened = FileSystemWrapper::NewDirectory(name, options, directory, context);
  if (opened.ok()) *directory = std::make_unique<FailStopDirectory>(this, std::move(*directory));
  return opened;
}

// A file that could not be deleted is a file too many and no more.
IOStatus FailStopFileSystem::DeleteFile(const std::string& name, const Options& options,
                                        Context* context) {
  if (!failure().ok()) return IOStatus::OK();
  return FileSystemWrapper::DeleteFile(name, options, context);
}

IOStatus FailStopFileSystem::RenameFile(const std::string& from, const std::string& to,
                                        const Options& options, Context* context) {
  if (const IOStatus failed = failure(); !failed.ok()) return failed;
  IOStatus status = FileSystemWrapper::RenameFile(from, to, options, context);
  if (!status.ok()) Fail(status);
  return status;
}

IOStatus FailStopFileSystem::Truncate(const std::string& name, size_t size, const Options& options,
                                      Context* context) {
  return Do([&] { return FileSystemWrapper::Truncate(name, size, options, context); });
}

}  // namespace cairn
