// Many threads on a store with two GPUs, for ThreadSanitizer above all: the copies of one tensor
// come, go, move and are read on both at once.

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/gpus_fixture.h"

namespace cairn {
namespace {

constexpr uint64_t kSize = 200 * kKiB;
constexpr uint64_t kKeys = 16;
constexpr int kThreads = 6;
constexpr int kSteps = 80;

class GpusStressTest : public GpusTest {
 protected:
  static std::string Name(uint64_t key) { return "k" + std::to_string(key); }

  void ReadOn(int gpu, const std::string& key, StreamRef stream, std::mt19937_64& random) {
    GetOptions options = {.want = Level::kL1Gpu, .gpu = gpu};
    if (random() % 2 == 0) options.consumer = stream;
    absl::StatusOr<TensorHandle> handle = store_->Get(key, options);
    ASSERT_TRUE(handle.ok() || absl::IsNotFound(handle.status())) << handle.status();
    if (!handle.ok()) return;
    EXPECT_EQ(handle->view().device, gpu);
    EXPECT_TRUE(Matches(*handle, key, kSize)) << key;
    ++reads_;
    if (random() % 2 == 0) {
      // Now and then after a stream of the other one.
      const StreamRef of_other = {.stream = nullptr, .device = gpu == kFirst ? kSecond : kFirst};
      EXPECT_TRUE(handle->ReleaseAfter(random() % 8 == 0 ? of_other : stream).ok());
    }
  }

  void Step(int gpu, StreamRef stream, std::mt19937_64& random) {
    const std::string key = Name(random() % kKeys);
    switch (random() % 10) {
      case 0:
        // The same content: readers can always tell right from wrong.
        EXPECT_TRUE(Put(key, kSize).ok());
        return;
      case 1:
        store_->Evict(key, random() % 2 == 0 ? Level::kL3Nvme : Level::kL2Pinned).IgnoreError();
        return;
      case 2:
        store_->Prefetch({key}, {.to = Level::kL1Gpu, .gpu = gpu});
        return;
      case 3:
        // Larger than what lies around it: others are moved or go.
        if (random() % 4 == 0) GetOn(gpu, "large", absl::Milliseconds(100)).IgnoreError();
        return;
      case 4:
        if (random() % 8 == 0) {
          EXPECT_TRUE(store_->Erase(key).ok());
          EXPECT_TRUE(Put(key, kSize).ok());
        }
        store_->Stats();
        return;
      default:
        return ReadOn(gpu, key, stream, random);
    }
  }

  std::atomic<uint64_t> reads_ = 0;
};

TEST_F(GpusStressTest, ThreadsTogether) {
  options_.l1_bytes_max = 2 * kMiB;
  OpenL1(200);
  ASSERT_TRUE(Put("large", 900 * kKiB).ok());
  for (uint64_t i = 0; i < kKeys; ++i) ASSERT_TRUE(Put(Name(i), kSize).ok());
  std::vector<std::jthread> threads(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads[t] = std::jthread([this, t] {
      const int gpu = t % 2 == 0 ? kFirst : kSecond;
      std::mt19937_64 random(static_cast<uint64_t>(t));
      const StreamRef stream = *devices_[gpu]->CreateStream();
      for (int i = 0; i < kSteps; ++i) Step(gpu, stream, random);
      EXPECT_TRUE(store_->ForgetStream(stream).ok());
      EXPECT_TRUE(devices_[gpu]->DestroyStream(stream).ok());
    });
  }
  for (std::jthread& thread : threads) thread.join();
  EXPECT_GT(reads_.load(), 0u);
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.gpus[0].l1.hits + stats.gpus[1].l1.hits, stats.l1.hits);
  EXPECT_GT(stats.gpus[0].l1.tensors, 0u);
  EXPECT_GT(stats.gpus[1].l1.tensors, 0u);
  for (uint64_t i = 0; i < kKeys; ++i) {
    for (const int gpu : {kFirst, kSecond}) {
      const absl::StatusOr<TensorHandle> handle = GetOn(gpu, Name(i));
      ASSERT_TRUE(handle.ok()) << handle.status();
      EXPECT_TRUE(Matches(*handle, Name(i), kSize));
    }
  }
  EXPECT_EQ(*store_->ErasePrefix(""), kKeys + 1);
  ASSERT_TRUE(store_->Flush().ok());
  // What pinned it last may be a thread of the store's.
  while (store_->Stats().l1.bytes_used > 0) SleepFor(std::chrono::milliseconds(1));
  EXPECT_EQ(store_->Stats().l1.tensors, 0u);
}

}  // namespace
}  // namespace cairn
