// Random allocations, frees, splits, moves out of ranges and exhaustion of every allocator, at
// several alignments, beside a map of the intervals that are taken. Ctest runs a few seeds;
// tests/campaign/allocators.sh runs as many as fit a time.
//
//   CAIRN_TEST_SECONDS=600   new seeds for so long
//   CAIRN_TEST_SEED=N        this seed alone

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/allocator_kinds.h"
#include "tests/interval_model.h"
#include "tiers/extent_allocator.h"
#include "tiers/hybrid_allocator.h"

namespace cairn {
namespace {

constexpr std::array<uint64_t, 5> kAlignments = {4096, 1, 256, 4096, uint64_t{2} << 20};
constexpr int kSteps = 6000;
constexpr uint64_t kSeeds = 3;

uint64_t NumberFromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// One allocator beside its model.
class Pair {
 public:
  Pair(const AllocatorUnderTest& kind, uint64_t seed)
      : random_(seed),
        alignment_(kAlignments[Below(kAlignments.size())]),
        space_bytes_((Below(2) == 0 ? 300 + Below(4000) : 60'000 + Below(40'000)) * alignment_),
        model_(space_bytes_) {
    auto allocator = kind.create(space_bytes_, alignment_);
    EXPECT_TRUE(allocator.ok()) << allocator.status();
    allocator_ = std::move(*allocator);
    at_first_bytes_ = allocator_->largest_free_bytes();
    for (uint64_t& units : frequent_units_) units = 1 + Below(24);
  }

  void Step(uint64_t fill_percent) {
    const uint64_t dice = Below(100);
    if (dice < 4) {
      FreeWrongly();
    } else if (dice < 6) {
      SplitSome();
    } else if (dice < 7) {
      AllocateImpossibly();
      if (Below(4) == 0) EvacuateSome();
    } else if (dice < 7 + fill_percent * 93 / 100) {
      AllocateSome();
    } else {
      FreeSome();
    }
    EXPECT_EQ(allocator_->bytes_used(), model_.bytes_used());
    EXPECT_EQ(allocator_->bytes_max(), space_bytes_);
    if (Below(8) == 0) {
      EXPECT_LE(allocator_->largest_free_bytes(), model_.LongestFree());
    }
  }

  // Until not even the least fits. What is freed then is all there is, and of use at once; half of
  // it is freed at the end.
  void Exhaust() {
    for (uint64_t bytes = space_bytes_; !testing::Test::HasFailure();) {
      const auto extent = allocator_->Allocate(bytes);
      if (extent.ok()) {
        ASSERT_TRUE(model_.Take(*extent)) << extent->offset << " +" << extent->bytes;
        in_use_.push_back(*extent);
      } else if (bytes > alignment_) {
        bytes = (bytes / alignment_ + 1) / 2 * alignment_;
      } else {
        EXPECT_EQ(extent.status().code(), absl::StatusCode::kResourceExhausted);
        break;
      }
    }
    EXPECT_EQ(allocator_->largest_free_bytes(), 0u);
    EXPECT_EQ(allocator_->bytes_used(), model_.bytes_used());
    for (int i = 0; i < 8 && !testing::Test::HasFailure(); ++i) {
      const uint64_t used_bytes = model_.bytes_used();
      FreeSome();
      AllocateAtOnce(used_bytes - model_.bytes_used());
    }
    for (size_t left = in_use_.size() / 2; in_use_.size() > left;) FreeSome();
  }

  void EndEmpty() {
    while (!in_use_.empty() && !testing::Test::HasFailure()) FreeSome();
    EXPECT_EQ(allocator_->bytes_used(), 0u);
    const auto all = allocator_->Allocate(at_first_bytes_);
    EXPECT_TRUE(all.ok()) << all.status();
  }

 private:
  uint64_t Below(uint64_t limit) {
    return std::uniform_int_distribution<uint64_t>(0, limit - 1)(random_);
  }

  // Mostly of a few sizes, so that these become frequent, else anything.
  uint64_t SomeBytes() {
    const uint64_t dice = Below(10);
    if (dice < 6)
      return frequent_units_[Below(frequent_units_.size())] * alignment_ -
             Below(std::min<uint64_t>(100, alignment_));
    if (dice < 9) return 1 + Below(40 * alignment_);
    return 1 + Below(space_bytes_ / 4);
  }

  void AllocateSome() {
    const uint64_t bytes = SomeBytes();
    const uint64_t promised_bytes = allocator_->largest_free_bytes() / 32 * 31;
    const auto extent = allocator_->Allocate(bytes);
    if (!extent.ok()) {
      EXPECT_EQ(extent.status().code(), absl::StatusCode::kResourceExhausted);
      EXPECT_GT(bytes, promised_bytes) << "there was room";
      return;
    }
    EXPECT_GE(extent->bytes, bytes);
    EXPECT_EQ((extent->offset | extent->bytes) % alignment_, 0u);
    ASSERT_TRUE(model_.Take(*extent)) << extent->offset << " +" << extent->bytes << " is taken";
    in_use_.push_back(*extent);
  }

  void AllocateAtOnce(uint64_t bytes) {
    const auto extent = allocator_->Allocate(bytes);
    ASSERT_TRUE(extent.ok()) << extent.status();
    ASSERT_TRUE(model_.Take(*extent));
    in_use_.push_back(*extent);
  }

  void AllocateImpossibly() {
    EXPECT_EQ(allocator_->Allocate(0).status().code(), absl::StatusCode::kInvalidArgument);
    const uint64_t bytes = space_bytes_ + 1 + (Below(2) == 0 ? Below(alignment_) : random_() / 2);
    for (const uint64_t impossible : {bytes, UINT64_MAX, UINT64_MAX - alignment_ + 1}) {
      EXPECT_EQ(allocator_->Allocate(impossible).status().code(),
                absl::StatusCode::kResourceExhausted)
          << impossible;
    }
  }

  void FreeSome() {
    if (in_use_.empty()) return;
    const size_t victim = Below(in_use_.size());
    const Extent extent = in_use_[victim];
    const absl::Status status = allocator_->Free(extent);
    EXPECT_TRUE(status.ok()) << status;
    model_.Give(extent);
    in_use_[victim] = in_use_.back();
    in_use_.pop_back();
    ExpectRefused(extent);
  }

  // Frees that are near the truth and not it.
  void FreeWrongly() {
    ExpectRefused({space_bytes_, alignment_});
    ExpectRefused({Below(space_bytes_), 1 + Below(space_bytes_)});
    ExpectRefused({random_(), random_()});
    ExpectRefused({Below(space_bytes_ / alignment_) * alignment_, (1 + Below(64)) * alignment_});
    if (in_use_.empty()) return;
    const Extent extent = in_use_[Below(in_use_.size())];
    ExpectRefused({extent.offset, extent.bytes + alignment_});
    ExpectRefused({extent.offset, extent.bytes - alignment_});
    ExpectRefused({extent.offset + alignment_, extent.bytes});
    ExpectRefused({extent.offset, extent.bytes * 2});
    ExpectRefused({extent.offset, 0});
  }

  void ExpectRefused(Extent extent) {
    if (model_.IsTaken(extent)) return;
    EXPECT_EQ(allocator_->Free(extent).code(), absl::StatusCode::kInvalidArgument)
        << extent.offset << " +" << extent.bytes;
  }

  // Withholds a range, moves what is in it elsewhere as far as there is room, and gives it back.
  void EvacuateSome() {
    const uint64_t units = space_bytes_ / alignment_;
    const uint64_t begin = Below(units);
    Extent range = {begin * alignment_, (1 + Below(units - begin)) * alignment_};
    if (Below(2) == 0) range.bytes = std::min(range.bytes, 64 * alignment_);
    if (auto* const magazines = dynamic_cast<MagazineAllocator*>(allocator_.get())) {
      return EvacuateAndTake(*magazines, range);
    }
    auto& spaces = dynamic_cast<SpaceAllocator&>(*allocator_);
    ExpectFree(spaces);
    // Only now: what was just allocated may have begun a slab across an end of it.
    range = spaces.Widen(range);
    spaces.Divide(range);
    EXPECT_EQ(spaces.Widen(range), range);
    ExpectFree(spaces);
    ExpectAllocatedIn(spaces, range);
    std::vector<Extent> withheld;
    const auto withhold = [&] {
      const size_t before = withheld.size();
      spaces.AllocateAllFree(range, &withheld);
      for (size_t i = before; i < withheld.size(); ++i) {
        EXPECT_TRUE(model_.Take(withheld[i]))
            << withheld[i].offset << " +" << withheld[i].bytes << " is taken";
      }
      EXPECT_EQ(spaces.bytes_used(), model_.bytes_used());
    };
    withhold();
    const bool all = MoveOutOf(range, withhold);
    for (const Extent& extent : withheld) {
      EXPECT_TRUE(spaces.Free(extent).ok()) << extent.offset << " +" << extent.bytes;
      model_.Give(extent);
    }
    if (all) ExpectOneRun(range);
  }

  // As the defragmenter does, with a window for a size half of the time.
  void EvacuateAndTake(MagazineAllocator& magazines, Extent range) {
    const uint64_t wanted_bytes = Below(2) == 0 ? SomeBytes() : 0;
    if (wanted_bytes > 0) {
      range = magazines.WindowFor(wanted_bytes, range.offset);
      if (range.bytes > space_bytes_) return;
      range.offset = std::min(range.offset, space_bytes_ - range.bytes);
    }
    range = magazines.Widen(range);
    ExpectAllocatedIn(magazines, range);
    ASSERT_TRUE(magazines.Withhold(range));
    EXPECT_FALSE(magazines.Withhold(range));
    const bool all = MoveOutOf(range, [] {});
    ExpectAllocatedIn(magazines, range);
    EXPECT_EQ(magazines.withheld_bytes(), magazines.withheld_bytes(range));
    EXPECT_EQ(magazines.withheld_bytes(range) == range.bytes, all);
    if (wanted_bytes == 0) {
      magazines.Restore(range);
      if (all) ExpectOneRun(range);
    } else {
      const auto extent = magazines.RestoreAndAllocate(range, wanted_bytes);
      EXPECT_TRUE(extent.ok() || !all) << extent.status() << " of the emptied " << range.bytes;
      if (extent.ok()) {
        ASSERT_TRUE(model_.Take(*extent)) << extent->offset << " +" << extent->bytes;
        in_use_.push_back(*extent);
      }
    }
    EXPECT_EQ(magazines.withheld_bytes(), 0u);
  }

  void ExpectOneRun(Extent range) {
    if (dynamic_cast<ExtentAllocator*>(allocator_.get()) == nullptr &&
        dynamic_cast<HybridAllocator*>(allocator_.get()) == nullptr) {
      return;
    }
    EXPECT_GE(allocator_->largest_free_bytes(), range.bytes);
  }

  // What is free and what is taken make the whole space, and an empty window has room.
  void ExpectFree(const SpaceAllocator& spaces) {
    IntervalModel model = model_;
    const uint64_t part_bytes = 64 * alignment_;
    for (uint64_t begin = 0; begin < space_bytes_; begin += part_bytes) {
      spaces.ForEachFree({begin, std::min(part_bytes, space_bytes_ - begin)}, [&](Extent run) {
        EXPECT_TRUE(model.Take(run)) << run.offset << " +" << run.bytes;
      });
    }
    EXPECT_EQ(model.bytes_used(), space_bytes_);
    const uint64_t bytes = SomeBytes();
    const Extent window = spaces.WindowFor(bytes, Below(space_bytes_ / alignment_) * alignment_);
    EXPECT_GE(window.bytes, bytes);
    if (window.bytes > spaces.largest_free_bytes()) return;
    const auto extent = allocator_->Allocate(bytes);
    ASSERT_TRUE(extent.ok()) << extent.status() << " in a run of " << window.bytes;
    ASSERT_TRUE(model_.Take(*extent));
    in_use_.push_back(*extent);
  }

  template <typename Ranges>
  void ExpectAllocatedIn(const Ranges& ranges, Extent range) {
    std::vector<Extent> extents;
    ranges.ForEachAllocated(range, [&](Extent extent) { extents.push_back(extent); });
    std::sort(extents.begin(), extents.end(),
              [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
    EXPECT_EQ(extents, model_.TakenIn(range)) << range.offset << " +" << range.bytes;
  }

  // Calls `freed` behind each that has moved. False when there was no room for all.
  bool MoveOutOf(Extent range, const std::function<void()>& freed) {
    bool all = true;
    for (Extent& extent : in_use_) {
      if (Intersect(extent, range).bytes == 0) continue;
      const auto target = allocator_->Allocate(extent.bytes);
      if (!target.ok()) {
        all = false;
        continue;
      }
      EXPECT_EQ(Intersect(*target, range).bytes, 0u) << "of what is withheld";
      EXPECT_TRUE(model_.Take(*target));
      EXPECT_TRUE(allocator_->Free(extent).ok());
      model_.Give(extent);
      freed();
      extent = *target;
    }
    return all;
  }

  // The allocator of files can cut what is allocated.
  void SplitSome() {
    auto* const extents = dynamic_cast<ExtentAllocator*>(allocator_.get());
    if (extents == nullptr || in_use_.empty()) return;
    const size_t chosen = Below(in_use_.size());
    const Extent whole = in_use_[chosen];
    const uint64_t bytes = Below(whole.bytes / alignment_ + 2) * alignment_;
    const absl::Status status = extents->Split(whole, bytes);
    if (bytes == 0 || bytes >= whole.bytes) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      return;
    }
    ASSERT_TRUE(status.ok()) << status;
    const Extent parts[] = {{whole.offset, bytes}, {whole.offset + bytes, whole.bytes - bytes}};
    model_.Give(whole);
    for (const Extent& part : parts) ASSERT_TRUE(model_.Take(part));
    in_use_[chosen] = parts[0];
    in_use_.push_back(parts[1]);
    ExpectRefused(whole);
  }

  std::mt19937_64 random_;
  const uint64_t alignment_;
  const uint64_t space_bytes_;
  IntervalModel model_;
  std::unique_ptr<Allocator> allocator_;
  uint64_t at_first_bytes_ = 0;
  std::array<uint64_t, 3> frequent_units_ = {};
  std::vector<Extent> in_use_;
};

class AllocatorModelTest : public testing::TestWithParam<AllocatorUnderTest> {
 protected:
  void Run(uint64_t seed) {
    SCOPED_TRACE(testing::Message() << GetParam().name << " CAIRN_TEST_SEED=" << seed);
    Pair pair(GetParam(), seed);
    for (int step = 0; step < kSteps && !HasFailure(); ++step) {
      // Waves of filling and of emptying, so that both ends are reached.
      pair.Step((step / 600) % 2 == 0 ? 75 : 30);
      if (step % 1200 == 599) pair.Exhaust();
    }
    if (!HasFailure()) pair.EndEmpty();
  }
};

TEST_P(AllocatorModelTest, AgreesWithTheModel) {
  if (const uint64_t seed = NumberFromEnvironment("CAIRN_TEST_SEED", 0); seed != 0) {
    Run(seed);
    return;
  }
  using Clock = std::chrono::steady_clock;
  const auto end =
      Clock::now() + std::chrono::seconds(NumberFromEnvironment("CAIRN_TEST_SECONDS", 0));
  const uint64_t first_seed = std::random_device()() | uint64_t{1};
  uint64_t seeds = 0;
  while (!HasFailure() && (seeds < kSeeds || Clock::now() < end)) {
    const uint64_t seed = first_seed + seeds++;
    // Who ends the process says no more.
    std::fprintf(stderr, "\r%s: seed %llu ", GetParam().name.c_str(),
                 static_cast<unsigned long long>(seed));
    Run(seed);
  }
  std::fprintf(stderr, "\n");
  std::printf("%s: %llu seeds from %llu on, %d steps each\n", GetParam().name.c_str(),
              static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(first_seed),
              kSteps);
}

INSTANTIATE_TEST_SUITE_P(All, AllocatorModelTest, testing::ValuesIn(AllocatorsUnderTest()), NameOf);

}  // namespace
}  // namespace cairn
