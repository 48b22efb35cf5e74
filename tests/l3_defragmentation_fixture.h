#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/broken_index.h"
#include "tests/faulty_io.h"
#include "tests/store_fixture.h"

namespace cairn {

// A store whose L3 is free in pieces of one tensor, each of them too small for a large one.
class L3DefragmentationTest : public StoreTest {
 protected:
  static constexpr uint64_t kBytes = 192 * kKiB;
  static constexpr uint64_t kLarge = 2 * kMiB;
  static constexpr PutOptions kKept = {.durability = Durability::kOnDevice,
                                       .retention = Retention::kKeep};

  L3DefragmentationTest() { options_.l3_bytes_max = 40 * kMiB; }
  static std::string Key(int i) { return absl::StrCat("tensor ", i); }
  bool IsThere(int i) const { return (i % 3 != 0) == (gone_in_three_ == 1); }

  // Nothing moves before somebody asks for room.
  void OpenQuiet() {
    options_.unusable_share_max = 0.999;
    StoreSeams seams = WrappedIn(&io_);
    seams.wrap_index = [this](std::unique_ptr<Index> inner) {
      auto index = std::make_unique<BrokenIndex>(std::move(inner), &broken_);
      index_ = index.get();
      return index;
    };
    Open(std::move(seams));
  }
  // A thread of the store moves as fast as it may: it has windows emptied of which less is in use.
  void OpenBusy(uint64_t bytes_per_second = 1024 * kMiB) {
    gone_in_three_ = 2;
    options_.unusable_share_max = 0.05;
    options_.move_bytes_per_second = bytes_per_second;
    Open(WrappedIn(&io_));
  }
  // Some of every three are gone. Those that stay are to be kept unless `put` says otherwise.
  void Fragment(const PutOptions& put = kKept) {
    // What is asked for, too, are large ones.
    for (int i = 0; i < 8; ++i) ASSERT_TRUE(Put("large", kLarge, 0, kKept).ok());
    ASSERT_TRUE(store_->Erase("large").ok());
    const TierStats l3 = store_->Stats().l3;
    count_ = static_cast<int>((l3.bytes_max - l3.bytes_used) / (kBytes + 4 * kKiB)) - 2;
    for (int i = 0; i < count_; ++i) {
      const absl::Status done = Put(Key(i), kBytes, 0, put);
      ASSERT_TRUE(done.ok()) << i << ": " << done;
    }
    for (int i = 0; i < count_; ++i) {
      if (!IsThere(i)) {
        ASSERT_TRUE(store_->Erase(Key(i)).ok());
      }
    }
  }
  // Of what may be evicted, with one in `every` gone and the rest of L3 taken by what is to be
  // kept: so much is free that nothing is evicted for the sake of what comes.
  void FragmentCached(int every) {
    options_.l2_bytes_max = 64 * kMiB;
    OpenQuiet();
    const PutOptions cached = {.durability = Durability::kOnDevice};
    const TierStats l3 = store_->Stats().l3;
    count_ = static_cast<int>(l3.bytes_max * 6 / 10 / (kBytes + 4 * kKiB));
    for (int i = 0; i < count_; ++i) ASSERT_TRUE(Put(Key(i), kBytes, 0, cached).ok());
    for (int i = 0; i < count_; i += every) ASSERT_TRUE(store_->Erase(Key(i)).ok());
    int fillers = 0;
    for (uint64_t run = 0; (run = store_->Stats().l3.bytes_free_longest) >= kLarge;) {
      ASSERT_TRUE(Put(absl::StrCat("filler ", fillers++), run - 8 * kKiB, 0, kKept).ok());
    }
    ASSERT_EQ(store_->Stats().l3.evictions, 0u);
  }
  // From here on they are on L3 alone.
  void LeaveL2() {
    for (int i = 0; i < count_; ++i) {
      if (IsThere(i)) {
        ASSERT_TRUE(store_->Evict(Key(i), Level::kL3Nvme).ok());
      }
    }
  }
  void ExpectAll() {
    for (int i = 0; i < count_; ++i) {
      if (IsThere(i)) Expect(Key(i), kBytes);
    }
  }
  void ExpectAllAfterReopen() {
    ExpectAll();
    Reopen();
    EXPECT_EQ(store_->Stats().recovery_dropped, 0u);
    ExpectAll();
  }
  uint64_t Moved() const { return store_->Stats().decisions[size_t(Decision::kMovedL3)]; }
  // Bounded by the test's own time alone.
  void AwaitMoves(uint64_t count) {
    while (Moved() < count) SleepFor(std::chrono::milliseconds(2));
  }
  // A request that nobody has asked for: the read before a move.
  static bool ReadsToMove(const IoOp& op) {
    return op.kind == IoOp::Kind::kRead && op.priority == IoPriority::kBackground;
  }

  FaultyIo* io_ = nullptr;
  BrokenIndex* index_ = nullptr;  // After OpenQuiet.
  std::atomic<bool> broken_ = false;
  int gone_in_three_ = 1;
  int count_ = 0;
};

}  // namespace cairn
