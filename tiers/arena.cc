#include "tiers/arena.h"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/thread.h"

namespace cairn {
namespace {

// Of 2 MiB, whatever the system's default size is (MAP_HUGE_2MB of linux/mman.h).
constexpr int kMapHuge2MiB = 21 << 26;

// Of populating: more threads wait for the memory and not for one another, and a thread is not
// worth less than its share.
constexpr uint64_t kPopulateThreadsMax = 8;
constexpr uint64_t kPopulateShareBytes = uint64_t{64} << 20;

uint64_t CpusOfProcess() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (::sched_getaffinity(0, sizeof(cpus), &cpus) != 0) return 1;
  return static_cast<uint64_t>(CPU_COUNT(&cpus));
}

// The first use of what it refuses says why. Its errno, or 0.
int PopulateOnThisThread(absl::Span<std::byte> part) {
  return ::madvise(part.data(), part.size(), MADV_POPULATE_WRITE) == 0 ? 0 : errno;
}

int PopulateInParallel(absl::Span<std::byte> part) {
  const uint64_t count =
      std::clamp<uint64_t>(part.size() / kPopulateShareBytes, 1,
                           std::min(kPopulateThreadsMax, std::max<uint64_t>(CpusOfProcess(), 1)));
  const uint64_t pages = (part.size() + kHugePageBytes - 1) / kHugePageBytes;
  const uint64_t share_bytes = (pages + count - 1) / count * kHugePageBytes;
  std::array<int, kPopulateThreadsMax> errors = {};
  {
    std::array<Thread, kPopulateThreadsMax> others;
    for (uint64_t i = 1; i < count && i * share_bytes < part.size(); ++i) {
      const auto populate = [share = part.subspan(i * share_bytes, share_bytes),
                             error = &errors[i]] { *error = PopulateOnThisThread(share); };
      if (!others[i].Start("cairn-populate", populate).ok()) populate();
    }
    errors[0] = PopulateOnThisThread(part.first(std::min<uint64_t>(share_bytes, part.size())));
  }
  const auto failed = std::find_if(errors.begin(), errors.end(), [](int e) { return e != 0; });
  return failed == errors.end() ? 0 : *failed;
}

absl::Status Place(absl::Span<std::byte> memory, const ArenaPlacement& placement) {
  for (size_t i = 0; i < placement.ranges.size(); ++i) {
    const NumaRange& range = placement.ranges[i];
    CAIRN_CHECK(range.offset <= memory.size());
    const bool is_last = i + 1 == placement.ranges.size();
    const absl::Status status = placement.place(
        memory.subspan(range.offset, is_last ? memory.npos : range.bytes), range.nodes);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// With all its pages at once: one that a limit of the container, or others, take away between here
// and its first use would be SIGBUS then. (Kernels before 5.14 do not know how: EINVAL.)
std::byte* MapHugetlb(uint64_t bytes, const ArenaPlacement& placement,
                      absl::Status* placement_status) {
  void* const address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | kMapHuge2MiB, -1, 0);
  if (address == MAP_FAILED) return nullptr;
  const absl::Span<std::byte> memory(static_cast<std::byte*>(address), bytes);
  *placement_status = Place(memory, placement);
  const int error = PopulateInParallel(memory);
  if (error != 0 && error != EINVAL) {
    CAIRN_CHECK(::munmap(address, bytes) == 0);
    return nullptr;
  }
  return memory.data();
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

Arena::Arena(std::byte* base, uint64_t bytes, ArenaPages pages, absl::Status placement_status)
    : base_(base), bytes_(bytes), pages_(pages), placement_status_(std::move(placement_status)) {}

Arena::~Arena() { CAIRN_CHECK(::munmap(base_, bytes_) == 0); }

void Arena::Populate(absl::Span<std::byte> part) const {
  static_cast<void>(PopulateInParallel(part));
}

void Arena::GiveBack(absl::Span<std::byte> part) const {
  CAIRN_CHECK(pages_ != ArenaPages::kHugetlb);
  // Refused where the process has locked its memory (mlockall): then it stays what it is.
  static_cast<void>(::madvise(part.data(), part.size(), MADV_DONTNEED));
}

absl::StatusOr<std::unique_ptr<Arena>> Arena::Create(uint64_t bytes,
                                                     const ArenaPlacement& placement) {
  if (bytes == 0) return absl::InvalidArgumentError("arena of 0 bytes");
  if (bytes > std::numeric_limits<uint64_t>::max() - 2 * kHugePageBytes) {
    return absl::ResourceExhaustedError(absl::StrCat("no arena of ", bytes, " bytes"));
  }
  const uint64_t rounded_bytes = (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  ArenaPages pages = ArenaPages::kHugetlb;
  absl::Status placement_status;
  std::byte* base = MapHugetlb(rounded_bytes, placement, &placement_status);
  if (base == nullptr) {
    base = MapAligned(rounded_bytes);
    if (base == nullptr) {
      const int error = errno;
      return absl::ResourceExhaustedError(absl::StrCat(
          "no arena of ", rounded_bytes, " bytes: ", absl::ErrnoToStatus(error, "mmap").message()));
    }
    placement_status = Place({base, static_cast<size_t>(rounded_bytes)}, placement);
    const bool transparent = ::madvise(base, rounded_bytes, MADV_HUGEPAGE) == 0;
    pages = transparent ? ArenaPages::kTransparent : ArenaPages::kSmall;
  }
  std::unique_ptr<Arena> arena(new Arena(base, rounded_bytes, pages, placement_status));
  // A child that wrote to a page would make this process copy it, and the copy is neither pinned
  // nor where registered transfers go.
  if (::madvise(base, rounded_bytes, MADV_DONTFORK) != 0) {
    return absl::ErrnoToStatus(errno, "madvise(MADV_DONTFORK) of the arena");
  }
  return arena;
}

}  // namespace cairn
