// Many threads, one store. Every key has one writer and many readers; a reader checks that what it
// got is whole, and a version that the key had at some moment of the call.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "tests/stress_fixture.h"

namespace cairn {
namespace {

constexpr int kKeys = 48;

class StressTest : public StressFixture {
 protected:
  StressTest() : StressFixture(kKeys) {}

  void Write(int key, std::mt19937_64& random, AlignedBuffer& buffer) {
    const uint64_t version = keys_[key].started.load() + 1;
    keys_[key].started.store(version);
    FillContent(buffer.data(), key, version);
    const TensorMeta meta = TensorMeta::Bytes(SizeOf(key, version));
    const PutOptions options = {.durability = static_cast<Durability>(random() % 3)};
    absl::Status status;
    if (random() % 2 == 0) {
      status = store_->Put(
          NameOf(key), {.meta = meta, .data = buffer.data(), .size = meta.byte_count()}, options);
    } else {
      const ConstPiece piece = {buffer.data(), meta.byte_count()};
      status =
          store_->PutFrom({{.key = NameOf(key), .meta = meta, .pieces = {&piece, 1}}}, options)[0];
    }
    ASSERT_TRUE(status.ok()) << status;
    keys_[key].completed.store(version);
    if (random() % 64 == 0) {
      // Gone until the next write; readers then may miss.
      ASSERT_TRUE(store_->Erase(NameOf(key)).ok());
    }
  }

  void ReadOne(int key, std::mt19937_64& random) {
    const uint64_t oldest = keys_[key].completed.load();
    if (random() % 4 == 0) store_->Prefetch({NameOf(key)}, {});
    if (random() % 16 == 0) store_->Evict(NameOf(key), Level::kL3Nvme).IgnoreError();
    const absl::StatusOr<TensorHandle> handle = store_->Get(NameOf(key), {});
    if (handle.ok()) {
      ExpectContent(handle->view().data, handle->view().size, key, oldest);
      ++hits_;
    } else {
      EXPECT_TRUE(absl::IsNotFound(handle.status())) << handle.status();
    }
  }

  std::atomic<uint64_t> hits_ = 0;
};

TEST_F(StressTest, ReadersSeeWholeAndCurrentTensors) {
  options_.l2_bytes_max = 4 * kMiB;
  options_.l3_bytes_max = 32 * kMiB;
  Open();
  const char* seconds = std::getenv("CAIRN_TEST_STRESS_SECONDS");
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::seconds(seconds == nullptr ? 4 : std::atoi(seconds));
  const uint64_t seed = std::random_device{}();
  std::printf("seed %lu\n", static_cast<unsigned long>(seed));
  std::vector<std::thread> threads;
  constexpr int kWriters = 3;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([this, t, end, seed] {
      std::mt19937_64 random(seed + static_cast<uint64_t>(t));
      AlignedBuffer buffer(4096 * 41);
      while (std::chrono::steady_clock::now() < end && !HasFailure()) {
        const int key = static_cast<int>(random() % kKeys);
        if (t < kWriters) {
          Write(key / kWriters * kWriters + t, random, buffer);
        } else {
          ReadOne(key, random);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(hits_.load(), 0u);
  ASSERT_TRUE(store_->Flush().ok());
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.checksum_failures, 0u);
  EXPECT_EQ(stats.quarantined, 0u);
  EXPECT_EQ(stats.dirty_bytes, 0u);
  EXPECT_EQ(*store_->ErasePrefix(""), stats.l3.tensors);
  EXPECT_EQ(store_->Stats().l3.bytes_used, 0u);
  EXPECT_EQ(store_->Stats().l2.bytes_used, 0u);
}

// Many asynchronous calls from many threads into few queues, with an L2 that holds a fraction.
TEST_F(StressTest, AsynchronousCallsAllEnd) {
  options_.l2_bytes_max = 4 * kMiB;
  Open();
  for (int key = 0; key < kKeys; ++key) {
    std::mt19937_64 random(1);
    AlignedBuffer buffer(4096 * 41);
    keys_[key].started = 1;
    FillContent(buffer.data(), key, 2);
    keys_[key].started = 2;
    const TensorMeta meta = TensorMeta::Bytes(SizeOf(key, 2));
    ASSERT_TRUE(
        store_
            ->Put(NameOf(key), {.meta = meta, .data = buffer.data(), .size = meta.byte_count()}, {})
            .ok());
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      auto queue = CompletionQueue::Create(64);
      std::mt19937_64 random(static_cast<uint64_t>(t));
      for (int round = 0; round < 60; ++round) {
        std::vector<std::string> names;
        std::vector<int> numbers;
        for (int i = 0; i < 16; ++i) {
          numbers.push_back(static_cast<int>(random() % kKeys));
          names.push_back(NameOf(numbers.back()));
        }
        const std::vector<TensorKey> keys(names.begin(), names.end());
        ASSERT_TRUE(store_->GetAsync(keys, {}, **queue, 0).ok());
        for (size_t done = 0; done < keys.size(); ++done) {
          Completion completion;
          ASSERT_EQ((*queue)->Wait({&completion, 1}, absl::Seconds(60)), 1u);
          ASSERT_TRUE(completion.status.ok()) << completion.status;
          ExpectContent(completion.handle.view().data, completion.handle.view().size,
                        numbers[completion.tag], 2);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace cairn
