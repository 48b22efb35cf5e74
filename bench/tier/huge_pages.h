#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "io/file.h"

namespace cairn::bench {

// More huge pages for a program that takes them from the system's reserve, for as long as this
// lives; then the reserve is what it was.
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

}  // namespace cairn::bench
