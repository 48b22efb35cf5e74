#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "src/eviction/class_pools.h"
#include "src/eviction/policy.h"
#include "src/eviction/snapshot.h"

namespace cairn {

// A copy of a tensor, as far as a policy cares.
struct TestCopy final : EvictionNode {
  TestCopy() = default;
  TestCopy(uint64_t hash, uint64_t size) : key_hash(hash), bytes(size) {}

  uint64_t key_hash = 0;
  uint64_t bytes = 1;

  static EvictionPolicy::Copy Describe(const EvictionNode& node) {
    const auto& copy = static_cast<const TestCopy&>(node);
    return {.key_hash = copy.key_hash, .bytes = copy.bytes};
  }
};

// What every policy keeps, whatever it evicts.
class EvictionContract : public ::testing::TestWithParam<EvictionKind> {
 protected:
  TestCopy* New(uint64_t bytes = 1) {
    // Spread as the store's hashes are.
    return &copies_.emplace_back((copies_.size() + 1) * 0x9e3779b97f4a7c15U, bytes);
  }

  std::deque<TestCopy> copies_;
  const std::unique_ptr<EvictionPolicy> policy_ = NewEvictionPolicy(GetParam(), TestCopy::Describe);
};

// Of copies that are the same under other nodes nothing is forgotten.
TEST_P(EvictionContract, ASuccessorIsInItsPlace) {
  ClassPools pools(GetParam(), TestCopy::Describe, {});
  ClassPools same(GetParam(), TestCopy::Describe, {});
  std::vector<TestCopy*> nodes;
  std::vector<TestCopy*> twins;
  for (uint64_t i = 0; i < 200; ++i) {
    nodes.push_back(New());
    twins.push_back(&copies_.emplace_back(nodes.back()->key_hash, 1));
    pools.Track(nodes.back());
    same.Track(twins.back());
    if (i % 3 == 0) {
      pools.Touch(nodes[i / 2]);
      same.Touch(twins[i / 2]);
    }
    if (i % 2 == 0) continue;
    TestCopy*& moved = nodes[i * 7 % nodes.size()];
    TestCopy* const successor = &copies_.emplace_back(moved->key_hash, 1);
    pools.Replace(moved, successor);
    EXPECT_FALSE(moved->tracked());
    EXPECT_TRUE(successor->tracked());
    moved = successor;
  }
  EXPECT_EQ(pools.size(), same.size());
  for (int i = 0; i < 200; ++i) {
    const EvictionNode* const picked = pools.Pick({});
    const EvictionNode* const twin = same.Pick({});
    ASSERT_NE(picked, nullptr);
    ASSERT_NE(twin, nullptr);
    EXPECT_EQ(TestCopy::Describe(*picked).key_hash, TestCopy::Describe(*twin).key_hash);
  }
}

TEST_P(EvictionContract, PicksEveryTrackedCopyOnce) {
  std::set<EvictionNode*> tracked;
  for (int i = 0; i < 100; ++i) {
    TestCopy* const copy = New();
    policy_->Track(copy);
    tracked.insert(copy);
    if (i % 3 == 0) policy_->Touch(copy);
  }
  EXPECT_EQ(policy_->size(), 100);
  for (int i = 0; i < 100; ++i) {
    EvictionNode* const picked = policy_->Pick();
    EXPECT_EQ(tracked.erase(picked), 1);
    EXPECT_FALSE(picked->tracked());
  }
  EXPECT_EQ(policy_->Pick(), nullptr);
  EXPECT_EQ(policy_->size(), 0);
}

TEST_P(EvictionContract, ForgetsAndIgnoresWhatIsNotTracked) {
  TestCopy* const a = New();
  TestCopy* const b = New();
  policy_->Touch(a);
  policy_->Forget(a);
  EXPECT_EQ(policy_->size(), 0);
  policy_->Track(a);
  policy_->Track(b);
  policy_->Touch(b);
  policy_->Forget(a);
  policy_->Forget(a);
  EXPECT_FALSE(a->tracked());
  EXPECT_EQ(policy_->size(), 1);
  EXPECT_EQ(policy_->Pick(), b);
  EXPECT_EQ(policy_->Pick(), nullptr);
}

TEST_P(EvictionContract, TakesBackWhatItHasPicked) {
  TestCopy* const a = New();
  TestCopy* const b = New();
  policy_->Track(a);
  policy_->Track(b);
  auto* const picked = policy_->Pick();
  policy_->Keep(picked);
  EXPECT_TRUE(picked->tracked());
  EXPECT_EQ(policy_->size(), 2);
}

// A search that keeps what is in use, wherever that is, finds all the rest.
TEST_P(EvictionContract, ASearchPassesWhatIsInUse) {
  for (const int used_twice : {0, 30, 60, 90}) {
    std::set<EvictionNode*> free;
    std::vector<TestCopy*> chain;
    std::vector<uint64_t> hashes;
    for (int i = 0; i < 90; ++i) {
      chain.push_back(New());
      hashes.push_back(chain.back()->key_hash);
    }
    policy_->Request(hashes);
    for (TestCopy* copy : chain) policy_->Track(copy);
    for (int i = 0; i < used_twice; ++i) policy_->Touch(chain[i]);
    for (int i = 0; i < 90; i += 3) free.insert(chain[i]);
    for (int i = 0; i < 4 * 90 && !free.empty(); ++i) {
      EvictionNode* const picked = policy_->Pick();
      ASSERT_NE(picked, nullptr);
      if (free.erase(picked) == 0) policy_->Keep(picked);
    }
    EXPECT_TRUE(free.empty()) << free.size() << " never picked, used twice: " << used_twice;
    for (TestCopy* copy : chain) policy_->Forget(copy);
    EXPECT_EQ(policy_->size(), 0);
  }
}

TEST_P(EvictionContract, LetsAChainGoFromItsEnd) {
  std::vector<TestCopy*> chain;
  std::vector<uint64_t> hashes;
  for (int i = 0; i < 200; ++i) {
    chain.push_back(New());
    hashes.push_back(chain.back()->key_hash);
  }
  policy_->Request(hashes);
  for (TestCopy* copy : chain) policy_->Track(copy);
  for (size_t i = chain.size(); i-- > 0;) EXPECT_EQ(policy_->Pick(), chain[i]);
}

TEST_P(EvictionContract, LetsAChainGoFromItsEndThoughItCameOutOfOrder) {
  std::vector<TestCopy*> chain;
  std::vector<uint64_t> hashes;
  for (int i = 0; i < 16; ++i) {
    chain.push_back(New());
    hashes.push_back(chain.back()->key_hash);
  }
  policy_->Request(hashes);
  std::vector<TestCopy*> shuffled = chain;
  std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937(1));
  for (TestCopy* copy : shuffled) policy_->Track(copy);
  for (size_t i = chain.size(); i-- > 0;) EXPECT_EQ(policy_->Pick(), chain[i]);
}

// Against a set that knows only what is tracked.
TEST_P(EvictionContract, KeepsToASetUnderRandomOperations) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  std::vector<TestCopy*> all;
  for (int i = 0; i < 300; ++i) all.push_back(New(1 + random() % 5));
  std::set<EvictionNode*> tracked;
  for (int step = 0; step < 50'000; ++step) {
    TestCopy* const copy = all[random() % all.size()];
    switch (random() % 6) {
      case 0:
      case 1:
        if (!copy->tracked()) policy_->Track(copy);
        tracked.insert(copy);
        break;
      case 2:
        policy_->Touch(copy);
        break;
      case 3:
        if (random() % 4 == 0) {
          policy_->Forget(copy);
          tracked.erase(copy);
        }
        break;
      case 4: {
        const uint64_t hashes[] = {copy->key_hash, all[random() % all.size()]->key_hash};
        policy_->Request(hashes);
        break;
      }
      default: {
        if (tracked.size() < 100) break;
        ASSERT_EQ(tracked.erase(policy_->Pick()), 1);
      }
    }
    ASSERT_EQ(policy_->size(), tracked.size());
    ASSERT_EQ(copy->tracked(), tracked.count(copy) == 1);
  }
}

// A policy, and one that goes on with what was kept of another, over copies of their own.
class RestoredPair {
 public:
  RestoredPair(EvictionKind kind, size_t keys) : kind_(kind), kept_(keys), restored_(keys) {
    for (size_t i = 0; i < keys; ++i) {
      kept_[i].key_hash = restored_[i].key_hash = (i + 1) * 0x9e3779b97f4a7c15U;
      kept_[i].bytes = restored_[i].bytes = 1 + i % 5;
      numbers_[kept_[i].key_hash] = i;
    }
  }

  // What `between` does happens after each piece that was read, of so many words beside the copies.
  void Restore(
      uint64_t words_max = UINT64_MAX, const std::function<void()>& between = [] {}) {
    std::string bytes;
    SnapshotPiece piece;
    uint32_t pieces = 0;
    for (SnapshotReader reader(kept_policy_.get(), words_max); reader.Next(&piece); ++pieces) {
      AppendPiece(piece, bytes);
      between();
    }
    AppendEnd(pieces, bytes);
    const absl::Status status = DecodePieces(bytes, [this](const SnapshotPiece& decoded) {
      std::vector<EvictionNode*> nodes;
      if (decoded.kind == SnapshotPiece::Kind::kCopies) {
        for (const uint64_t key_hash : decoded.words) {
          TestCopy& copy = restored_[numbers_.at(key_hash)];
          nodes.push_back(gone_.contains(key_hash) ? nullptr : &copy);
        }
      }
      cairn::Restore(restored_policy_.get(), decoded, nodes);
    });
    ASSERT_TRUE(status.ok()) << status;
  }

  // Uses a key of a cache of so many copies: the number of the key that left, or -1.
  static int Use(EvictionPolicy& policy, std::vector<TestCopy>& copies, size_t key, size_t max) {
    TestCopy& copy = copies[key];
    int left = -1;
    if (copy.tracked()) {
      policy.Touch(&copy);
      return left;
    }
    if (policy.size() >= max)
      left = static_cast<int>(static_cast<TestCopy*>(policy.Pick()) - &copies[0]);
    policy.Track(&copy);
    return left;
  }
  int UseKept(size_t key, size_t max) { return Use(*kept_policy_, kept_, key, max); }
  int UseRestored(size_t key, size_t max) { return Use(*restored_policy_, restored_, key, max); }

  EvictionPolicy& kept_policy() { return *kept_policy_; }
  EvictionPolicy& restored_policy() { return *restored_policy_; }
  const TestCopy& kept(size_t key) const { return kept_[key]; }
  const TestCopy& restored(size_t key) const { return restored_[key]; }
  // The restored one has no copy of it.
  void SetGone(size_t key) { gone_.insert(kept_[key].key_hash); }

 private:
  const EvictionKind kind_;
  std::vector<TestCopy> kept_;
  std::vector<TestCopy> restored_;
  std::map<uint64_t, size_t> numbers_;  // By hash.
  std::set<uint64_t> gone_;
  const std::unique_ptr<EvictionPolicy> kept_policy_ = NewEvictionPolicy(kind_, TestCopy::Describe);
  const std::unique_ptr<EvictionPolicy> restored_policy_ =
      NewEvictionPolicy(kind_, TestCopy::Describe);
};

// As if it had never stopped: from there on both let the same copies go.
TEST_P(EvictionContract, GoesOnWhereAnotherWasKept) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  constexpr size_t kKeys = 9000;
  constexpr size_t kCopiesMax = 2500;
  // Some keys are used more than others, so that all queues and ghost lists have some.
  const auto key = [&random] {
    const auto near = random() % kKeys;
    return random() % 2 == 0 ? near : near % (kKeys / 8);
  };
  RestoredPair pair(GetParam(), kKeys);
  for (int i = 0; i < 40'000; ++i) pair.UseKept(key(), kCopiesMax);
  ASSERT_NO_FATAL_FAILURE(pair.Restore());
  ASSERT_EQ(pair.restored_policy().size(), pair.kept_policy().size());
  for (int i = 0; i < 20'000; ++i) {
    const size_t used = key();
    ASSERT_EQ(pair.UseRestored(used, kCopiesMax), pair.UseKept(used, kCopiesMax)) << i;
  }
}

// While it is taken down the policy is used: nothing is lost but what moved or came meanwhile.
TEST_P(EvictionContract, MayBeUsedWhileItIsTakenDown) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  constexpr size_t kKeys = 9000;
  constexpr size_t kCopiesMax = 6000;
  RestoredPair pair(GetParam(), kKeys);
  for (size_t i = 0; i < 3 * kKeys; ++i) pair.UseKept(random() % kKeys, kCopiesMax);
  std::set<size_t> used;
  ASSERT_NO_FATAL_FAILURE(pair.Restore(UINT64_MAX, [&] {
    for (int i = 0; i < 50; ++i) {
      const size_t key = random() % kKeys;
      used.insert(key);
      const int left = pair.UseKept(key, kCopiesMax);
      if (left >= 0) used.insert(static_cast<size_t>(left));
    }
  }));
  uint64_t lost = 0;
  for (size_t key = 0; key < kKeys; ++key) {
    if (pair.kept(key).tracked() != pair.restored(key).tracked())
      lost += used.contains(key) ? 0 : 1;
  }
  // What a policy moves from queue to queue by itself may be met in neither.
  EXPECT_LE(lost, kKeys / 50);
  while (pair.restored_policy().Pick() != nullptr) {
  }
  EXPECT_EQ(pair.restored_policy().size(), 0);
}

TEST_P(EvictionContract, IsRestoredWithoutWhatIsGoneAndWithLittleRoom) {
  constexpr size_t kKeys = 4000;
  constexpr size_t kCopiesMax = 1000;
  RestoredPair pair(GetParam(), kKeys);
  for (size_t i = 0; i < 3 * kKeys; ++i) pair.UseKept(i * i % kKeys, kCopiesMax);
  uint64_t gone = 0;
  for (size_t key = 0; key < kKeys; key += 3) {
    if (!pair.kept(key).tracked()) continue;
    pair.SetGone(key);
    ++gone;
  }
  EXPECT_GT(gone, 0);
  ASSERT_NO_FATAL_FAILURE(pair.Restore(32));
  EXPECT_EQ(pair.restored_policy().size(), pair.kept_policy().size() - gone);
  for (size_t key = 0; key < kKeys; ++key) pair.UseRestored(key, kCopiesMax);
  EXPECT_EQ(pair.restored_policy().size(), kCopiesMax);
}

}  // namespace cairn
