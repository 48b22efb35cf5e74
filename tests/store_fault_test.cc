// What a store does when the device, the index or the files under it misbehave: the documented
// status, never a wrong byte, never a hang.

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/broken_index.h"
#include "tests/faulty_io.h"
#include "tests/manual_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;
using Fault = FaultyIo::Fault;
using FaultKind = FaultyIo::Kind;

class StoreFaultTest : public StoreTest {
 protected:
  StoreSeams Faulty() { return WrappedIn(&io_); }
  StoreSeams Manual() { return WrappedIn(&manual_); }
  // Ops of one kind suffer the fault, `times` of them.
  void Plan(IoOp::Kind kind, const Fault& fault, int times = 1 << 30) {
    io_->SetPlan([kind, fault, times](const IoOp& op, uint64_t) mutable -> Fault {
      return op.kind == kind && times-- > 0 ? fault : Fault{};
    });
  }
  void PutOnL3(std::string_view key, uint64_t size) {
    ASSERT_TRUE(Put(key, size).ok());
    ASSERT_TRUE(store_->Evict(key, Level::kL3Nvme).ok());
  }
  // No memory still holds, by chance, what a faulty read fails to bring.
  void OverwriteL2() {
    for (int i = 0; i < 9; ++i) ASSERT_TRUE(Put(absl::StrCat("filler", i), kMiB).ok());
    ASSERT_TRUE(store_->Flush().ok());
  }

  FaultyIo* io_ = nullptr;
  ManualIo* manual_ = nullptr;
};

TEST_F(StoreFaultTest, OneBadReadIsReadAgain) {
  Open(Faulty());
  uint64_t faults = 0;
  for (const FaultKind kind : {FaultKind::kFail, FaultKind::kFlipBit, FaultKind::kDrop,
                               FaultKind::kTear, FaultKind::kMisdirect, FaultKind::kShort}) {
    const std::string key = absl::StrCat("k", static_cast<int>(kind));
    PutOnL3(key, 300 * kKiB);
    Plan(IoOp::Kind::kRead, {.kind = kind, .where = 8192}, 1);
    Expect(key, 300 * kKiB);
    EXPECT_EQ(io_->fault_count(), ++faults) << key;
  }
  EXPECT_EQ(store_->Stats().quarantined, 0u);
  EXPECT_EQ(store_->Stats().checksum_failures, 0u);
}

TEST_F(StoreFaultTest, EveryKindOfBadReadIsDataLossAndNeverWrongBytes) {
  Open(Faulty());
  uint64_t quarantined = 0;
  for (const FaultKind kind : {FaultKind::kFail, FaultKind::kFlipBit, FaultKind::kDrop,
                               FaultKind::kTear, FaultKind::kMisdirect, FaultKind::kShort}) {
    const std::string key = absl::StrCat("k", static_cast<int>(kind));
    PutOnL3(key, 300 * kKiB);
    OverwriteL2();
    // Misdirected to where no payload can be: a file begins with its header, a record too.
    Plan(IoOp::Kind::kRead, {.kind = kind, .where = 4096});
    ExpectStatus(GetStatus(key), StatusCode::kDataLoss, key);
    io_->SetPlan(nullptr);
    // It stays so, and is no hit, until it is put again.
    ExpectStatus(GetStatus(key), StatusCode::kDataLoss, "quarantined");
    EXPECT_EQ(store_->CountLeading({key}, {})->count, 0u);
    EXPECT_TRUE(store_->Describe(key)->quarantined);
    EXPECT_EQ(store_->Stats().quarantined, ++quarantined);
  }
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.checksum_failures + stats.read_errors, quarantined);
  ASSERT_TRUE(Put("k1", 300 * kKiB).ok());
  Expect("k1", 300 * kKiB);
  EXPECT_EQ(store_->Stats().quarantined, quarantined - 1);
}

TEST_F(StoreFaultTest, DirectReadsAreVerifiedToo) {
  Open(Faulty());
  PutOnL3("k", kMiB);
  AlignedBuffer buffer(kMiB);
  const Piece piece = {buffer.data(), kMiB};
  Plan(IoOp::Kind::kRead, {.kind = FaultKind::kFlipBit, .where = 77});
  ExpectStatus(store_->GetInto({{.key = "k", .pieces = {&piece, 1}}}, {})[0], StatusCode::kDataLoss,
               "checksum");
  io_->SetPlan(nullptr);
  ExpectStatus(store_->GetInto({{.key = "k", .pieces = {&piece, 1}}}, {})[0], StatusCode::kDataLoss,
               "quarantined");
}

TEST_F(StoreFaultTest, WritesThatLieAreFoundByTheNextRead) {
  Open(Faulty());
  for (const FaultKind kind : {FaultKind::kDrop, FaultKind::kTear, FaultKind::kMisdirect}) {
    const std::string key = absl::StrCat("k", static_cast<int>(kind));
    Plan(IoOp::Kind::kWrite, {.kind = kind, .where = 16384});
    ASSERT_TRUE(Put(key, 100 * kKiB).ok());
    ASSERT_TRUE(store_->Evict(key, Level::kL3Nvme).ok());
    ExpectStatus(GetStatus(key), StatusCode::kDataLoss, key);
  }
}

TEST_F(StoreFaultTest, ALostOverwriteIsNotTheOldTensor) {
  options_.l3_bytes_max = 32 * kMiB;
  Open(Faulty());
  // The same key, the same size, and (first fit after a free) in time the same place.
  for (uint64_t version = 0; version < 100; ++version) {
    io_->SetPlan(nullptr);
    ASSERT_TRUE(Put("k", 64 * kKiB, version).ok());
    ASSERT_TRUE(store_->Evict("k", Level::kL3Nvme).ok());
    Plan(IoOp::Kind::kWrite, {.kind = FaultKind::kDrop});
    ASSERT_TRUE(Put("k", 64 * kKiB, version).ok());
    ASSERT_TRUE(store_->Evict("k", Level::kL3Nvme).ok());
    ExpectStatus(GetStatus("k"), StatusCode::kDataLoss, "k");
  }
}

TEST_F(StoreFaultTest, FailedWritesLeaveTheTensorInL2AndSaySo) {
  Open(Faulty());
  Plan(IoOp::Kind::kWrite, {.kind = FaultKind::kFail, .status = absl::UnavailableError("EIO")});
  EXPECT_TRUE(Put("memory", 10000).ok());
  ExpectStatus(Put("device", 10000, 0, {.durability = Durability::kOnDevice}),
               StatusCode::kUnavailable, "device");
  AlignedBuffer buffer(4096);
  const ConstPiece piece = {buffer.data(), 4096};
  ExpectStatus(
      store_->PutFrom({{.key = "borrowed", .meta = TensorMeta::Bytes(4096), .pieces = {&piece, 1}}},
                      {})[0],
      StatusCode::kUnavailable, "borrowed");
  ExpectStatus(store_->Flush(), StatusCode::kUnavailable, "3 tensors");
  Expect("memory", 10000);
  Expect("device", 10000);
  ExpectStatus(GetStatus("borrowed"), StatusCode::kNotFound, "borrowed");
  EXPECT_EQ(store_->Stats().spill_failures, 3u);
  EXPECT_NE(store_->Stats().degraded.find("EIO"), std::string::npos);
  // It may leave L2, for it is a cache; nothing stands still.
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Put(absl::StrCat("k", i), kMiB).ok()) << i;
  store_->Flush().IgnoreError();  // None of them fails after the disk is well again.
  io_->SetPlan(nullptr);
  ASSERT_TRUE(Put("well", 10000, 0, {.durability = Durability::kFlushed}).ok());
  EXPECT_EQ(store_->Stats().degraded, "");
  EXPECT_EQ(store_->Stats().l3.bytes_used, 4096 * 4u);
}

TEST_F(StoreFaultTest, ADurableReplacementThatFailsDoesNotBringTheOldBack) {
  Open(Faulty());
  ASSERT_TRUE(Put("k", 10000, 1, {.durability = Durability::kOnDevice}).ok());
  Plan(IoOp::Kind::kWrite, {.kind = FaultKind::kFail, .status = absl::UnavailableError("EIO")});
  ASSERT_TRUE(Put("k", 10000, 2).ok());
  store_->Flush().IgnoreError();
  Expect("k", 10000, 2);
  store_->Close().IgnoreError();
  store_.reset();
  Open();
  ExpectStatus(GetStatus("k"), StatusCode::kNotFound, "k");
  EXPECT_EQ(store_->Stats().l3.bytes_used, 0u);
}

TEST_F(StoreFaultTest, ABrokenIndexStopsWritesByNameAndReadsGoOn) {
  std::atomic<bool> broken = false;
  StoreSeams seams;
  seams.wrap_index = [&broken](std::unique_ptr<Index> inner) {
    return std::make_unique<BrokenIndex>(std::move(inner), &broken);
  };
  Open(seams);
  PutOnL3("before", kMiB);
  broken = true;
  ExpectStatus(Put("during", 10000, 0, {.durability = Durability::kOnDevice}),
               StatusCode::kUnavailable, "index log is full");
  Expect("before", kMiB);
  Expect("during", 10000);
  ExpectStatus(store_->Erase("before"), StatusCode::kUnavailable, "index log is full");
  EXPECT_NE(store_->Stats().degraded.find("index log is full"), std::string::npos);
  broken = false;
  ASSERT_TRUE(Put("after", 10000, 0, {.durability = Durability::kFlushed}).ok());
  EXPECT_EQ(store_->Stats().degraded, "");
  ExpectStatus(store_->Close(), StatusCode::kUnavailable, "1 tensors were not written");
  store_.reset();
  Open();
  Expect("after", 10000);
}

TEST_F(StoreFaultTest, ABrokenIndexIsOpenedAnewInTheBackground) {
  std::atomic<bool> broken = false;
  StoreSeams seams;
  seams.wrap_index = [&broken](std::unique_ptr<Index> inner) {
    return std::make_unique<BrokenIndex>(std::move(inner), &broken, /*reopens=*/true);
  };
  Open(seams);
  broken = true;
  while (broken) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(Put("k", 10000, 0, {.durability = Durability::kFlushed}).ok());
  Close();
}

TEST_F(StoreFaultTest, TwoWaitersOneRead) {
  Open();
  ASSERT_TRUE(Put("k", 500 * kKiB).ok());
  Close();
  Open(Manual());
  std::vector<std::thread> getters;
  for (int i = 0; i < 4; ++i) {
    getters.emplace_back([this] { Expect("k", 500 * kKiB); });
  }
  manual_->WaitForPending(1);
  while (store_->Stats().fills_joined < 3) std::this_thread::yield();
  EXPECT_EQ(manual_->pending(), 1u);
  // Not in time: the load goes on for the others.
  ExpectStatus(store_->Get("k", {.timeout = absl::Milliseconds(1)}).status(),
               StatusCode::kDeadlineExceeded, "still being loaded");
  manual_->Complete(0);
  for (std::thread& getter : getters) getter.join();
  EXPECT_EQ(store_->Stats().fills, 1u);
  manual_->Release();
}

TEST_F(StoreFaultTest, AllWaitersHearOfAFailure) {
  Open();
  ASSERT_TRUE(Put("k", 500 * kKiB).ok());
  Close();
  Open(Manual());
  std::atomic<int> losses = 0;
  std::vector<std::thread> getters;
  for (int i = 0; i < 3; ++i) {
    getters.emplace_back([&] { losses += absl::IsDataLoss(GetStatus("k")) ? 1 : 0; });
  }
  for (int attempt = 0; attempt < 2; ++attempt) {
    manual_->WaitForPending(1);
    while (store_->Stats().fills_joined < 2) std::this_thread::yield();
    manual_->Complete(0, absl::DataLossError("bad sector"));
  }
  for (std::thread& getter : getters) getter.join();
  EXPECT_EQ(losses, 3);
  manual_->Release();
}

TEST_F(StoreFaultTest, EraseWhileItIsBeingLoaded) {
  Open();
  ASSERT_TRUE(Put("k", 500 * kKiB).ok());
  Close();
  Open(Manual());
  std::thread getter([this] { Expect("k", 500 * kKiB); });
  manual_->WaitForPending(1);
  ASSERT_TRUE(store_->Erase("k").ok());
  ExpectStatus(GetStatus("k"), StatusCode::kNotFound, "k");
  manual_->Complete(0);
  getter.join();
  EXPECT_EQ(store_->Stats().l3.bytes_used, 0u);
  EXPECT_EQ(store_->Stats().l2.bytes_used, 0u);
  manual_->Release();
}

TEST_F(StoreFaultTest, FlippedByteOnDisk) {
  Open();
  const uint64_t size = 2 * kMiB;
  ASSERT_TRUE(Put("victim", size).ok());
  ASSERT_TRUE(Put("other", size).ok());
  Close();
  // Finds the tensor's bytes in the data files, and one of them is changed.
  const std::vector<std::byte> content = ContentOf("victim", size);
  bool flipped = false;
  for (const auto& file : std::filesystem::directory_iterator(directory_ / "data")) {
    std::fstream stream(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    std::vector<char> block(4096);
    for (uint64_t offset = 0;
         stream.seekg(static_cast<std::streamoff>(offset)) && stream.read(block.data(), 4096);
         offset += 4096) {
      if (std::memcmp(block.data(), content.data(), 4096) != 0) continue;
      stream.seekp(static_cast<std::streamoff>(offset + kMiB + 123));
      stream.put(static_cast<char>(~static_cast<char>(content[kMiB + 123])));
      flipped = true;
      break;
    }
  }
  ASSERT_TRUE(flipped);
  Open();
  ExpectStatus(GetStatus("victim"), StatusCode::kDataLoss, "victim");
  Expect("other", size);
  EXPECT_EQ(store_->Stats().checksum_failures, 1u);
}

TEST_F(StoreFaultTest, SecondOwnerIsRefused) {
  Open();
  const absl::Status status = Store::Open(options_).status();
  ExpectStatus(status, StatusCode::kFailedPrecondition, "in use");
}

// Random faults under random work: every byte that comes back is right.
TEST_F(StoreFaultTest, RandomFaultsNeverGiveWrongBytes) {
  const uint64_t seed = std::random_device{}();
  std::printf("seed %lu\n", static_cast<unsigned long>(seed));
  std::mt19937_64 random(seed);
  Open(Faulty());
  io_->SetPlan(
      FaultyIo::RandomPlan(seed, 0.05,
                           {FaultKind::kFail, FaultKind::kShort, FaultKind::kTear, FaultKind::kDrop,
                            FaultKind::kFlipBit, FaultKind::kMisdirect, FaultKind::kDelay}));
  std::vector<uint64_t> versions(30);
  uint64_t good = 0;
  for (uint64_t i = 1; i <= 1200 && !HasFailure(); ++i) {
    const size_t k = random() % versions.size();
    const std::string key = absl::StrCat("k", k);
    if (random() % 3 == 0) {
      if (Put(key, 4096 + (i * 7919) % 200000, i).ok()) versions[k] = i;
    } else if (random() % 2 == 0) {
      store_->Evict(key, Level::kL3Nvme).IgnoreError();
    } else if (const absl::StatusOr<TensorHandle> handle = store_->Get(key, {}); handle.ok()) {
      const uint64_t version = versions[k];
      const std::vector<std::byte> bytes =
          ContentOf(key, 4096 + (version * 7919) % 200000, version);
      ASSERT_EQ(handle->view().size, bytes.size());
      ASSERT_EQ(std::memcmp(handle->view().data, bytes.data(), bytes.size()), 0);
      ++good;
    } else {
      EXPECT_TRUE(absl::IsNotFound(handle.status()) || absl::IsDataLoss(handle.status()))
          << handle.status();
    }
  }
  EXPECT_GT(good, 0u);
  EXPECT_GT(io_->fault_count(), 0u);
  io_->SetPlan(nullptr);
  store_->Close().IgnoreError();
}

}  // namespace
}  // namespace cairn
