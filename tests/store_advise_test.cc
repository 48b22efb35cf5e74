// Advise: where a tensor would be a while from now, and why; and that it comes true.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/faulty_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kDayMs = 24 * 60 * 60 * 1000;
constexpr uint64_t kSize = 256 * kKiB;

class StoreAdviseTest : public StoreTest {
 protected:
  PlacementAdvice Advice(uint64_t bytes, TensorClass tensor_class = TensorClass::kGeneral) {
    const absl::StatusOr<PlacementAdvice> advice = store_->Advise(bytes, tensor_class);
    EXPECT_TRUE(advice.ok()) << advice.status();
    return advice.ok() ? *advice : PlacementAdvice();
  }
  void ExpectL2(const PlacementAdvice& advice, const std::string& reason) {
    EXPECT_EQ(advice.level, Level::kL2Pinned) << advice.reason;
    EXPECT_EQ(advice.arrival, absl::ZeroDuration());
    EXPECT_THAT(advice.reason, HasSubstr(reason));
  }
  void ExpectL3(const PlacementAdvice& advice, const std::string& reason) {
    EXPECT_EQ(advice.level, Level::kL3Nvme) << advice.reason;
    EXPECT_GT(advice.arrival, absl::ZeroDuration());
    EXPECT_LT(advice.arrival, absl::InfiniteDuration());
    EXPECT_THAT(advice.reason, HasSubstr(reason));
  }
  void ExpectNowhere(const PlacementAdvice& advice, const std::string& reason) {
    EXPECT_EQ(advice.level, std::nullopt) << advice.reason;
    EXPECT_EQ(advice.arrival, absl::InfiniteDuration());
    EXPECT_THAT(advice.reason, HasSubstr(reason));
  }
  // So many tensors that nothing of what was put before is left in L2.
  void FillL2() {
    const uint64_t count = 4 * options_.l2_bytes_max / kSize;
    for (uint64_t i = 0; i < count; ++i) {
      ASSERT_TRUE(Put(absl::StrCat("filler ", fillers_++), kSize).ok());
    }
  }

  uint64_t fillers_ = 0;
};

TEST_F(StoreAdviseTest, InL2WhileThereIsRoomAndThenOnL3) {
  Open();
  ExpectL2(Advice(kMiB), "L2 has room; on L3 too");
  FillL2();
  ASSERT_TRUE(store_->Flush().ok());
  const PlacementAdvice advice = Advice(kMiB);
  ExpectL3(advice, "L3 takes it; not long in L2");
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(advice.arrival, absl::Microseconds(static_cast<int64_t>(stats.l3_read_latency_us)) +
                                absl::Seconds(static_cast<double>(kMiB) /
                                              static_cast<double>(stats.l3_read_bytes_per_second)));
  ASSERT_TRUE(Put("a", kMiB).ok());
  FillL2();
  const absl::StatusOr<TensorInfo> info = store_->Describe("a");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_TRUE(info->in_l3 && !info->in_l2);
}

TEST_F(StoreAdviseTest, NowhereWhatTheWriteBudgetWouldRefuse) {
  // A millisecond of the test's clock gains a KiB.
  options_.l3_write_bytes_per_day = kDayMs * kKiB;
  std::atomic<int64_t> now_ms = 1'700'000'000'000;
  StoreSeams seams;
  seams.now_unix_ms = [&now_ms] { return now_ms.load(); };
  Open(seams);
  ExpectL2(Advice(kMiB), "not on L3: the write budget");
  FillL2();
  ExpectNowhere(Advice(kMiB), "not on L3: the write budget");
  ASSERT_TRUE(Put("refused", kMiB).ok());
  now_ms += 60'000;
  ExpectL3(Advice(kMiB), "L3 takes it");
  ASSERT_TRUE(Put("admitted", kMiB).ok());
  FillL2();
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_TRUE(absl::IsNotFound(GetStatus("refused")));
  Expect("admitted", kMiB);
  store_.reset();
}

TEST_F(StoreAdviseTest, WhatIsPromisedNeedsNoBudget) {
  options_.l3_write_bytes_per_day = 1;
  options_.write_policy = WritePolicy::kWriteThrough;
  Open();
  ExpectL2(Advice(kMiB), "on L3 too");
  FillL2();
  ExpectL3(Advice(kMiB), "L3 takes it");
}

TEST_F(StoreAdviseTest, NowhereWhatAPutWouldRefuse) {
  options_.l2_bytes_max = 64 * kMiB;
  Open();
  const uint64_t too_large = options_.l2_bytes_max + 1;
  ExpectNowhere(Advice(too_large), "more than L2's");
  ExpectNowhere(Advice(UINT64_MAX), "more than L2's");
  ExpectNowhere(Advice(40 * kMiB), "do not fit a data file");
  EXPECT_TRUE(absl::IsInvalidArgument(Put("a", too_large)));
  EXPECT_TRUE(absl::IsInvalidArgument(Put("a", 40 * kMiB)));
}

TEST_F(StoreAdviseTest, NotOnL3WhereAllIsToBeKept) {
  Open();
  absl::Status put;
  for (int i = 0; put.ok() && i < 1000; ++i) {
    put = Put(absl::StrCat("kept ", i), kMiB, 0, {.retention = Retention::kKeep});
  }
  ASSERT_TRUE(absl::IsResourceExhausted(put)) << put;
  ExpectNowhere(Advice(2 * kMiB), "are to be kept");
  ASSERT_TRUE(store_->ErasePrefix("kept").ok());
  ExpectL2(Advice(2 * kMiB), "on L3 too");
}

TEST_F(StoreAdviseTest, SharesOfClassesCount) {
  options_.l2_class_shares.vision.max = 0.1;
  options_.l3_class_shares.kv.min = 0.9;
  Open();
  ExpectL2(Advice(2 * kMiB, TensorClass::kKv), "on L3 too");
  ExpectL3(Advice(2 * kMiB, TensorClass::kVision), "of class vision may have");
  ExpectL2(Advice(5 * kMiB, TensorClass::kText), "not on L3: tensors of class text may have");
  ExpectNowhere(Advice(5 * kMiB, TensorClass::kVision), "of class vision may have");
}

TEST_F(StoreAdviseTest, NotInL2WhileMemoryIsShort) {
  StoreSeams seams;
  std::atomic<uint64_t> host_bytes_free = 8192 * kMiB;
  seams.read_pressure = [&host_bytes_free] {
    return PressureReadings{.host = MemoryAmount{8192 * kMiB, host_bytes_free.load()}};
  };
  Open(std::move(seams));
  ExpectL2(Advice(kKiB), "L2 has room");
  host_bytes_free = 0;
  while (store_->Stats().pressure.level != PressureLevel::kHigh) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ExpectL3(Advice(kKiB), "short of memory");
  store_.reset();
}

TEST_F(StoreAdviseTest, NotOnL3WhileItsWritesFail) {
  FaultyIo* io = nullptr;
  Open(WrappedIn(&io));
  io->SetPlan([](const IoOp& op, uint64_t) -> FaultyIo::Fault {
    if (op.kind != IoOp::Kind::kWrite) return {};
    return {.kind = FaultyIo::Kind::kFail, .status = absl::UnavailableError("EIO")};
  });
  ASSERT_TRUE(Put("a", kMiB).ok());
  EXPECT_TRUE(absl::IsUnavailable(store_->Flush()));
  ExpectL2(Advice(kMiB), "not on L3: its writes fail");
  io->SetPlan(nullptr);
  ASSERT_TRUE(Put("b", kMiB).ok());
  ASSERT_TRUE(store_->Flush().ok());
  ExpectL2(Advice(kMiB), "on L3 too");
}

TEST_F(StoreAdviseTest, MistakesAreTold) {
  Open();
  ExpectStatus(store_->Advise(0, TensorClass::kKv).status(), absl::StatusCode::kInvalidArgument,
               "0 bytes");
  ExpectStatus(store_->Advise(1, static_cast<TensorClass>(4)).status(),
               absl::StatusCode::kInvalidArgument, "class 4");
  ASSERT_TRUE(store_->Close().ok());
  ExpectStatus(store_->Advise(1, TensorClass::kKv).status(), absl::StatusCode::kFailedPrecondition,
               "closed");
}

}  // namespace
}  // namespace cairn
