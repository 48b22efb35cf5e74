// The eviction policies: what all keep to, and what each does with a few keys, known by hand.

#include <algorithm>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "src/eviction/ghost_list.h"
#include "src/eviction/shadow_caches.h"
#include "tests/eviction_contract.h"
#include "tests/eviction_cost_contract.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;

const char* NameOf(EvictionKind kind) {
  switch (kind) {
    case EvictionKind::kTuned:
      return "Tuned";
    case EvictionKind::kLru:
      return "Lru";
    case EvictionKind::kClock:
      return "Clock";
    case EvictionKind::kArc:
      return "Arc";
    case EvictionKind::kS3Fifo:
      return "S3Fifo";
  }
  return "";
}

const auto kPolicies =
    testing::Values(EvictionKind::kTuned, EvictionKind::kLru, EvictionKind::kClock,
                    EvictionKind::kArc, EvictionKind::kS3Fifo);
const auto kNameOfPolicy = [](const auto& tested) { return std::string(NameOf(tested.param)); };

INSTANTIATE_TEST_SUITE_P(AllPolicies, EvictionContract, kPolicies, kNameOfPolicy);
INSTANTIATE_TEST_SUITE_P(AllPolicies, EvictionCostContract, kPolicies, kNameOfPolicy);

TEST(RecomputeLevelTest, IsAPowerOfTwoOfNanosecondsAByte) {
  constexpr uint64_t kBytes = 1000;
  EXPECT_EQ(RecomputeLevel(absl::ZeroDuration(), kBytes), 0);
  EXPECT_EQ(RecomputeLevel(absl::Nanoseconds(1000), kBytes), 5);
  EXPECT_EQ(RecomputeLevel(absl::Nanoseconds(1400), kBytes), 5);
  EXPECT_EQ(RecomputeLevel(absl::Nanoseconds(1430), kBytes), 6);
  EXPECT_EQ(RecomputeLevel(absl::Nanoseconds(8000), kBytes), 8);
  EXPECT_EQ(RecomputeLevel(absl::Nanoseconds(1), kBytes), 1);
  EXPECT_EQ(RecomputeLevel(absl::Hours(1), kBytes), 15);
  EXPECT_EQ(RecomputeLevel(absl::InfiniteDuration(), kBytes), 15);
  EXPECT_EQ(WorthOf(0), WorthOf(5));
  EXPECT_EQ(WorthOf(8), WorthOf(5) + 3);
}

// A cache of so many bytes whose keys are letters; capitals are large.
class LetterCache {
 public:
  static constexpr uint64_t kLargeBytes = 4;

  LetterCache(EvictionKind kind, uint64_t bytes_max)
      : bytes_max_(bytes_max), policy_(NewEvictionPolicy(kind, TestCopy::Describe)) {
    for (size_t letter = 0; letter < kLetters; ++letter) {
      copies_[letter].key_hash = (letter + 1) * 0x9e3779b97f4a7c15U;
      copies_[letter].bytes = letter >= 'A' && letter <= 'Z' ? kLargeBytes : 1;
    }
  }

  // Uses the letters one after the other. Returns what left meanwhile, in order.
  std::string Use(std::string_view letters) {
    std::string left;
    for (const char letter : letters) {
      TestCopy& copy = copies_[static_cast<unsigned char>(letter)];
      if (copy.tracked()) {
        policy_->Touch(&copy);
        continue;
      }
      while (bytes_ + copy.bytes > bytes_max_) {
        auto* const picked = static_cast<TestCopy*>(policy_->Pick());
        bytes_ -= picked->bytes;
        left.push_back(static_cast<char>(picked - copies_));
      }
      policy_->Track(&copy);
      bytes_ += copy.bytes;
    }
    return left;
  }

 private:
  static constexpr size_t kLetters = 128;
  const uint64_t bytes_max_;
  uint64_t bytes_ = 0;
  TestCopy copies_[kLetters];
  const std::unique_ptr<EvictionPolicy> policy_;
};

TEST(LruPolicy, LetsTheLeastRecentlyUsedGo) {
  LetterCache cache(EvictionKind::kLru, 3);
  EXPECT_EQ(cache.Use("abcad"), "b");
  EXPECT_EQ(cache.Use("ce"), "a");
}

TEST(ClockPolicy, GoesRoundWhatWasUsed) {
  LetterCache cache(EvictionKind::kClock, 3);
  EXPECT_EQ(cache.Use("abcad"), "b");  // a goes round.
  EXPECT_EQ(cache.Use("e"), "c");
  EXPECT_EQ(cache.Use("f"), "a");  // Its use is spent.
}

TEST(ArcPolicy, KeepsWhatWasUsedTwiceFromAScan) {
  LetterCache cache(EvictionKind::kArc, 4);
  EXPECT_EQ(cache.Use("aabb"), "");
  EXPECT_EQ(cache.Use("cdefgh"), "cdef");
}

TEST(ArcPolicy, GivesWayToWhatCameOnceWhereItComesBack) {
  LetterCache cache(EvictionKind::kArc, 4);
  EXPECT_EQ(cache.Use("aabbcde"), "c");
  // c came once and comes back: from here a place is for such.
  EXPECT_EQ(cache.Use("c"), "d");
  EXPECT_EQ(cache.Use("f"), "a");
}

TEST(S3FifoPolicy, LetsTheNewGoFirstAndTakesItStraightWhereItComesBack) {
  LetterCache cache(EvictionKind::kS3Fifo, 4);
  EXPECT_EQ(cache.Use("aaabcde"), "b");  // a was used twice: it stays.
  EXPECT_EQ(cache.Use("b"), "c");        // b is remembered: into the main queue.
  EXPECT_EQ(cache.Use("fgh"), "def");
}

TEST(TunedPolicy, RemembersFourTimesWhatItHolds) {
  LetterCache cache(EvictionKind::kTuned, 4);
  // Full before anything was used again: nearly all is for what has been proven.
  EXPECT_EQ(cache.Use("abcdefghijklmnop"), "abcdefghijkl");
  EXPECT_EQ(cache.Use("a"), "m");  // Remembered after twelve others.
  EXPECT_EQ(cache.Use("qrs"), "nop");
  EXPECT_EQ(cache.Use("tuv"), "qrs");  // And a stays.
}

TEST(TunedPolicy, CountsBytes) {
  LetterCache cache(EvictionKind::kTuned, 8);
  EXPECT_EQ(cache.Use("abcdA"), "");
  EXPECT_EQ(cache.Use("B"), "abcd");
  EXPECT_EQ(cache.Use("ef"), "A");
}

TEST(GhostList, ForgetsTheOldest) {
  GhostList ghosts;
  for (uint64_t key = 0; key < 1000; ++key) ghosts.Add(key, 10);
  EXPECT_EQ(ghosts.size(), 10);
  EXPECT_FALSE(ghosts.Take(989));
  EXPECT_TRUE(ghosts.Take(990));
  EXPECT_FALSE(ghosts.Take(990));
  EXPECT_TRUE(ghosts.Take(999));
  EXPECT_EQ(ghosts.size(), 8);
  ghosts.DropOldest();
  EXPECT_FALSE(ghosts.Take(991));
}

TEST(GhostList, TakesAsMuchMemoryAsItSays) {
  GhostList ghosts;
  EXPECT_EQ(ghosts.bytes(), 0);
  constexpr uint64_t kKeys = 10'000;
  std::mt19937_64 random(1);
  for (int i = 0; i < 1'000'000; ++i) {
    ghosts.Add(random(), kKeys);
    if (i % 3 == 0) ghosts.Take(random() % 1000);
  }
  EXPECT_EQ(ghosts.size(), kKeys);
  EXPECT_LE(ghosts.bytes(), kKeys * 32);
}

TEST(GhostList, IsWalkedFromTheOldestWhileItChanges) {
  GhostList ghosts;
  for (uint64_t key = 1; key <= 100; ++key) ghosts.Add(key, 1000);
  ghosts.Take(3);
  ghosts.BeginWalk(1);
  EXPECT_EQ(ghosts.Walk(), 2);
  EXPECT_EQ(ghosts.Walk(), 4);
  ghosts.Take(5);
  ghosts.Take(2);
  // The list is laid out anew behind the walk.
  for (uint64_t key = 101; key <= 900; ++key) ghosts.Add(key, 1000);
  for (uint64_t key = 6; key <= 900; ++key) ASSERT_EQ(ghosts.Walk(), key);
  EXPECT_EQ(ghosts.Walk(), std::nullopt);
  // What it had come to is forgotten.
  ghosts.BeginWalk(0);
  while (ghosts.size() > 10) ghosts.DropOldest();
  EXPECT_EQ(ghosts.Walk(), 891);
}

// Every bit of it: a flipped one is found, and so is a missing or doubled piece.
TEST(Snapshot, IsNotBelievedWhenItIsDamaged) {
  const SnapshotPiece copies = {
      .kind = SnapshotPiece::Kind::kCopies, .words = {7, 8}, .uses = {1, 2}};
  const SnapshotPiece ghosts = {.kind = SnapshotPiece::Kind::kGhosts, .number = 1, .words = {9}};
  std::string copies_bytes;
  AppendPiece(copies, copies_bytes);
  std::string ghosts_bytes;
  AppendPiece(ghosts, ghosts_bytes);
  std::string end;
  AppendEnd(2, end);
  int pieces = 0;
  const auto decode = [&pieces](const std::string& bytes) {
    pieces = 0;
    return DecodePieces(bytes, [&pieces](const SnapshotPiece&) { ++pieces; });
  };
  const std::string whole = ghosts_bytes + copies_bytes + end;
  EXPECT_TRUE(decode(whole).ok());
  EXPECT_EQ(pieces, 2);
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    ASSERT_TRUE(absl::IsDataLoss(decode(damaged))) << bit;
    ASSERT_EQ(pieces, 0);
  }
  for (size_t size = 0; size < whole.size(); ++size) {
    ASSERT_TRUE(absl::IsDataLoss(decode(whole.substr(0, size)))) << size;
  }
  EXPECT_FALSE(decode(copies_bytes + end).ok());
  EXPECT_FALSE(decode(ghosts_bytes + copies_bytes + copies_bytes + end).ok());
  EXPECT_FALSE(decode(whole + end).ok());
}

TEST(GhostList, KeepsToAListUnderRandomOperations) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  GhostList ghosts;
  std::deque<uint64_t> model;
  for (int step = 0; step < 20'000; ++step) {
    const uint64_t key = 1 + random() % 200;
    const auto found = std::find(model.begin(), model.end(), key);
    const bool there = found != model.end();
    if (there) model.erase(found);
    if (random() % 3 == 0) {
      ASSERT_EQ(ghosts.Take(key), there) << key;
    } else {
      const uint64_t size_max = 1 + random() % 100;
      ghosts.Add(key, size_max);
      while (model.size() >= size_max) model.pop_front();
      model.push_back(key);
    }
    ASSERT_EQ(ghosts.size(), model.size());
  }
}

TEST(ShadowCaches, BeginWithLruAndFindWhatAScanAsksFor) {
  ShadowCaches shadows;
  EXPECT_EQ(shadows.best_share(), 1);
  // Ten keys come again and again between as many others as the cache holds, which never do: LRU
  // keeps none of the ten.
  constexpr uint64_t kCopies = 100;
  uint64_t next = 1'000'000;
  for (int round = 0; round < 400; ++round) {
    for (uint64_t key = 1; key <= 10; ++key) {
      const uint64_t hash = key * 0x9e3779b97f4a7c15U;
      shadows.Request({&hash, 1});
      for (int i = 0; i < 10; ++i) {
        const uint64_t other = ++next * 0x9e3779b97f4a7c15U;
        shadows.Request({&other, 1});
      }
    }
    shadows.SetCapacity(kCopies);
  }
  EXPECT_LT(shadows.best_share(), 1);
}

}  // namespace
}  // namespace cairn
