#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "src/base/check.h"

namespace cairn {

// A zeroed array of fixed length whose addresses are reserved at once and whose pages are taken
// as they are first touched: bookkeeping for the worst case that costs what the usual one needs,
// never moves, and calls the system only here.
template <typename T>
class ReservedArray {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  // kResourceExhausted when the system refuses the addresses.
  static absl::StatusOr<ReservedArray> Create(uint64_t length) {
    if (length == 0) return ReservedArray(nullptr, 0);
    if (length > std::numeric_limits<size_t>::max() / sizeof(T)) {
      return absl::ResourceExhaustedError(absl::StrCat("no array of ", length, " elements"));
    }
    void* const address =
        ::mmap(nullptr, static_cast<size_t>(length) * sizeof(T), PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) {
      const int error = errno;
      return absl::ResourceExhaustedError(
          absl::StrCat("no addresses for the bookkeeping of an allocator, ", length, " times ",
                       sizeof(T), " bytes: ", absl::ErrnoToStatus(error, "mmap").message()));
    }
    return ReservedArray(static_cast<T*>(address), static_cast<size_t>(length));
  }

  ReservedArray(ReservedArray&& other) noexcept
      : elements_(std::exchange(other.elements_, nullptr)),
        length_(std::exchange(other.length_, 0)) {}
  ReservedArray& operator=(ReservedArray&&) = delete;
  ~ReservedArray() {
    if (elements_ != nullptr) CAIRN_CHECK(::munmap(elements_, length_ * sizeof(T)) == 0);
  }

  T& operator[](size_t index) { return elements_[index]; }
  const T& operator[](size_t index) const { return elements_[index]; }
  size_t size() const { return length_; }

 private:
  ReservedArray(T* elements, size_t length) : elements_(elements), length_(length) {}

  T* elements_;
  size_t length_;
};

}  // namespace cairn
