#include "tiers/arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "src/base/check.h"

namespace cairn {
namespace {

constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;
// Of 2 MiB, whatever the system's default size is (MAP_HUGE_2MB of linux/mman.h).
constexpr int kMapHuge2MiB = 21 << 26;

// With all its pages at once: one that a limit of the container, or others, take away between here
// and its first use would be SIGBUS then. (Kernels before 5.14 do not know how: EINVAL.)
std::byte* MapHugetlb(uint64_t bytes) {
  void* const address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | kMapHuge2MiB, -1, 0);
  if (address == MAP_FAILED) return nullptr;
  if (::madvise(address, bytes, MADV_POPULATE_WRITE) != 0 && errno != EINVAL) {
    CAIRN_CHECK(::munmap(address, bytes) == 0);
    return nullptr;
  }
  return static_cast<std::byte*>(address);
}

// mmap aligns to small pages only: maps one huge page more, and gives both ends back.
std::byte* MapAligned(uint64_t bytes) {
  const uint64_t mapped_bytes = bytes + kHugePageBytes;
  void* const address = ::mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) return nullptr;
  auto* const mapped = static_cast<std::byte*>(address);
  const uint64_t misaligned_bytes = reinterpret_cast<uintptr_t>(mapped) % kHugePageBytes;
  const uint64_t head_bytes = misaligned_bytes == 0 ? 0 : kHugePageBytes - misaligned_bytes;
  const uint64_t tail_bytes = kHugePageBytes - head_bytes;
  if (head_bytes > 0) CAIRN_CHECK(::munmap(mapped, head_bytes) == 0);
  if (tail_bytes > 0) CAIRN_CHECK(::munmap(mapped + head_bytes + bytes, tail_bytes) == 0);
  return mapped + head_bytes;
}

}  // namespace

const char* ArenaPagesName(ArenaPages pages) {
  switch (pages) {
    case ArenaPages::kHugetlb:
      return "hugetlb";
    case ArenaPages::kTransparent:
      return "transparent";
    case ArenaPages::kSmall:
      return "small";
  }
  return "?";
}

Arena::Arena(std::byte* base, uint64_t bytes, ArenaPages pages)
    : base_(base), bytes_(bytes), pages_(pages) {}

Arena::~Arena() { CAIRN_CHECK(::munmap(base_, bytes_) == 0); }

void Arena::Populate(absl::Span<std::byte> part) const {
  // The first use of what it refuses says why.
  static_cast<void>(::madvise(part.data(), part.size(), MADV_POPULATE_WRITE));
}

void Arena::GiveBack(absl::Span<std::byte> part) const {
  CAIRN_CHECK(pages_ != ArenaPages::kHugetlb);
  // Refused where the process has locked its memory (mlockall): then it stays what it is.
  static_cast<void>(::madvise(part.data(), part.size(), MADV_DONTNEED));
}

absl::StatusOr<std::unique_ptr<Arena>> Arena::Create(uint64_t bytes) {
  if (bytes == 0) return absl::InvalidArgumentError("arena of 0 bytes");
  if (bytes > std::numeric_limits<uint64_t>::max() - 2 * kHugePageBytes) {
    return absl::ResourceExhaustedError(absl::StrCat("no arena of ", bytes, " bytes"));
  }
  const uint64_t rounded_bytes = (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  ArenaPages pages = ArenaPages::kHugetlb;
  std::byte* base = MapHugetlb(rounded_bytes);
  if (base == nullptr) {
    base = MapAligned(rounded_bytes);
    if (base == nullptr) {
      const int error = errno;
      return absl::ResourceExhaustedError(absl::StrCat(
          "no arena of ", rounded_bytes, " bytes: ", absl::ErrnoToStatus(error, "mmap").message()));
    }
    const bool transparent = ::madvise(base, rounded_bytes, MADV_HUGEPAGE) == 0;
    pages = transparent ? ArenaPages::kTransparent : ArenaPages::kSmall;
  }
  std::unique_ptr<Arena> arena(new Arena(base, rounded_bytes, pages));
  // A child that wrote to a page would make this process copy it, and the copy is neither pinned
  // nor where registered transfers go.
  if (::madvise(base, rounded_bytes, MADV_DONTFORK) != 0) {
    return absl::ErrnoToStatus(errno, "madvise(MADV_DONTFORK) of the arena");
  }
  return arena;
}

}  // namespace cairn
