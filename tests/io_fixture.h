#pragma once

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "io/async_io.h"
#include "src/base/mutex.h"

namespace cairn {

// What tests of I/O work with: memory, files, and ops one can wait for.

inline constexpr size_t kTestBlockBytes = 4096;

// Aligned for direct I/O; zero at first.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(size_t bytes)
      : size_(bytes),
        data_(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kTestBlockBytes}))) {
    std::fill_n(data_, size_, std::byte{0});
  }
  ~AlignedBuffer() { ::operator delete (data_, std::align_val_t{kTestBlockBytes}); }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;

  absl::Span<std::byte> span() { return {data_, size_}; }
  absl::Span<std::byte> span(size_t offset, size_t size) { return span().subspan(offset, size); }
  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const size_t size_;
  std::byte* const data_;
};

// Bytes that tell the seed and their place in the span.
inline void FillPattern(absl::Span<std::byte> bytes, uint64_t seed) {
  std::minstd_rand random(static_cast<uint32_t>(seed * 2654435761u + 1));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() >> 7);
}

// A file under the test's directory, gone with this object. Direct where the file system allows.
class TemporaryFile {
 public:
  enum class Mode { kDirect, kBuffered };

  TemporaryFile(Mode mode, uint64_t bytes) {
    std::string path = ::testing::TempDir() + "cairn_io_XXXXXX";
    const int made = mkstemp(path.data());
    EXPECT_GE(made, 0);
    const int direct = mode == Mode::kDirect ? O_DIRECT : 0;
    fd_ = open(path.c_str(), O_RDWR | O_CLOEXEC | direct);
    if (fd_ < 0) fd_ = open(path.c_str(), O_RDWR | O_CLOEXEC);
    read_only_fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_GE(fd_, 0);
    unlink(path.c_str());
    EXPECT_EQ(ftruncate(made, static_cast<off_t>(bytes)), 0);
    close(made);
    is_direct_ = (fcntl(fd_, F_GETFL) & O_DIRECT) != 0;
  }
  ~TemporaryFile() {
    close(fd_);
    close(read_only_fd_);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  int fd() const { return fd_; }
  int read_only_fd() const { return read_only_fd_; }  // Buffered.
  bool is_direct() const { return is_direct_; }

 private:
  int fd_ = -1;
  int read_only_fd_ = -1;
  bool is_direct_ = false;
};

inline iovec IovecOf(absl::Span<std::byte> bytes) {
  return {.iov_base = bytes.data(), .iov_len = bytes.size()};
}

// The span in `count` pieces or fewer, cut at random places that are multiples of 4096.
inline absl::InlinedVector<iovec, 2> RandomPieces(absl::Span<std::byte> bytes, size_t count,
                                                  std::mt19937_64& random) {
  absl::InlinedVector<iovec, 2> pieces;
  while (pieces.size() + 1 < count && bytes.size() > kTestBlockBytes) {
    const size_t blocks = bytes.size() / kTestBlockBytes;
    const size_t cut = (1 + random() % blocks) * kTestBlockBytes;
    if (cut >= bytes.size()) break;
    pieces.push_back(IovecOf(bytes.first(cut)));
    bytes.remove_prefix(cut);
  }
  pieces.push_back(IovecOf(bytes));
  return pieces;
}

// An op to wait for.
class TestOp : public IoOp {
 public:
  TestOp() = default;
  TestOp(Kind op_kind, int op_file, uint64_t op_offset, absl::Span<std::byte> bytes) {
    Set(op_kind, op_file, op_offset, bytes);
  }

  void Set(Kind op_kind, int op_file, uint64_t op_offset, absl::Span<std::byte> bytes) {
    kind = op_kind;
    priority = op_kind == Kind::kRead ? IoPriority::kDemandRead : IoPriority::kWrite;
    file = op_file;
    offset = op_offset;
    pieces.clear();
    if (!bytes.empty()) pieces.push_back(IovecOf(bytes));
  }

  void OnDone(absl::Status status) override {
    MutexLock lock(mutex_);
    ++done_count_;
    status_ = std::move(status);
    changed_.NotifyAll();  // Under the lock: the op may be gone once it is free.
  }

  // Of the first or the `count`th OnDone.
  absl::Status Wait(int count = 1) {
    MutexLock lock(mutex_);
    while (done_count_ < count) changed_.Wait(mutex_);
    return status_;
  }

  int done_count() {
    MutexLock lock(mutex_);
    return done_count_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int done_count_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

inline void SubmitOne(AsyncIo& io, IoOp& op) {
  IoOp* const ops[] = {&op};
  io.Submit(ops);
}

inline absl::Status Carry(AsyncIo& io, TestOp& op) {
  const int count = op.done_count() + 1;
  SubmitOne(io, op);
  return op.Wait(count);
}

inline absl::Status WriteFile(AsyncIo& io, int file, uint64_t offset, absl::Span<std::byte> bytes) {
  TestOp op(IoOp::Kind::kWrite, file, offset, bytes);
  return Carry(io, op);
}

inline absl::Status ReadFile(AsyncIo& io, int file, uint64_t offset, absl::Span<std::byte> bytes) {
  TestOp op(IoOp::Kind::kRead, file, offset, bytes);
  return Carry(io, op);
}

// Opens when the test says: keeps a thread in OnDone until then.
class Gate {
 public:
  void Open() {
    MutexLock lock(mutex_);
    open_ = true;
    changed_.NotifyAll();
  }
  void Pass() {
    MutexLock lock(mutex_);
    arrived_ = true;
    changed_.NotifyAll();
    while (!open_) changed_.Wait(mutex_);
  }
  void WaitForArrival() {
    MutexLock lock(mutex_);
    while (!arrived_) changed_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
  bool arrived_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace cairn
