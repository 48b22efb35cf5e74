#include "io/rocksdb_log_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <utility>

namespace cairn {

using rocksdb::IOStatus;

RocksDbLogFile::RocksDbLogFile(const std::string& name,
                               std::unique_ptr<rocksdb::FSWritableFile> file)
    : FSWritableFileOwnerWrapper(std::move(file)), fd_(open(name.c_str(), O_WRONLY | O_CLOEXEC)) {}

RocksDbLogFile::~RocksDbLogFile() {
  if (fd_ >= 0) close(fd_);
}

IOStatus RocksDbLogFile::Append(const rocksdb::Slice& data, const Options& options,
                                Context* context) {
  MutexLock lock(mutex_);
  size_ += data.size();
  return FSWritableFileWrapper::Append(data, options, context);
}

IOStatus RocksDbLogFile::Append(const rocksdb::Slice& data, const Options& options,
                                const rocksdb::DataVerificationInfo& checksum, Context* context) {
  MutexLock lock(mutex_);
  size_ += data.size();
  return FSWritableFileWrapper::Append(data, options, checksum, context);
}

IOStatus RocksDbLogFile::Sync(const Options& options, Context* context) {
  WriteAhead();
  return FSWritableFileWrapper::Sync(options, context);
}

IOStatus RocksDbLogFile::Fsync(const Options& options, Context* context) {
  WriteAhead();
  return FSWritableFileWrapper::Fsync(options, context);
}

IOStatus RocksDbLogFile::Close(const Options& options, Context* context) {
  MutexLock lock(mutex_);
  if (fd_ >= 0 && ahead_end_ > size_ && ftruncate(fd_, static_cast<off_t>(size_)) != 0) {
    return rocksdb::IOStatus::IOError("a log's end could not be cut off");
  }
  return FSWritableFileWrapper::Close(options, context);
}

// What cannot be written, as on a full disk, costs only its gain.
void RocksDbLogFile::WriteAhead() {
  static constexpr std::array<char, kAheadBytes> kZeros = {};
  MutexLock lock(mutex_);
  if (fd_ < 0 || size_ <= ahead_end_) return;
  const ssize_t written = pwrite(fd_, kZeros.data(), kZeros.size(), static_cast<off_t>(size_));
  if (written > 0) ahead_end_ = size_ + static_cast<uint64_t>(written);
}

}  // namespace cairn
