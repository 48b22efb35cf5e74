#include "io/weighted_turns.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "io/data_folders.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<size_t> Turns(const std::vector<uint32_t>& weights, size_t count) {
  WeightedTurns turns(weights);
  std::vector<size_t> taken(count);
  for (size_t& one : taken) one = turns.Next();
  return taken;
}

TEST(WeightedTurnsTest, ThoseThatAreAlikeComeInOrder) {
  EXPECT_THAT(Turns({1}, 3), ElementsAre(0, 0, 0));
  EXPECT_THAT(Turns({1, 1, 1}, 7), ElementsAre(0, 1, 2, 0, 1, 2, 0));
  EXPECT_THAT(Turns({7, 7}, 5), ElementsAre(0, 1, 0, 1, 0));
}

TEST(WeightedTurnsTest, NeverFarFromTheWeightsAndExactAfterEachPeriod) {
  std::mt19937_64 random(20260101);
  for (int round = 0; round < 300; ++round) {
    std::vector<uint32_t> weights(1 + random() % 12);
    for (uint32_t& weight : weights) {
      weight = random() % 2 == 0 ? 1 : static_cast<uint32_t>(1 + random() % 64);
    }
    const size_t period = std::accumulate(weights.begin(), weights.end(), size_t{0});
    const std::vector<size_t> turns = Turns(weights, 2 * period);
    std::vector<int64_t> taken(weights.size());
    for (size_t i = 0; i < turns.size(); ++i) {
      ++taken[turns[i]];
      ASSERT_EQ(turns[i], turns[i % period]);
      for (size_t one = 0; one < weights.size(); ++one) {
        const double share = static_cast<double>(weights[one]) * static_cast<double>(i + 1) /
                             static_cast<double>(period);
        ASSERT_LT(static_cast<double>(taken[one]), share + 1);
        ASSERT_GT(static_cast<double>(taken[one]), share - 2);
        if (i + 1 == period) {
          ASSERT_EQ(taken[one], weights[one]);
        }
      }
    }
  }
}

TEST(WeightedTurnsTest, AmountsThatDifferAreSharedToo) {
  std::mt19937_64 random(20260102);
  const std::vector<uint32_t> weights = {5, 1, 2};
  WeightedTurns turns(weights);
  constexpr uint64_t kAmountMax = uint64_t{1} << 30;
  std::vector<uint64_t> taken(3);
  uint64_t all = 0;
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t amount = 4096 + random() % kAmountMax;
    taken[turns.Next(amount, [](size_t) { return true; })] += amount;
    all += amount;
    for (size_t one = 0; one < 3; ++one) {
      const auto off = static_cast<int64_t>(taken[one] - all / 8 * weights[one]);
      ASSERT_LT(std::abs(off), int64_t{2 * kAmountMax});
    }
  }
}

TEST(WeightedTurnsTest, WhoIsAbsentHasNothingToMakeUpFor) {
  WeightedTurns turns({3, 1, 1});
  std::vector<int> taken(3);
  const auto without = [](size_t absent) { return [absent](size_t i) { return i != absent; }; };
  for (int i = 0; i < 4000; ++i) ++taken[turns.Next(1, without(1))];
  EXPECT_THAT(taken, ElementsAre(3000, 0, 1000));
  for (int i = 0; i < 4000; ++i) ++taken[turns.Next(1, without(0))];
  EXPECT_THAT(taken, ElementsAre(3000, 2000, 3000));
  taken.assign(3, 0);
  for (int i = 0; i < 5; ++i) ++taken[turns.Next()];
  EXPECT_THAT(taken, ElementsAre(3, 1, 1));
}

TEST(WeightedTurnsTest, LowestTerms) {
  EXPECT_THAT(InLowestTerms({}), IsEmpty());
  EXPECT_THAT(InLowestTerms({5}), IsEmpty());
  EXPECT_THAT(InLowestTerms({64, 64, 64}), IsEmpty());
  EXPECT_THAT(InLowestTerms({6, 2}), ElementsAre(3, 1));
  EXPECT_THAT(InLowestTerms({6, 4, 9}), ElementsAre(6, 4, 9));
}

}  // namespace
}  // namespace cairn
