#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/types/span.h"
#include "io/file.h"

namespace cairn::bench {

// More huge pages in the system's reserve, for as long as this lives; then the reserve is what it
// was.
class HugePages {
 public:
  static constexpr uint64_t kPageBytes = uint64_t{2} << 20;

  // At least so many that are free. More are asked for when others, who take such pages as they
  // find, were faster. Null when the system does not give them (not root, no free memory): then
  // nothing has changed.
  static std::unique_ptr<HugePages> Reserve(uint64_t pages);
  ~HugePages();
  HugePages(const HugePages&) = delete;
  HugePages& operator=(const HugePages&) = delete;

 private:
  HugePages(FileDescriptor lock, uint64_t pages_before)
      : lock_(std::move(lock)), pages_before_(pages_before) {}

  const FileDescriptor lock_;  // One at a time: each puts back what it found.
  const uint64_t pages_before_;
};

// Huge pages that another program can map too: two that are compared work on the very same, so that
// where in the machine their buffers lie is no difference between them.
class SharedHugePages {
 public:
  // All there, and zero. Null as in HugePages::Reserve.
  static std::unique_ptr<SharedHugePages> Create(uint64_t pages);
  ~SharedHugePages();
  SharedHugePages(const SharedHugePages&) = delete;
  SharedHugePages& operator=(const SharedHugePages&) = delete;

  // A file to map, for as long as this lives.
  std::string path() const;

  // The next `bytes`, in whole pages; empty when no more are left. Thread-safe.
  absl::Span<std::byte> Take(uint64_t bytes);
  // Nobody uses what was taken any more.
  void GiveBackAll() { taken_bytes_ = 0; }

 private:
  SharedHugePages(FileDescriptor file, absl::Span<std::byte> memory)
      : file_(std::move(file)), memory_(memory) {}

  const FileDescriptor file_;
  const absl::Span<std::byte> memory_;
  std::atomic<uint64_t> taken_bytes_ = 0;
};

}  // namespace cairn::bench
