// One of several drives fails, or dawdles: it is drained and named, and the rest goes on.

#include "src/drive_health.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "tests/data_paths_fixture.h"
#include "tests/faulty_io.h"

namespace cairn {
namespace {

using Fault = FaultyIo::Fault;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr PutOptions kOnDevice = {.durability = Durability::kOnDevice};

// ---- The store ----

class FailingDriveTest : public DataPathsTest {
 protected:
  void OpenOver(int drives) {
    MakeDrives(drives);
    options_.l3_bytes_max = 128 * kMiB;
    Open(WrappedIn(&io_));
  }
  // Every request of this kind to these drives, of so many; files are added in their order.
  void Fail(IoOp::Kind kind, std::vector<int> drives) {
    const int count = static_cast<int>(options_.data_paths.size());
    io_->SetPlan([kind, drives = std::move(drives), count](const IoOp& op, uint64_t) -> Fault {
      const bool fails = std::find(drives.begin(), drives.end(), op.file % count) != drives.end();
      if (op.kind != kind || !fails) return {};
      return {.kind = FaultyIo::Kind::kFail,
              .status = kind == IoOp::Kind::kRead ? absl::DataLossError("EIO")
                                                  : absl::UnavailableError("EIO")};
    });
  }
  std::vector<size_t> Drained() const {
    std::vector<size_t> drained;
    const std::vector<DriveStats> drives = store_->Stats().drives;
    for (size_t i = 0; i < drives.size(); ++i) {
      if (!drives[i].drained.empty()) drained.push_back(i);
    }
    return drained;
  }
  // Housekeeping judges some ten times a second.
  bool AwaitDrained(std::vector<size_t> drives) const {
    const Deadline end = SteadyNow() + std::chrono::seconds(30);
    while (Drained() != drives && SteadyNow() < end) SleepFor(std::chrono::milliseconds(10));
    return Drained() == drives;
  }
  void DropFromL2(int count = kTensors) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(store_->Evict(absl::StrCat("k", i), Level::kL3Nvme).ok());
    }
  }

  // How many that were.
  int PutWhatIsLost() {
    int lost = 0;
    for (int i = 0; i < kTensors; ++i) {
      const std::string key = absl::StrCat("k", i);
      if (GetStatus(key).ok()) continue;
      EXPECT_TRUE(Put(key, kTensorBytes, 0, kOnDevice).ok());
      ++lost;
    }
    return lost;
  }

  FaultyIo* io_ = nullptr;
};

TEST_F(FailingDriveTest, WhatRefusesWritesIsDrainedAndNamedAndNoPutFails) {
  OpenOver(2);
  PutSome();
  Fail(IoOp::Kind::kWrite, {1});
  PutSome(kTensors, /*version=*/1);
  ASSERT_TRUE(AwaitDrained({1}));
  EXPECT_THAT(store_->Stats().degraded, HasSubstr(options_.data_paths[1]));
  EXPECT_THAT(store_->Stats().degraded, HasSubstr("is drained until the next Open"));
  EXPECT_THAT(log_, ::testing::Contains(HasSubstr("is drained")));
  const StatsSnapshot before = store_->Stats();
  EXPECT_GE(before.drives[1].errors, DriveHealth::kErrorsMin);
  EXPECT_EQ(before.drives[0].errors, 0u);
  // Nothing is put there any more, so nothing fails there.
  PutSome(kTensors, /*version=*/2);
  EXPECT_EQ(store_->Stats().write_errors, before.write_errors);
  EXPECT_EQ(store_->Stats().drives[1].requests, before.drives[1].requests);
  DropFromL2();
  ExpectSome(kTensors, /*version=*/2);
  EXPECT_EQ(store_->Stats().spill_failures, 0u);
  // The next Open takes it for good.
  Reopen();
  EXPECT_TRUE(Drained().empty());
  EXPECT_EQ(store_->Stats().degraded, "");
  ExpectSome(kTensors, /*version=*/2);
}

TEST_F(FailingDriveTest, WhatRefusesReadsIsDrainedAndPutsHealWhatWasThere) {
  OpenOver(3);
  PutSome();
  DropFromL2();
  Fail(IoOp::Kind::kRead, {0});
  EXPECT_EQ(PutWhatIsLost(), kTensors / 3);
  ASSERT_TRUE(AwaitDrained({0}));
  // Of what was put again until then some lies where reads fail.
  DropFromL2();
  PutWhatIsLost();
  DropFromL2();
  ExpectSome();
  EXPECT_EQ(store_->Stats().quarantined, 0u);
}

TEST_F(FailingDriveTest, WhatLiesOnADrainedDriveIsReadOn) {
  OpenOver(2);
  PutSome();
  Fail(IoOp::Kind::kWrite, {1});
  for (int i = 0; i < kTensors; ++i) {
    ASSERT_TRUE(Put(absl::StrCat("more", i), kTensorBytes, 0, kOnDevice).ok());
  }
  ASSERT_TRUE(AwaitDrained({1}));
  DropFromL2();
  const uint64_t requests = store_->Stats().drives[1].requests;
  ExpectSome();
  EXPECT_EQ(store_->Stats().drives[1].requests, requests + kTensors / 2);
  EXPECT_TRUE(store_->Flush().ok());
}

TEST_F(FailingDriveTest, OneDriveStaysWhenAllFail) {
  OpenOver(2);
  Fail(IoOp::Kind::kWrite, {0, 1});
  for (int i = 0; i < kTensors; ++i) {
    EXPECT_FALSE(Put(absl::StrCat("k", i), kTensorBytes, 0, kOnDevice).ok());
  }
  const Deadline end = SteadyNow() + std::chrono::seconds(30);
  while (Drained().empty() && SteadyNow() < end) SleepFor(std::chrono::milliseconds(10));
  ASSERT_THAT(Drained(), SizeIs(1));
  io_->SetPlan(nullptr);
  PutSome();
  DropFromL2();
  ExpectSome();
  EXPECT_THAT(Drained(), SizeIs(1));
}

TEST_F(FailingDriveTest, AStoreOfOneDriveIsNeverDrained) {
  Open(WrappedIn(&io_));
  options_.data_paths = {directory_.string()};
  Fail(IoOp::Kind::kWrite, {0});
  for (int i = 0; i < kTensors; ++i) {
    EXPECT_FALSE(Put(absl::StrCat("k", i), kTensorBytes, 0, kOnDevice).ok());
  }
  ASSERT_THAT(store_->Stats().drives, SizeIs(1));
  EXPECT_GE(store_->Stats().drives[0].errors, DriveHealth::kErrorsMin);
  io_->SetPlan(nullptr);
  PutSome();
  EXPECT_TRUE(Drained().empty());
}

// ---- The judgement ----

// Drives that do as they are told.
class DriveHealthTest : public DataPathsTest {
 protected:
  static constexpr size_t kDrives = 3;

  DriveHealthTest() {
    MakeDrives(kDrives);
    files_ = *StoreFiles::Open({.path = options_.path,
                                .data_paths = options_.data_paths,
                                .bytes_max = 48 * kMiB,
                                .data_file_bytes = 4 * kMiB});
    io_ = *AsyncIo::Open({.kind = IoEngineKind::kPosix});
    l3_ = *NvmeTier::Create(files_.get(), io_.get(), {});
    health_ = std::make_unique<DriveHealth>(files_.get(), l3_.get());
    health_->Judge(now_);
  }

  void Serve(size_t drive, uint64_t requests, int64_t service_us, bool fail = false) {
    for (uint64_t i = 0; i < requests; ++i) {
      l3_->Ended(drive * files_->data_file_bytes() + kBlockBytes,
                 fail ? absl::UnavailableError("EIO") : absl::OkStatus(), service_us);
    }
  }
  void ServeAll(uint64_t requests, const std::vector<int64_t>& service_us) {
    for (size_t drive = 0; drive < kDrives; ++drive) Serve(drive, requests, service_us[drive]);
  }
  void EndSpan() {
    now_ += DriveHealth::kSpan;
    health_->Judge(now_);
  }
  std::vector<bool> Drained() const {
    std::vector<bool> drained;
    for (const DriveStats& drive : health_->Stats()) drained.push_back(!drive.drained.empty());
    return drained;
  }

  std::unique_ptr<StoreFiles> files_;
  std::unique_ptr<AsyncIo> io_;
  std::unique_ptr<NvmeTier> l3_;
  std::unique_ptr<DriveHealth> health_;
  Deadline now_ = Deadline() + std::chrono::hours(1);
};

const std::vector<bool> kNone = {false, false, false};
const std::vector<bool> kSecond = {false, true, false};

TEST_F(DriveHealthTest, AFewBadPlacesOfManyAreNoReason) {
  for (int i = 0; i < 100; ++i) {
    Serve(1, 4 * DriveHealth::kRequestsPerErrorMax, 100);
    Serve(1, 3, 100, /*fail=*/true);
    health_->Judge(now_);
  }
  EXPECT_EQ(Drained(), kNone);
  Serve(1, DriveHealth::kRecentMax, 100, /*fail=*/true);
  health_->Judge(now_);
  EXPECT_EQ(Drained(), kSecond);
  EXPECT_THAT(health_->Drained(), HasSubstr(options_.data_paths[1]));
}

TEST_F(DriveHealthTest, TheFirstFewErrorsAreNoReason) {
  Serve(1, DriveHealth::kErrorsMin - 1, 100, /*fail=*/true);
  health_->Judge(now_);
  EXPECT_EQ(Drained(), kNone);
  Serve(1, 1, 100, /*fail=*/true);
  health_->Judge(now_);
  EXPECT_EQ(Drained(), kSecond);
}

TEST_F(DriveHealthTest, WhatIsSlowForLongIsDrained) {
  for (uint32_t span = 0; span < DriveHealth::kSlowSpans; ++span) {
    EXPECT_EQ(Drained(), kNone);
    ServeAll(DriveHealth::kSpanRequestsMin, {4000, 60'000, 6000});
    EndSpan();
  }
  EXPECT_EQ(Drained(), kSecond);
  EXPECT_THAT(health_->Drained(), HasSubstr("60 ms for a request, and the others 6 ms"));
  // What is put there no more is not looked for there, nor is another drained for being as it was.
  EXPECT_FALSE(l3_->InUse(files_->data_file_bytes()));
  EXPECT_FALSE(l3_->InUse(4 * files_->data_file_bytes()));
  EXPECT_TRUE(l3_->InUse(2 * files_->data_file_bytes()));
}

TEST_F(DriveHealthTest, AStallThatPassesIsNoReason) {
  for (int i = 0; i < 10; ++i) {
    for (uint32_t span = 0; span + 1 < DriveHealth::kSlowSpans; ++span) {
      ServeAll(DriveHealth::kSpanRequestsMin, {4000, 1'000'000, 4000});
      EndSpan();
    }
    ServeAll(DriveHealth::kSpanRequestsMin, {4000, 4000, 4000});
    EndSpan();
  }
  EXPECT_EQ(Drained(), kNone);
}

TEST_F(DriveHealthTest, NeitherAllThatAreSlowNorFastOnesThatDifferAreDrained) {
  for (int i = 0; i < 10; ++i) {
    ServeAll(DriveHealth::kSpanRequestsMin, {90'000, 90'000, 90'000});
    EndSpan();
  }
  for (int i = 0; i < 10; ++i) {
    ServeAll(DriveHealth::kSpanRequestsMin, {50, 10'000, 50});
    EndSpan();
  }
  EXPECT_EQ(Drained(), kNone);
}

TEST_F(DriveHealthTest, OneThatAloneIsAskedIsSlowerThanNobody) {
  for (int i = 0; i < 10; ++i) {
    Serve(1, DriveHealth::kSpanRequestsMin, 90'000);
    EndSpan();
  }
  EXPECT_EQ(Drained(), kNone);
}

}  // namespace
}  // namespace cairn
