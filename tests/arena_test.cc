#include "tiers/arena.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;

TEST(ArenaTest, IsAlignedRoundedAndZero) {
  auto arena = Arena::Create(kHugePageBytes + 1);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ((*arena)->bytes(), 2 * kHugePageBytes);
  EXPECT_EQ(reinterpret_cast<uintptr_t>((*arena)->base()) % kHugePageBytes, 0u);
  EXPECT_EQ((*arena)->memory().data(), (*arena)->base());
  EXPECT_EQ((*arena)->memory().size(), 2 * kHugePageBytes);
  EXPECT_STRNE(ArenaPagesName((*arena)->pages()), "?");

  (*arena)->base()[0] = std::byte{1};
  (*arena)->memory().back() = std::byte{2};
  EXPECT_EQ((*arena)->base()[kHugePageBytes], std::byte{0});
}

TEST(ArenaTest, IsReservedAndNotTouched) {
  // More than most machines have: only the address space is taken.
  auto arena = Arena::Create(uint64_t{1} << 40);
  if (!arena.ok()) GTEST_SKIP() << arena.status();
  (*arena)->memory().back() = std::byte{1};
  EXPECT_EQ((*arena)->memory().back(), std::byte{1});
}

// Bytes of it that have their pages, by the kernel.
uint64_t ResidentBytes(absl::Span<const std::byte> memory) {
  std::vector<unsigned char> pages(memory.size() / 4096);
  EXPECT_EQ(::mincore(const_cast<std::byte*>(memory.data()), memory.size(), pages.data()), 0);
  return 4096 * static_cast<uint64_t>(std::count_if(pages.begin(), pages.end(),
                                                    [](unsigned char page) { return page & 1; }));
}

// Parts that several threads take, and those that one does.
TEST(ArenaTest, PopulatesWhatItIsToldAndNothingElse) {
  auto arena = Arena::Create(160 * kHugePageBytes);
  ASSERT_TRUE(arena.ok()) << arena.status();
  if ((*arena)->pages() == ArenaPages::kHugetlb) GTEST_SKIP() << "has its pages from the start";
  const absl::Span<std::byte> memory = (*arena)->memory();
  (*arena)->Populate(memory.first(kHugePageBytes));
  if (ResidentBytes(memory.first(kHugePageBytes)) == 0) GTEST_SKIP() << "not with this kernel";
  EXPECT_EQ(ResidentBytes(memory), kHugePageBytes);
  for (const uint64_t pages : {3, 65, 131}) {
    const absl::Span<std::byte> part = memory.subspan(2 * kHugePageBytes, pages * kHugePageBytes);
    (*arena)->Populate(part);
    EXPECT_EQ(ResidentBytes(part), part.size());
    EXPECT_EQ(ResidentBytes(memory), kHugePageBytes + part.size());
    (*arena)->GiveBack(part);
    EXPECT_EQ(ResidentBytes(memory), kHugePageBytes);
  }
}

TEST(ArenaTest, GivesItsAddressesBack) {
  // Together more than a process can address.
  for (int i = 0; i < 200; ++i) {
    auto arena = Arena::Create(uint64_t{1} << 40);
    if (i == 0 && !arena.ok()) GTEST_SKIP() << arena.status();
    ASSERT_TRUE(arena.ok()) << i << ": " << arena.status();
  }
}

TEST(ArenaTest, SaysHowMuchWasRefused) {
  EXPECT_EQ(Arena::Create(0).status().code(), absl::StatusCode::kInvalidArgument);

  const auto too_large = Arena::Create(uint64_t{1} << 62);
  EXPECT_EQ(too_large.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(std::string(ToStd(too_large.status().message())).find("4611686018427387904"),
            std::string::npos)
      << too_large.status();

  // Rounding up must not wrap around to a small arena.
  EXPECT_EQ(Arena::Create(std::numeric_limits<uint64_t>::max()).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ArenaTest, IsNotInheritedByAChild) {
  auto arena = Arena::Create(kHugePageBytes);
  ASSERT_TRUE(arena.ok()) << arena.status();
  std::byte* const base = (*arena)->base();
  *base = std::byte{1};
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Something else may lie there by now.
    unsigned char resident = 0;
    const bool inherited = ::mincore(base, 1, &resident) == 0 && *base == std::byte{1};
    ::_exit(inherited ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace cairn
