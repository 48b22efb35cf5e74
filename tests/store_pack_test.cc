// Small tensors, which share headers and writes on L3: each is still a tensor of its own.

#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/faulty_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;

class StorePackTest : public StoreTest {
 protected:
  static std::string Key(int i) { return absl::StrCat("embedding/", i); }

  // Whole blocks in one call, as a host puts a batch of embeddings.
  void PutBatch(int first, int count, uint64_t size, uint64_t version = 0,
                const PutOptions& options = {}) {
    std::deque<AlignedBuffer> buffers;
    std::vector<std::string> keys;
    std::vector<ConstPiece> pieces;
    for (int i = 0; i < count; ++i) {
      keys.push_back(Key(first + i));
      buffers.emplace_back(size);
      const std::vector<std::byte> content = ContentOf(keys.back(), size, version);
      std::memcpy(buffers.back().data(), content.data(), size);
      pieces.push_back({buffers.back().data(), size});
    }
    std::vector<PutRequest> requests;
    for (size_t i = 0; i < keys.size(); ++i) {
      requests.push_back(
          {.key = keys[i], .meta = TensorMeta::Bytes(size), .pieces = {&pieces[i], 1}});
    }
    for (const absl::Status& status : store_->PutFrom(requests, options)) {
      EXPECT_TRUE(status.ok()) << status;
    }
  }
};

TEST_F(StorePackTest, ABatchIsFewWrites) {
  FaultyIo* io = nullptr;
  options_.l3_bytes_max = 256 * kMiB;
  Open(WrappedIn(&io));
  PutBatch(0, 2000, 4096);
  EXPECT_LE(io->stats().writes, 2000u * 4096 / kMiB + 2);
  // Headers included.
  EXPECT_LE(store_->Stats().device_bytes_written, 2000u * 4096 * 105 / 100);
  EXPECT_EQ(store_->Stats().l3.tensors, 2000u);
  EXPECT_LE(store_->Stats().l3.bytes_used, 2000u * 4096 * 105 / 100);
  for (int i = 0; i < 2000; i += 7) Expect(Key(i), 4096);
}

TEST_F(StorePackTest, PutsOneByOneAreThereAfterAReopen) {
  Open();
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(Put(Key(i), 1 + i * 131 % 65535).ok()) << i;
  ASSERT_TRUE(store_->Flush().ok());
  const uint64_t bytes_used = store_->Stats().l3.bytes_used;
  Reopen();
  EXPECT_EQ(store_->Stats().recovered_tensors, 500u);
  EXPECT_EQ(store_->Stats().recovery_dropped, 0u);
  EXPECT_EQ(store_->Stats().l3.bytes_used, bytes_used);
  for (int i = 0; i < 500; ++i) Expect(Key(i), 1 + i * 131 % 65535);
}

TEST_F(StorePackTest, TheSpaceOfAPackComesBackWithItsLastMember) {
  Open();
  PutBatch(0, 300, 4096);
  for (int i = 0; i < 300; i += 2) ASSERT_TRUE(store_->Erase(Key(i)).ok());
  for (int i = 1; i < 300; i += 2) Expect(Key(i), 4096);
  Reopen();
  for (int i = 1; i < 300; i += 2) Expect(Key(i), 4096);
  EXPECT_GE(store_->Stats().l3.bytes_used, 150u * 4096);
  for (int i = 1; i < 300; i += 2) ASSERT_TRUE(store_->Erase(Key(i)).ok());
  EXPECT_EQ(store_->Stats().l3.bytes_used, 0u);
}

TEST_F(StorePackTest, OverwrittenMembersLeaveTheOthersAlone) {
  Open();
  PutBatch(0, 200, 8192);
  for (uint64_t version = 1; version < 20; ++version) PutBatch(50, 100, 8192, version);
  Reopen();
  for (int i = 0; i < 200; ++i) Expect(Key(i), 8192, i >= 50 && i < 150 ? 19 : 0);
}

TEST_F(StorePackTest, AFullStoreOfSmallTensorsGoesOn) {
  options_.l3_bytes_max = 32 * kMiB;
  Open();
  std::mt19937_64 random(1);
  for (int round = 0; round < 12; ++round) {
    PutBatch(round * 1000, 1000, 4096);
    // Scattered uses, so that packs lose members here and there.
    for (int i = 0; i < 200; ++i) {
      store_->Get(Key(static_cast<int>(random() % 12000)), {}).status().IgnoreError();
    }
  }
  const StatsSnapshot stats = store_->Stats();
  EXPECT_GT(stats.l3.evictions, 0u);
  EXPECT_GT(stats.l3.tensors, 3000u);
  EXPECT_LE(stats.l3.bytes_used, stats.l3.bytes_max);
  Expect(Key(11999), 4096);
  Reopen();
  Expect(Key(11999), 4096);
}

TEST_F(StorePackTest, KeptTensorsFillTheStoreAndThenAPutIsRefusedByName) {
  options_.l3_bytes_max = 32 * kMiB;
  Open();
  const PutOptions kept = {.durability = Durability::kOnDevice, .retention = Retention::kKeep};
  absl::Status status;
  int count = 0;
  while (status.ok() && count < 5000) {
    status = Put(Key(count), 10000, 0, kept);
    count += status.ok() ? 1 : 0;
  }
  ExpectStatus(status, StatusCode::kResourceExhausted, Key(count));
  EXPECT_GT(count, 1000);
  for (int i = 0; i < count; i += 50) Expect(Key(i), 10000);
  ASSERT_TRUE(store_->Erase(Key(0)).ok());
  for (int i = 1; i < 20; ++i) ASSERT_TRUE(store_->Erase(Key(i)).ok());
  EXPECT_TRUE(Put("again", 10000, 0, kept).ok());
}

TEST_F(StorePackTest, ADamagedMemberIsOneTensorLost) {
  Open();
  PutBatch(0, 100, 4096);
  Close();
  // The first copy of member 50's bytes in the data files.
  const std::vector<std::byte> content = ContentOf(Key(50), 4096);
  const std::string_view wanted(reinterpret_cast<const char*>(content.data()), 64);
  bool flipped = false;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "data")) {
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), {});
    const size_t at = bytes.find(wanted);
    if (at == std::string::npos) continue;
    file.clear();
    file.seekp(static_cast<std::streamoff>(at + 1000));
    file.put(static_cast<char>(bytes[at + 1000] ^ 1));
    flipped = true;
  }
  ASSERT_TRUE(flipped);
  Open();
  ExpectStatus(GetStatus(Key(50)), StatusCode::kDataLoss, Key(50));
  for (int i = 0; i < 100; ++i) {
    if (i != 50) Expect(Key(i), 4096);
  }
}

TEST_F(StorePackTest, AFailedWriteFailsEveryMemberByName) {
  FaultyIo* io = nullptr;
  Open(WrappedIn(&io));
  io->SetPlan([](const IoOp& op, uint64_t) {
    FaultyIo::Fault fault;
    if (op.kind != IoOp::Kind::kWrite) return fault;
    fault.kind = FaultyIo::Kind::kFail;
    fault.status = absl::UnavailableError("EIO");
    return fault;
  });
  AlignedBuffer buffer(4096);
  const ConstPiece piece = {buffer.data(), 4096};
  std::vector<PutRequest> requests;
  std::vector<std::string> keys;
  for (int i = 0; i < 20; ++i) keys.push_back(Key(i));
  for (const std::string& key : keys) {
    requests.push_back({.key = key, .meta = TensorMeta::Bytes(4096), .pieces = {&piece, 1}});
  }
  const std::vector<absl::Status> statuses = store_->PutFrom(requests, {});
  for (int i = 0; i < 20; ++i) ExpectStatus(statuses[i], StatusCode::kUnavailable, Key(i));
  EXPECT_EQ(store_->Stats().l3.bytes_used, 0u);
  io->SetPlan(nullptr);
  PutBatch(0, 20, 4096);
  for (int i = 0; i < 20; ++i) Expect(Key(i), 4096);
}

TEST_F(StorePackTest, ManyThreadsShareThePacker) {
  options_.l3_bytes_max = 128 * kMiB;
  Open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 150; ++i) {
        const Durability durability = i % 3 == 0   ? Durability::kFlushed
                                      : i % 3 == 1 ? Durability::kOnDevice
                                                   : Durability::kInMemory;
        EXPECT_TRUE(Put(Key(t * 1000 + i), 5000, 0, {.durability = durability}).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Reopen();
  for (int t = 0; t < 4; ++t) {
    for (int i = 0; i < 150; ++i) Expect(Key(t * 1000 + i), 5000);
  }
}

}  // namespace
}  // namespace cairn
