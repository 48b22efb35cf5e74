// Admission to L3 without a store: the bucket to the byte under a clock of the test's, and what the
// policy decides.

#include <cmath>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "src/admission/policy.h"
#include "src/admission/write_budget.h"

namespace cairn {
namespace {

constexpr int64_t kDayMs = 24 * 60 * 60 * 1000;

TEST(WriteBudgetTest, FillsAtItsRateUpToItsBurst) {
  WriteBudget budget({.bytes_per_day = kDayMs * 1000, .burst_bytes = 500000, .now_ms = 10});
  EXPECT_EQ(budget.in_hand_bytes(), 0);
  budget.AdvanceTo(110);
  EXPECT_EQ(budget.in_hand_bytes(), 100000);
  budget.Spend(150000);
  EXPECT_EQ(budget.in_hand_bytes(), -50000);
  budget.AdvanceTo(110 + 550);
  EXPECT_EQ(budget.in_hand_bytes(), 500000);
  budget.AdvanceTo(kDayMs);
  EXPECT_EQ(budget.in_hand_bytes(), 500000);
  // What it had no room for was not granted.
  EXPECT_EQ(budget.granted_bytes(), 100000 + 550000);
}

TEST(WriteBudgetTest, AClockThatGoesBackGivesNothing) {
  WriteBudget budget({.bytes_per_day = kDayMs * 1000, .burst_bytes = 1000000, .now_ms = 100});
  budget.AdvanceTo(200);
  budget.AdvanceTo(50);
  budget.AdvanceTo(200);
  EXPECT_EQ(budget.in_hand_bytes(), 100000);
}

TEST(WriteBudgetTest, WhatIsOwedAtTheBeginningIsOwed) {
  WriteBudget budget(
      {.bytes_per_day = kDayMs * 1000, .burst_bytes = 10000, .in_hand_bytes = -3000, .now_ms = 0});
  budget.AdvanceTo(2);
  EXPECT_EQ(budget.in_hand_bytes(), -1000);
}

class AdmissionPolicyTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kBytesPerMs = 1000;
  // A tensor takes what the budget gains in a second.
  static constexpr uint64_t kTensorBytes = 1000 * kBytesPerMs;

  AdmissionPolicy Policy(int64_t in_hand_bytes = 0) const {
    return AdmissionPolicy({.budget = {.bytes_per_day = kBytesPerMs * kDayMs,
                                       .burst_bytes = 2000 * kTensorBytes,
                                       .in_hand_bytes = in_hand_bytes},
                            .l3_bytes_max = 200 * kTensorBytes});
  }
  // With nothing in hand then.
  AdmissionPolicy UsedUpAt(int64_t now_ms) const {
    AdmissionPolicy policy = Policy();
    policy.Decide({.bytes = static_cast<uint64_t>(now_ms) * kBytesPerMs, .promised = true}, now_ms);
    return policy;
  }
  AdmissionReason Decide(AdmissionPolicy& policy, uint64_t key, int64_t now_ms = 0) const {
    return policy.Decide({.key_hash = key, .bytes = kTensorBytes}, now_ms);
  }
};

TEST_F(AdmissionPolicyTest, FirstSightsAreWrittenWhileThereIsSomethingInHand) {
  AdmissionPolicy policy = Policy(2 * kTensorBytes);
  EXPECT_EQ(Decide(policy, 1), AdmissionReason::kFirstSight);
  EXPECT_EQ(Decide(policy, 2), AdmissionReason::kFirstSight);
  EXPECT_EQ(Decide(policy, 3), AdmissionReason::kNotSeenBefore);
  EXPECT_EQ(policy.written_bytes(), 2 * kTensorBytes);
  EXPECT_EQ(Decide(policy, 4, 1), AdmissionReason::kFirstSight);
}

TEST_F(AdmissionPolicyTest, SecondSightsMayBorrowAMinute) {
  const int64_t now_ms = 1200 * 1000;
  AdmissionPolicy policy = UsedUpAt(now_ms);
  for (uint64_t key = 1; key <= 100; ++key) {
    EXPECT_EQ(Decide(policy, key, now_ms), AdmissionReason::kNotSeenBefore);
  }
  for (uint64_t key = 1; key <= 60; ++key) {
    EXPECT_EQ(Decide(policy, key, now_ms), AdmissionReason::kSecondSight) << key;
  }
  EXPECT_EQ(Decide(policy, 61, now_ms), AdmissionReason::kOverBudget);
  // It is remembered all the same.
  EXPECT_EQ(Decide(policy, 61, now_ms + 10), AdmissionReason::kSecondSight);
  EXPECT_EQ(policy.count(AdmissionReason::kSecondSight), 61);
  EXPECT_EQ(policy.count(AdmissionReason::kOverBudget), 1);
}

// Soon after the beginning there is little to borrow on.
TEST_F(AdmissionPolicyTest, NobodyBorrowsMoreThanATwentieth) {
  AdmissionPolicy policy = UsedUpAt(40 * 1000);
  for (int sight = 0; sight < 2; ++sight) {
    for (uint64_t key = 1; key <= 20; ++key) Decide(policy, key, 40 * 1000);
  }
  EXPECT_EQ(policy.count(AdmissionReason::kSecondSight), 2);
  EXPECT_EQ(policy.count(AdmissionReason::kOverBudget), 18);
}

TEST_F(AdmissionPolicyTest, WhatLeftL3IsASecondSight) {
  AdmissionPolicy policy = UsedUpAt(40 * 1000);
  policy.Left(7);
  EXPECT_EQ(Decide(policy, 7, 40 * 1000), AdmissionReason::kSecondSight);
  EXPECT_EQ(Decide(policy, 8, 40 * 1000), AdmissionReason::kNotSeenBefore);
}

TEST_F(AdmissionPolicyTest, AChainIsDecidedOnce) {
  const int64_t now_ms = 1200 * 1000;
  AdmissionPolicy policy = UsedUpAt(now_ms);
  const std::vector<uint64_t> chain = {1, 2, 3, 4};
  policy.Request(chain);
  // The first has something in hand; the others go with it, and a tensor of no chain does not.
  EXPECT_EQ(Decide(policy, 1, now_ms + 1), AdmissionReason::kFirstSight);
  EXPECT_EQ(Decide(policy, 2, now_ms + 1), AdmissionReason::kFirstSight);
  EXPECT_EQ(Decide(policy, 9, now_ms + 1), AdmissionReason::kNotSeenBefore);
  EXPECT_EQ(Decide(policy, 3, now_ms + 1), AdmissionReason::kFirstSight);
  // And of a chain whose first is refused none is written, though there is something in hand.
  policy.Request(std::vector<uint64_t>{11, 12});
  EXPECT_EQ(Decide(policy, 11, now_ms + 1), AdmissionReason::kNotSeenBefore);
  EXPECT_EQ(Decide(policy, 12, 3600 * 1000), AdmissionReason::kNotSeenBefore);
}

TEST_F(AdmissionPolicyTest, AChainIsCutWhereTooMuchIsOwed) {
  const int64_t now_ms = 1200 * 1000;
  AdmissionPolicy policy = UsedUpAt(now_ms);
  std::vector<uint64_t> chain;
  for (uint64_t key = 1; key <= 500; ++key) chain.push_back(key);
  policy.Request(chain);
  uint64_t written = 0;
  while (Admitted(Decide(policy, chain[written], now_ms + 1))) ++written;
  EXPECT_EQ(written, 2 * AdmissionPolicy::kBorrowedSeconds + 1);
}

TEST_F(AdmissionPolicyTest, PartialBlocksNeverPromisesAlways) {
  AdmissionPolicy policy = Policy(10 * kTensorBytes);
  const AdmissionPolicy::Tensor partial = {.key_hash = 1, .bytes = kTensorBytes, .partial = true};
  EXPECT_EQ(policy.Decide(partial, 0), AdmissionReason::kPartial);
  EXPECT_EQ(policy.Decide(partial, 0), AdmissionReason::kPartial);
  AdmissionPolicy::Tensor promised = partial;
  promised.promised = true;
  promised.bytes = 100 * kTensorBytes;
  EXPECT_EQ(policy.Decide(promised, 0), AdmissionReason::kPromised);
  EXPECT_EQ(policy.Decide(promised, 0), AdmissionReason::kPromised);
  EXPECT_EQ(policy.budget().in_hand_bytes(), -190.0 * kTensorBytes);
  EXPECT_EQ(Decide(policy, 2), AdmissionReason::kNotSeenBefore);
}

TEST_F(AdmissionPolicyTest, WhatIsNotWrittenAfterAllCostsNothing) {
  AdmissionPolicy policy = Policy(kTensorBytes);
  const AdmissionPolicy::Tensor tensor = {.key_hash = 1, .bytes = kTensorBytes};
  policy.Return(tensor, policy.Decide(tensor, 0));
  EXPECT_EQ(policy.written_bytes(), 0);
  EXPECT_EQ(policy.budget().in_hand_bytes(), kTensorBytes);
  EXPECT_EQ(policy.count(AdmissionReason::kFirstSight), 0);
}

// Random tensors and chains, of which more come than may be written: what is written without a
// promise never passes what the budget has granted by more than it may borrow, and is not less than
// nine tenths of it either.
TEST_F(AdmissionPolicyTest, KeepsToItsBudgetWhateverComes) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    AdmissionPolicy policy = Policy();
    const uint64_t keys = 100 + random() % 5000;
    const uint64_t bytes_max = kTensorBytes / (1 + random() % 8);
    int64_t now_ms = 0;
    uint64_t written = 0;
    uint64_t promised = 0;
    uint64_t decisions = 0;
    while (now_ms < kDayMs / 12) {
      now_ms += static_cast<int64_t>(random() % 2000);
      std::vector<uint64_t> chain(1 + random() % 16);
      for (uint64_t& key : chain) key = random() % keys;
      if (random() % 2 == 0) policy.Request(chain);
      for (const uint64_t key : chain) {
        const AdmissionPolicy::Tensor tensor = {.key_hash = key,
                                                .bytes = 1 + random() % bytes_max,
                                                .promised = random() % 100 == 0,
                                                .partial = random() % 20 == 0};
        const AdmissionReason reason = policy.Decide(tensor, now_ms);
        ++decisions;
        ASSERT_EQ(reason == AdmissionReason::kPromised, tensor.promised);
        if (tensor.partial && !tensor.promised) {
          ASSERT_EQ(reason, AdmissionReason::kPartial);
        }
        if (!Admitted(reason)) continue;
        (tensor.promised ? promised : written) += tensor.bytes;
        ASSERT_LE(written, 1.1 * policy.budget().granted_bytes() + kTensorBytes);
        if (random() % 5 == 0) policy.Left(key);
      }
    }
    const auto granted = static_cast<double>(kBytesPerMs) * static_cast<double>(now_ms);
    EXPECT_EQ(policy.written_bytes(), written + promised);
    // The demand: 8.5 tensors of half of bytes_max a second, less what is partial.
    const double demand =
        0.9 * 8.5 * 0.5 * static_cast<double>(bytes_max) * static_cast<double>(now_ms) / 1000;
    EXPECT_LE(static_cast<double>(written + promised), 1.1 * granted);
    if (demand > 2 * granted) {
      EXPECT_GE(static_cast<double>(written + promised), 0.9 * granted);
    }
    uint64_t counted = 0;
    for (size_t i = 0; i < kAdmissionReasons; ++i) {
      counted += policy.count(static_cast<AdmissionReason>(i));
    }
    EXPECT_EQ(counted, decisions);
  }
}

}  // namespace
}  // namespace cairn
