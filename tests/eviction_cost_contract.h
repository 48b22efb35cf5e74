#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "gtest/gtest.h"
#include "src/eviction/class_pools.h"
#include "src/eviction/snapshot.h"
#include "src/eviction/worth.h"

namespace cairn {

// What every policy does with what takes longer to compute.
class EvictionCostContract : public ::testing::TestWithParam<EvictionKind> {
 protected:
  struct Copy final : EvictionNode {
    uint64_t key_hash = 0;
    uint8_t worth = kWorthUnknown;

    static EvictionPolicy::Copy Describe(const EvictionNode& node) {
      const auto& copy = static_cast<const Copy&>(node);
      return {.key_hash = copy.key_hash, .bytes = 1, .worth = copy.worth};
    }
  };
  using Copies = std::vector<Copy>;

  static Copies NewCopies(size_t count, const std::function<uint8_t(size_t)>& worth_of) {
    Copies copies(count);
    for (size_t i = 0; i < count; ++i) {
      copies[i].key_hash = (i + 1) * 0x9e3779b97f4a7c15U;
      copies[i].worth = worth_of(i);
    }
    return copies;
  }
  static std::vector<uint64_t> HashesOf(const Copies& copies) {
    std::vector<uint64_t> hashes;
    for (const Copy& copy : copies) hashes.push_back(copy.key_hash);
    return hashes;
  }
  std::unique_ptr<ClassPools> NewPolicy() const {
    return std::make_unique<ClassPools>(GetParam(), Copy::Describe, PoolOptions());
  }

  struct Used {
    std::vector<uint64_t> hits;   // Of each copy.
    std::vector<uint64_t> order;  // Those that left.
  };
  // Uses random keys, a quarter of them often, of a cache of `copies_max`.
  Used UseMany(Copies& copies, size_t copies_max) const {
    const std::unique_ptr<ClassPools> policy = NewPolicy();
    std::mt19937 random(1);
    Used used = {.hits = std::vector<uint64_t>(copies.size()), .order = {}};
    for (int i = 0; i < 60'000; ++i) {
      const size_t any = random() % copies.size();
      const size_t key = random() % 2 == 0 ? any : any - any % 4;
      Copy& copy = copies[key];
      if (copy.tracked()) {
        ++used.hits[key];
        policy->Touch(&copy);
        continue;
      }
      if (policy->size() >= copies_max) {
        used.order.push_back(static_cast<Copy*>(policy->Pick())->key_hash);
      }
      policy->Track(&copy);
    }
    return used;
  }
};

TEST_P(EvictionCostContract, KeepsWhatTakesLongerToCompute) {
  constexpr uint8_t kDear = kWorthUnknown + 3;
  const auto is_dear = [](size_t i) { return i / 4 % 2 == 1; };
  Copies told = NewCopies(4000, [&](size_t i) { return is_dear(i) ? kDear : kWorthUnknown; });
  Copies untold = NewCopies(4000, [](size_t) { return kWorthUnknown; });
  const Used with = UseMany(told, 1000);
  const Used without = UseMany(untold, 1000);
  uint64_t dear = 0, cheap = 0, dear_untold = 0, cheap_untold = 0;
  for (size_t i = 0; i < told.size(); ++i) {
    (is_dear(i) ? dear : cheap) += with.hits[i];
    (is_dear(i) ? dear_untold : cheap_untold) += without.hits[i];
  }
  EXPECT_GT(dear, 2 * cheap);
  EXPECT_GT(8 * dear + cheap, (8 * dear_untold + cheap_untold) * 5 / 4);
}

TEST_P(EvictionCostContract, IsTheSameWhereAllTakesEquallyLong) {
  Copies unknown = NewCopies(2000, [](size_t) { return kWorthUnknown; });
  Copies dear = NewCopies(2000, [](size_t) { return kWorths - 1; });
  EXPECT_EQ(UseMany(unknown, 500).order, UseMany(dear, 500).order);
}

// A block without those before it is of no use, whatever it would take to compute.
TEST_P(EvictionCostContract, LetsAChainGoFromItsEndThoughThatIsDearer) {
  Copies chain = NewCopies(100, [](size_t i) { return static_cast<uint8_t>(4 + i / 25); });
  const std::unique_ptr<ClassPools> policy = NewPolicy();
  policy->Request(HashesOf(chain));
  for (Copy& copy : chain) policy->Track(&copy);
  for (size_t i = chain.size(); i-- > 0;) ASSERT_EQ(policy->Pick(), &chain[i]) << i;
}

TEST_P(EvictionCostContract, LetsAChainGoFromItsEndWhereItWasKept) {
  Copies chain = NewCopies(100, [](size_t i) { return static_cast<uint8_t>(4 + i / 25); });
  Copies restored = NewCopies(100, [](size_t i) { return static_cast<uint8_t>(4 + i / 25); });
  const std::unique_ptr<ClassPools> policy = NewPolicy();
  policy->Request(HashesOf(chain));
  for (Copy& copy : chain) policy->Track(&copy);

  absl::flat_hash_map<uint64_t, EvictionNode*> nodes_by_key;
  for (Copy& copy : restored) nodes_by_key[copy.key_hash] = &copy;
  const std::unique_ptr<ClassPools> next = NewPolicy();
  SnapshotPiece piece;
  for (SnapshotReader reader(policy.get(), UINT64_MAX); reader.Next(&piece);) {
    std::vector<EvictionNode*> nodes;
    if (piece.kind == SnapshotPiece::Kind::kCopies) {
      for (const uint64_t key_hash : piece.words) nodes.push_back(nodes_by_key.at(key_hash));
    }
    Restore(next.get(), piece, nodes);
  }
  for (size_t i = restored.size(); i-- > 0;) ASSERT_EQ(next->Pick(), &restored[i]) << i;
}

// What is cheap and in use is not asked again and again before what is dear and may leave.
TEST_P(EvictionCostContract, ASearchPassesWhatIsCheapAndInUse) {
  constexpr size_t kCheap = 20;
  Copies copies =
      NewCopies(100, [](size_t i) { return i < kCheap ? uint8_t{0} : uint8_t{kWorths - 1}; });
  const std::unique_ptr<ClassPools> policy = NewPolicy();
  for (Copy& copy : copies) policy->Track(&copy);
  // In both queues of those policies that have two.
  for (size_t i = 0; i < copies.size(); i += 2) policy->Touch(&copies[i]);
  std::set<EvictionNode*> free;
  for (size_t i = kCheap; i < copies.size(); ++i) free.insert(&copies[i]);
  while (!free.empty()) {
    ClassPools::PickOptions search = {.begun = policy->now()};
    EvictionNode* left = nullptr;
    for (size_t tries = 0; tries < 2 * copies.size() && left == nullptr; ++tries) {
      EvictionNode* const picked = policy->Pick(search);
      ASSERT_NE(picked, nullptr);
      if (free.erase(picked) == 1) {
        left = picked;
      } else {
        policy->Keep(picked);
      }
    }
    ASSERT_NE(left, nullptr) << free.size() << " may leave and were not picked";
  }
}

}  // namespace cairn
