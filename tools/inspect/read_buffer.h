#pragma once

#include <cstddef>
#include <new>

#include "absl/types/span.h"

namespace cairn::inspect {

// Memory for large direct reads.
class ReadBuffer {
 public:
  static constexpr size_t kBytes = size_t{4} << 20;
  static constexpr std::align_val_t kAlignment{4096};

  ReadBuffer() : data_(static_cast<std::byte*>(::operator new(kBytes, kAlignment))) {}
  ~ReadBuffer() { ::operator delete(data_, kAlignment); }
  ReadBuffer(const ReadBuffer&) = delete;
  ReadBuffer& operator=(const ReadBuffer&) = delete;

  absl::Span<std::byte> span() const { return {data_, kBytes}; }

 private:
  std::byte* const data_;
};

}  // namespace cairn::inspect
