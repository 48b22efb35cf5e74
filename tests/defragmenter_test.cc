// Defragmenter over every kind of allocator, without a store: what it makes room for, what it
// costs, what it leaves alone. And the measure that it goes by.

#include "tiers/defragmenter.h"

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "tests/allocator_kinds.h"
#include "tiers/fragmentation.h"
#include "tiers/magazine_allocator.h"

namespace cairn {
namespace {

constexpr uint64_t kAlignment = 4096;
constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint64_t kSpaceBytes = 256 * kMiB;

Deadline Soon() { return SteadyNow() + std::chrono::seconds(30); }

// Blocks with a number each, some of them held.
class Blocks final : public Defragmenter::Mover {
 public:
  explicit Blocks(MagazineAllocator* space) : space_(space) {}

  bool Add(uint64_t bytes, int number) {
    const absl::StatusOr<Extent> extent = space_->Allocate(bytes);
    if (!extent.ok()) return false;
    EXPECT_TRUE(by_offset_.emplace(extent->offset, std::pair(*extent, number)).second);
    return true;
  }
  void RemoveAt(size_t index) {
    const auto one = std::next(by_offset_.begin(), static_cast<ptrdiff_t>(index));
    EXPECT_TRUE(space_->Free(one->second.first).ok());
    by_offset_.erase(one);
  }
  std::multiset<std::pair<uint64_t, int>> Contents() const {
    std::multiset<std::pair<uint64_t, int>> contents;
    for (const auto& [offset, block] : by_offset_)
      contents.emplace(block.first.bytes, block.second);
    return contents;
  }
  size_t size() const { return by_offset_.size(); }
  std::set<int> held;
  std::function<void()> moving = [] {};

  bool CanMove(Extent extent) override {
    const auto found = by_offset_.find(extent.offset);
    return found != by_offset_.end() && !held.contains(found->second.second);
  }
  bool Move(Extent extent) override {
    moving();
    if (!CanMove(extent)) return false;
    const absl::StatusOr<Extent> target = space_->Allocate(extent.bytes);
    if (!target.ok()) return false;
    const int number = by_offset_.at(extent.offset).second;
    by_offset_.erase(extent.offset);
    EXPECT_TRUE(by_offset_.emplace(target->offset, std::pair(*target, number)).second);
    EXPECT_TRUE(space_->Free(extent).ok());
    return true;
  }

 private:
  MagazineAllocator* const space_;
  std::map<uint64_t, std::pair<Extent, int>> by_offset_;
};

class DefragmenterTest : public testing::TestWithParam<AllocatorKind> {
 protected:
  void SetUp() override {
    auto space = MagazineAllocator::Create(GetParam(), kSpaceBytes, kAlignment);
    ASSERT_TRUE(space.ok()) << space.status();
    space_ = std::move(*space);
    blocks_ = std::make_unique<Blocks>(space_.get());
  }
  std::unique_ptr<Defragmenter> New(const Defragmenter::Options& options) {
    return std::make_unique<Defragmenter>(space_.get(), &mix_, blocks_.get(), options);
  }
  // One whose thread has moved something, and needs years for a window if nothing ends it.
  std::unique_ptr<Defragmenter> StartMoving() {
    blocks_->moving = [this] {
      MutexLock lock(mutex_);
      moving_ = true;
      changed_.NotifyAll();
    };
    auto defragmenter = New({.bytes_per_second = 1, .measure_every = std::chrono::milliseconds(1)});
    EXPECT_TRUE(defragmenter->Start().ok());
    MutexLock lock(mutex_);
    while (!moving_) changed_.Wait(mutex_);
    return defragmenter;
  }
  // Fills the space with blocks of 64 KiB to 2 MiB and frees them at random down to a part of it.
  void Fragment(uint64_t percent) {
    int number = 0;
    while (blocks_->Add((64 + random_() % 2000) * kKiB, number)) ++number;
    while (space_->bytes_used() > kSpaceBytes / 100 * percent) {
      blocks_->RemoveAt(random_() % blocks_->size());
    }
  }

  std::mt19937_64 random_{7};
  SizeMix mix_{kSpaceBytes};
  std::unique_ptr<MagazineAllocator> space_;
  std::unique_ptr<Blocks> blocks_;
  Mutex mutex_;
  CondVar changed_;
  bool moving_ ABSL_GUARDED_BY(mutex_) = false;
};

TEST_P(DefragmenterTest, MakesRoomByMovingLessThanItGains) {
  Fragment(70);
  const auto contents = blocks_->Contents();
  constexpr uint64_t kBytes = 16 * kMiB;
  ASSERT_FALSE(space_->Allocate(kBytes).ok());
  const auto defragmenter = New({});
  const absl::StatusOr<Extent> extent = defragmenter->MakeRoom(kBytes, Soon());
  ASSERT_TRUE(extent.ok()) << extent.status();
  EXPECT_GE(extent->bytes, kBytes);
  const Defragmenter::Figures figures = defragmenter->figures();
  EXPECT_EQ(figures.windows, 1u);
  EXPECT_GE(figures.bytes_freed, kBytes);
  EXPECT_GT(figures.bytes_moved, 0u);
  EXPECT_LE(figures.bytes_moved, kBytes);
  EXPECT_EQ(blocks_->Contents(), contents);
  EXPECT_EQ(space_->withheld_bytes(), 0u);
}

// At the end of the space least lies, but no block of a buddy's begins where it would have to.
TEST_P(DefragmenterTest, EmptiesNoWindowThatGivesNoRoom) {
  space_ = *MagazineAllocator::Create(GetParam(), 224 * kMiB, kAlignment);
  blocks_ = std::make_unique<Blocks>(space_.get());
  for (int number = 0; number < 224; ++number) ASSERT_TRUE(blocks_->Add(kMiB, number));
  for (size_t index = 224; index-- > 0;) {
    if (index % (index < 64 ? 4 : 32) != 2) blocks_->RemoveAt(index);
  }
  constexpr uint64_t kBytes = 70 * kMiB;
  ASSERT_FALSE(space_->Allocate(kBytes).ok());
  const auto defragmenter = New({});
  const absl::StatusOr<Extent> extent = defragmenter->MakeRoom(kBytes, Soon());
  ASSERT_TRUE(extent.ok()) << extent.status();
  EXPECT_EQ(blocks_->size(), 21u);
}

TEST_P(DefragmenterTest, LeavesAloneWhatIsHeld) {
  Fragment(70);
  for (const auto& [bytes, number] : blocks_->Contents()) {
    if (number % 4 == 0) blocks_->held.insert(number);
  }
  const auto contents = blocks_->Contents();
  const auto defragmenter = New({});
  // With so many held there may be no window; what was moved is whole in any case.
  const absl::StatusOr<Extent> extent = defragmenter->MakeRoom(4 * kMiB, Soon());
  if (!extent.ok()) {
    EXPECT_EQ(extent.status().code(), absl::StatusCode::kResourceExhausted);
  }
  EXPECT_EQ(blocks_->Contents(), contents);
  EXPECT_EQ(space_->withheld_bytes(), 0u);

  for (const auto& [bytes, number] : contents) blocks_->held.insert(number);
  const uint64_t moved = defragmenter->figures().bytes_moved;
  EXPECT_FALSE(defragmenter->MakeRoom(64 * kMiB, Soon()).ok());
  EXPECT_EQ(defragmenter->figures().bytes_moved, moved);
}

TEST_P(DefragmenterTest, RefusesWhatCannotBe) {
  Fragment(80);
  const auto defragmenter = New({});
  for (const uint64_t bytes : {uint64_t{0}, kSpaceBytes, kSpaceBytes + 1, UINT64_MAX}) {
    EXPECT_EQ(defragmenter->MakeRoom(bytes, Soon()).status().code(),
              absl::StatusCode::kResourceExhausted)
        << bytes;
  }
  const auto never = New({.unusable_share_max = 1});
  EXPECT_FALSE(never->MakeRoom(16 * kMiB, Soon()).ok());
  EXPECT_EQ(never->figures().bytes_moved, 0u);
}

TEST_P(DefragmenterTest, TidiesWhenTooMuchIsOfNoUse) {
  Fragment(75);
  mix_.Note(8 * kMiB);
  const auto defragmenter = New({.bytes_per_second = uint64_t{1} << 40});
  const double before = defragmenter->Measure().unusable_share;
  ASSERT_GT(before, 0.3);
  for (int i = 0; i < 100 && defragmenter->Tidy(); ++i) {
  }
  EXPECT_LT(defragmenter->Measure().unusable_share, before);
  EXPECT_GT(defragmenter->figures().windows, 0u);
}

TEST_P(DefragmenterTest, StopEndsAPassBetweenTwoMoves) {
  Fragment(75);
  mix_.Note(8 * kMiB);
  const auto defragmenter = StartMoving();
  defragmenter->Stop();
  EXPECT_EQ(space_->withheld_bytes(), 0u);
  EXPECT_FALSE(defragmenter->MakeRoom(16 * kMiB, Soon()).ok());
}

TEST_P(DefragmenterTest, ADemandEndsAPacedPass) {
  Fragment(70);
  mix_.Note(8 * kMiB);
  const auto defragmenter = StartMoving();
  const absl::StatusOr<Extent> extent = defragmenter->MakeRoom(16 * kMiB, Soon());
  EXPECT_TRUE(extent.ok()) << extent.status();
  defragmenter->Stop();
}

INSTANTIATE_TEST_SUITE_P(All, DefragmenterTest,
                         testing::Values(AllocatorKind::kHybrid, AllocatorKind::kBuddy,
                                         AllocatorKind::kBestFit),
                         NameOfKind);

TEST(FragmentationTest, CountsWhatTheMixCannotUse) {
  SizeMix mix(1 << 20);
  const std::vector<Extent> runs = {{0, 100}, {200, 250}, {1000, 50}};
  const auto measure = [&] {
    return MeasureFragmentation(2000, mix, [&](Extent part, VisitRun visit) {
      for (const Extent& run : runs) {
        if (Intersect({run.offset, 1}, part).bytes > 0) visit(run);
      }
    });
  };
  EXPECT_EQ(measure().unusable_share, 0);
  mix.Note(100);
  Fragmentation found = measure();
  EXPECT_EQ(found.bytes_free, 400u);
  EXPECT_EQ(found.bytes_free_longest, 250u);
  EXPECT_DOUBLE_EQ(found.scattered_share(), 1 - 250.0 / 400);
  // Of 100, 250 and 50 bytes 100, 200 and none are of use.
  EXPECT_DOUBLE_EQ(found.unusable_share, 0.25);
  EXPECT_EQ(found.bytes_most_unusable, 100u);
  // Nothing of it is of use for 300: three quarters of the bytes that were asked for.
  mix.Note(300);
  found = measure();
  EXPECT_DOUBLE_EQ(found.unusable_share, 0.25 * 0.25 + 0.75);
  EXPECT_EQ(found.bytes_most_unusable, 300u);
}

TEST(FragmentationTest, OldSizesFade) {
  SizeMix mix(1000);
  for (int i = 0; i < 10; ++i) mix.Note(100);
  for (int i = 0; i < 100; ++i) mix.Note(37);
  const std::vector<SizeMix::Size> sizes = mix.Sizes();
  ASSERT_FALSE(sizes.empty());
  EXPECT_EQ(sizes.front().bytes, 37u);
  for (const SizeMix::Size& size : sizes) {
    EXPECT_TRUE(size.bytes == 37 || size.bytes_asked < 200) << size.bytes;
  }
}

}  // namespace
}  // namespace cairn
