#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "src/eviction/policy.h"

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

}  // namespace cairn
