// L2: what of host memory a stored byte takes, and that its hot path calls neither the system nor
// the driver.

#include "tiers/pinned_tier.h"

#include <malloc.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/allocator_kinds.h"
#include "tests/forbid_call.h"

namespace cairn {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kKvBlockBytes = 2 * kMiB + kMiB / 4;

class PinnedTierTest : public testing::TestWithParam<AllocatorKind> {
 protected:
  std::unique_ptr<PinnedTier> MustCreate(uint64_t bytes) {
    auto device = Device::Open(DeviceKind::kHost, /*ordinal=*/0);
    EXPECT_TRUE(device.ok()) << device.status();
    device_ = std::move(*device);
    auto tier = PinnedTier::Create(bytes, device_.get(), {.allocator = GetParam()});
    EXPECT_TRUE(tier.ok()) << tier.status();
    return tier.ok() ? std::move(*tier) : nullptr;
  }

  std::unique_ptr<Device> device_;
};

uint64_t ResidentBytes() {
  uint64_t pages = 0;
  uint64_t resident_pages = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident_pages;
  return resident_pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

// A sanitizer keeps a shadow of what is touched, and maps memory whenever it likes.
bool IsSanitized() { return mallinfo2().arena == 0; }

std::vector<Extent> Fill(PinnedTier& tier, uint64_t bytes) {
  std::vector<Extent> extents;
  for (auto extent = tier.Reserve(bytes); extent.ok(); extent = tier.Reserve(bytes)) {
    extents.push_back(*extent);
  }
  return extents;
}

TEST_P(PinnedTierTest, AStoredByteTakesOneByteOfTheHost) {
  if (IsSanitized()) GTEST_SKIP() << "the sanitizer's memory is counted too";
  if (GetParam() == AllocatorKind::kBuddy) GTEST_SKIP() << "rounds up to powers of two";
  constexpr uint64_t kBytesMax = 512 * kMiB;
  const uint64_t before = ResidentBytes();
  const auto tier = MustCreate(kBytesMax);
  ASSERT_NE(tier, nullptr);
  const std::vector<Extent> extents = Fill(*tier, kKvBlockBytes);
  for (const Extent& extent : extents) std::memset(tier->Address(extent), 1, kKvBlockBytes);
  const double stored = static_cast<double>(extents.size() * kKvBlockBytes);
  // What is left over is taken too, where the arena is pinned or of reserved huge pages.
  const double resident = static_cast<double>(ResidentBytes() - before);
  const double taken = std::max(resident, static_cast<double>(tier->arena().bytes()));
  RecordProperty("bytes_a_stored_byte", std::to_string(taken / stored));
  EXPECT_LE(taken / stored, 1.02);
  EXPECT_GE(resident / stored, 0.99) << "not counted";
}

TEST_P(PinnedTierTest, OneLargeTensorFollowsManySmallOnes) {
  const auto tier = MustCreate(64 * kMiB);
  ASSERT_NE(tier, nullptr);
  const std::vector<Extent> small = Fill(*tier, 20'000);
  EXPECT_EQ(tier->Reserve(32 * kMiB).status().code(), absl::StatusCode::kResourceExhausted);
  for (const Extent& extent : small) tier->Release(extent);
  const auto large = tier->Reserve(64 * kMiB);
  ASSERT_TRUE(large.ok()) << large.status();
  tier->Release(*large);
}

// In a child: from there on every call fails that maps memory or that a driver is asked by.
TEST_P(PinnedTierTest, TheHotPathCallsNeitherSystemNorDriver) {
  if (IsSanitized()) GTEST_SKIP() << "the sanitizer maps memory itself";
  if (GetParam() == AllocatorKind::kBestFit) GTEST_SKIP() << "has nodes of the heap";
  const auto tier = MustCreate(256 * kMiB);
  ASSERT_NE(tier, nullptr);
  std::mt19937_64 random(1);
  std::vector<Extent> extents;
  extents.reserve(100'000);
  const auto churn = [&](int steps) {
    for (int step = 0; step < steps; ++step) {
      const uint64_t bytes = random() % 4 == 0 ? 1 + random() % kMiB : 3 * 4096;
      const absl::StatusOr<Extent> extent = tier->Reserve(bytes);
      if (extent.ok()) extents.push_back(*extent);
      if (extents.empty() || (extent.ok() && random() % 2 == 0)) continue;
      std::swap(extents[random() % extents.size()], extents.back());
      tier->Release(extents.back());
      extents.pop_back();
    }
  };
  // The first error makes room for its message in the heap.
  churn(20'000);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    for (const uint32_t call : {SYS_mmap, SYS_munmap, SYS_mremap, SYS_madvise, SYS_mprotect,
                                SYS_brk, SYS_mlock, SYS_ioctl}) {
      if (!ForbidCall(call)) ::_exit(77);
    }
    // Forbidden indeed.
    if (::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) {
      ::_exit(1);
    }
    churn(100'000);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "the kernel lets nobody forbid calls";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

INSTANTIATE_TEST_SUITE_P(Allocators, PinnedTierTest,
                         testing::Values(AllocatorKind::kHybrid, AllocatorKind::kBuddy,
                                         AllocatorKind::kBestFit),
                         NameOfKind);

}  // namespace
}  // namespace cairn
