// L1 in the order of GPU streams, GPU memory at the caller's end, and devices that fail.

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "tests/l1_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;

class L1StreamTest : public L1Test {
 protected:
  void OpenWithStream(uint64_t delay_us_max) {
    OpenL1(delay_us_max);
    stream_ = *device_->CreateStream();
  }
  // The host's own GPU memory.
  absl::Span<std::byte> GpuMemory(uint64_t bytes) { return *device_->AllocateArena(bytes); }
  absl::Status Copy(CopyDirection direction, std::byte* target, const std::byte* source,
                    uint64_t bytes) {
    const CopyPiece piece = {target, source, bytes};
    return device_->Copy(stream_, direction, {&piece, 1});
  }

  StreamRef stream_;
};

// The model's stream reads the bytes after the handle was given up; other tensors want the room.
TEST_F(L1StreamTest, APinGoesWhenTheStreamGetsThere) {
  options_.l1_bytes_max = kMiB;
  OpenWithStream(3000);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(Put("k" + std::to_string(i), kMiB).ok());
  std::vector<std::vector<std::byte>> read(8, std::vector<std::byte>(kMiB));
  for (int i = 0; i < 8; ++i) {
    TensorHandle handle = *GetInL1("k" + std::to_string(i));
    ASSERT_TRUE(
        Copy(CopyDirection::kToHost, read[i].data(), handle.view().data, handle.view().size).ok());
    ASSERT_TRUE(handle.ReleaseAfter(stream_).ok());
    EXPECT_FALSE(handle.valid());
  }
  ASSERT_TRUE(device_->Synchronize(stream_).ok());
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(read[i] == ContentOf("k" + std::to_string(i), kMiB)) << i;
  }
  EXPECT_EQ(store_->Stats().l1.evictions, 7u);
}

TEST_F(L1StreamTest, AStreamOfAnotherDeviceKeepsTheHandle) {
  OpenWithStream(0);
  ASSERT_TRUE(Put("k", 5000).ok());
  TensorHandle handle = *GetInL1("k");
  ExpectStatus(handle.ReleaseAfter({.stream = nullptr, .device = 1}), StatusCode::kInvalidArgument,
               "GPU 1");
  EXPECT_TRUE(handle.valid());
  EXPECT_TRUE(Matches(handle, "k", 5000));
  // One in L2 has its streams too: the caller's own copy from there to the GPU.
  TensorHandle in_l2 = *store_->Get("k", {});
  EXPECT_TRUE(in_l2.ReleaseAfter(stream_).ok());
  EXPECT_TRUE(TensorHandle().ReleaseAfter(stream_).ok());
}

// Nobody sleeps: the consumer's stream waits for the copy.
TEST_F(L1StreamTest, AGetOrdersTheConsumersStream) {
  OpenWithStream(3000);
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(Put("k" + std::to_string(i), 512 * kKiB).ok());
  std::vector<std::vector<std::byte>> read(12, std::vector<std::byte>(512 * kKiB));
  for (int i = 0; i < 12; ++i) {
    absl::StatusOr<TensorHandle> handle =
        store_->Get("k" + std::to_string(i), {.want = Level::kL1Gpu, .consumer = stream_});
    ASSERT_TRUE(handle.ok()) << handle.status();
    ASSERT_TRUE(
        Copy(CopyDirection::kToHost, read[i].data(), handle->view().data, handle->view().size)
            .ok());
    ASSERT_TRUE(handle->ReleaseAfter(stream_).ok());
  }
  ASSERT_TRUE(device_->Synchronize(stream_).ok());
  for (int i = 0; i < 12; ++i) {
    EXPECT_TRUE(read[i] == ContentOf("k" + std::to_string(i), 512 * kKiB)) << i;
  }
}

TEST_F(L1StreamTest, WhoeverHasNoStreamWaitsForTheSameCopy) {
  OpenWithStream(3000);
  ASSERT_TRUE(Put("k", kMiB).ok());
  const TensorHandle in_flight = *store_->Get("k", {.want = Level::kL1Gpu, .consumer = stream_});
  const TensorHandle there = *GetInL1("k");
  EXPECT_EQ(there.view().data, in_flight.view().data);
  EXPECT_TRUE(Matches(there, "k", kMiB));
  EXPECT_TRUE(Matches(in_flight, "k", kMiB));
  EXPECT_EQ(store_->Stats().lifts, 1u);
}

TEST_F(L1StreamTest, APutOfGpuMemoryWaitsForItsProducer) {
  OpenWithStream(2000);
  const absl::Span<std::byte> memory = GpuMemory(kMiB);
  for (int i = 0; i < 6; ++i) {
    const std::string key = "k" + std::to_string(i);
    const std::vector<std::byte> bytes = ContentOf(key, kMiB - i);
    ASSERT_TRUE(Copy(CopyDirection::kToDevice, memory.data(), bytes.data(), bytes.size()).ok());
    const TensorView view = {.meta = TensorMeta::Bytes(bytes.size()),
                             .data = memory.data(),
                             .size = bytes.size(),
                             .kind = MemoryKind::kGpu,
                             .device = 0};
    const absl::Status put = store_->Put(key, view, {.producer = stream_});
    ASSERT_TRUE(put.ok()) << put;
    // The stream reads `bytes` no more once the put is acknowledged.
    Expect(key, kMiB - i);
  }
  Close();
  OpenL1();
  for (int i = 0; i < 6; ++i) Expect("k" + std::to_string(i), kMiB - i);
}

TEST_F(L1StreamTest, PiecesInGpuMemoryGoThroughL2) {
  OpenWithStream(500);
  const absl::Span<std::byte> memory = GpuMemory(2 * kMiB);
  const std::vector<std::byte> bytes = ContentOf("k", 300 * kKiB);
  ASSERT_TRUE(Copy(CopyDirection::kToDevice, memory.data(), bytes.data(), bytes.size()).ok());
  std::vector<ConstPiece> sources;
  std::vector<Piece> targets;
  for (uint64_t i = 0; i < 10; ++i) {
    sources.push_back({memory.data() + i * 30 * kKiB, 30 * kKiB});
    targets.push_back({memory.data() + kMiB + i * 64 * kKiB, 30 * kKiB});
  }
  const PutRequest put = {.key = "k",
                          .meta = TensorMeta::Bytes(bytes.size()),
                          .pieces = sources,
                          .kind = MemoryKind::kGpu};
  ASSERT_TRUE(store_->PutFrom({put}, {.producer = stream_})[0].ok());
  Expect("k", bytes.size());
  const auto queue = *CompletionQueue::Create(1);
  for (const bool evicted : {false, true}) {
    if (evicted) {
      ASSERT_TRUE(store_->Evict("k", Level::kL3Nvme).ok());
    }
    const GetRequest get = {.key = "k", .pieces = targets, .kind = MemoryKind::kGpu};
    if (evicted) {
      ASSERT_TRUE(store_->GetInto({get}, {}, *queue).ok());
      Completion done;
      ASSERT_EQ(queue->Wait({&done, 1}, absl::Seconds(30)), 1u);
      ASSERT_TRUE(done.status.ok()) << done.status;
    } else {
      ASSERT_TRUE(store_->GetInto({get}, {})[0].ok());
    }
    std::vector<std::byte> back(bytes.size());
    for (uint64_t i = 0; i < 10; ++i) {
      ASSERT_TRUE(Copy(CopyDirection::kToHost, back.data() + i * 30 * kKiB, targets[i].data,
                       targets[i].size)
                      .ok());
    }
    ASSERT_TRUE(device_->Synchronize(stream_).ok());
    EXPECT_TRUE(back == bytes);
  }
}

TEST_F(L1StreamTest, MemoryThatIsNotTheDevicesIsRefusedAndChangesNothing) {
  if (TestsGpu()) GTEST_SKIP() << "a GPU reads the host's memory too";
  OpenWithStream(0);
  ASSERT_TRUE(Put("k", 5000).ok());
  const std::vector<std::byte> foreign(5000);
  TensorView view = ViewOf(foreign);
  view.kind = MemoryKind::kGpu;
  ExpectStatus(store_->Put("k", view, {}), StatusCode::kInvalidArgument, "device's memory");
  const StreamRef other = {.stream = &view, .device = 0};
  ExpectStatus(store_->Put("k", view, {.producer = other}), StatusCode::kInvalidArgument, "stream");
  ExpectStatus(store_->Get("k", {.want = Level::kL1Gpu, .consumer = other}).status(),
               StatusCode::kInvalidArgument, "stream");
  Expect("k", 5000);
  ASSERT_TRUE(store_->Flush().ok());
  ASSERT_TRUE(store_->Erase("k").ok());
  // What pinned it last may be a thread of the store's.
  const auto used = [this] {
    const auto stats = store_->Stats();
    return stats.l2.bytes_used + stats.l3.bytes_used;
  };
  for (int i = 0; i < 10000 && used() > 0; ++i) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(used(), 0u);
}

// What a model's layout mostly is: one distance from layer to layer. That is one copy of rows; what
// is scattered is one list.
TEST_F(L1StreamTest, SlicesOfALayoutGoInOneCopy) {
  OpenWithStream(0);
  const absl::Span<std::byte> memory = GpuMemory(2 * kMiB);
  const std::vector<std::byte> bytes = ContentOf("k", 8 * 20000);
  ASSERT_TRUE(Put("k", bytes.size()).ok());
  for (const bool in_l1 : {false, true}) {
    if (in_l1) ExpectInL1("k", bytes.size(), Level::kL2Pinned);
    for (const bool scattered : {false, true}) {
      std::vector<Piece> targets;
      for (uint64_t i = 0; i < 8; ++i) {
        const uint64_t place = scattered ? i * 5 % 8 : i;
        targets.push_back({memory.data() + place * 100000, 20000});
      }
      device_->copies = device_->copies_within = device_->row_copies = 0;
      const GetRequest get = {.key = "k", .pieces = targets, .kind = MemoryKind::kGpu};
      const absl::Status got = store_->GetInto({get}, {})[0];
      ASSERT_TRUE(got.ok()) << got;
      EXPECT_EQ(device_->row_copies, scattered ? 0 : 1);
      EXPECT_EQ(device_->copies, scattered && !in_l1 ? 1 : 0);
      EXPECT_EQ(device_->copies_within, scattered && in_l1 ? 1 : 0);
      std::vector<std::byte> back(bytes.size());
      for (uint64_t i = 0; i < 8; ++i) {
        ASSERT_TRUE(
            Copy(CopyDirection::kToHost, back.data() + i * 20000, targets[i].data, 20000).ok());
      }
      ASSERT_TRUE(device_->Synchronize(stream_).ok());
      EXPECT_TRUE(back == bytes);
    }
  }
}

// Blocks are stored page first, and the model's area is layer first: each goes straight from where
// the store has it, in L2 or L1, and back.
TEST_F(L1StreamTest, BlocksAreTurnedOnTheirWay) {
  OpenWithStream(1000);
  const KvShape all = {.blocks = 6, .layers = 5, .piece_bytes = 4096};
  const KvShape one = {.blocks = 1, .layers = 5, .piece_bytes = 4096};
  const uint64_t block_bytes = PageFirst(all).block_bytes;
  std::vector<std::byte> pages;
  for (int i = 0; i < 6; ++i) {
    const std::vector<std::byte> block = ContentOf("k" + std::to_string(i), block_bytes);
    pages.insert(pages.end(), block.begin(), block.end());
    ASSERT_TRUE(Put("k" + std::to_string(i), block_bytes).ok());
  }
  std::byte* const area = GpuMemory(pages.size()).data();
  for (int i = 0; i < 6; ++i) {
    const bool in_l1 = i % 2 == 1;
    TensorHandle handle =
        *store_->Get("k" + std::to_string(i), {.want = in_l1 ? Level::kL1Gpu : Level::kL2Pinned});
    const KvSource page = {handle.view().data, PageFirst(one),
                           in_l1 ? MemoryKind::kGpu : handle.view().kind};
    const KvTarget place = {area + i * 4096, LayerFirst(all)};
    const absl::Status copied = store_->CopyKvBlocks(stream_, one, place, page);
    ASSERT_TRUE(copied.ok()) << copied;
    ASSERT_TRUE(handle.ReleaseAfter(stream_).ok());
  }
  std::vector<std::byte> layers(pages.size());
  std::vector<std::byte> back(pages.size());
  ASSERT_TRUE(Copy(CopyDirection::kToHost, layers.data(), area, layers.size()).ok());
  const KvTarget host = {back.data(), PageFirst(all), MemoryKind::kHost};
  ASSERT_TRUE(store_->CopyKvBlocks(stream_, all, host, {area, LayerFirst(all)}).ok());
  ASSERT_TRUE(device_->Synchronize(stream_).ok());
  std::vector<std::byte> expected(pages.size());
  ASSERT_TRUE(
      CopyKvBlocks(all, expected.data(), LayerFirst(all), pages.data(), PageFirst(all)).ok());
  EXPECT_TRUE(layers == expected);
  EXPECT_TRUE(back == pages);
}

// ---- Faults ----

TEST_F(L1StreamTest, ACopyThatIsRefusedIsSaidAndTriedAnew) {
  OpenWithStream(0);
  ASSERT_TRUE(Put("k", 700 * kKiB).ok());
  device_->copies_to_refuse = 1;
  ExpectStatus(GetInL1("k").status(), StatusCode::kUnavailable, "k could not be copied to L1");
  EXPECT_EQ(store_->Stats().l1.bytes_used, 0u);
  ExpectInL1("k", 700 * kKiB, Level::kL2Pinned);
  ASSERT_TRUE(store_->Evict("k", Level::kL2Pinned).ok());
  device_->copies_to_refuse = 1;
  const GetOptions with_stream = {.want = Level::kL1Gpu, .consumer = stream_};
  ExpectStatus(store_->Get("k", with_stream).status(), StatusCode::kUnavailable, "k");
  EXPECT_TRUE(store_->Get("k", with_stream).ok());
  EXPECT_EQ(store_->Stats().lift_failures, 2u);
  Expect("k", 700 * kKiB);
}

TEST_F(L1StreamTest, ACopyThatFailsLaterIsNoHit) {
  OpenWithStream(500);
  ASSERT_TRUE(Put("k", 700 * kKiB).ok());
  device_->events_to_fail = 1;
  EXPECT_TRUE(absl::IsUnavailable(GetInL1("k").status()));
  EXPECT_FALSE(IsInL1("k"));
  EXPECT_EQ(store_->Stats().l1.bytes_used, 0u);
  ExpectInL1("k", 700 * kKiB, Level::kL2Pinned);
  EXPECT_EQ(store_->Stats().l1.hits, 0u);
}

// Who has the handle already hears it from its stream. Nobody else is given such bytes.
TEST_F(L1StreamTest, ACopyThatFailsUnderAHandleIsGivenToNobodyElse) {
  OpenWithStream(500);
  ASSERT_TRUE(Put("k", 700 * kKiB).ok());
  device_->events_to_fail = 1;
  absl::StatusOr<TensorHandle> handle =
      store_->Get("k", {.want = Level::kL1Gpu, .consumer = stream_});
  ASSERT_TRUE(handle.ok()) << handle.status();
  while (store_->Stats().lift_failures == 0) SleepFor(std::chrono::milliseconds(1));
  ExpectStatus(GetInL1("k").status(), StatusCode::kUnavailable, "earlier copy");
  EXPECT_EQ(store_->Stats().l1.bytes_used, 704 * kKiB) << "as the allocator rounds 700";
  handle->Release();
  EXPECT_EQ(store_->Stats().l1.bytes_used, 0u);
  ExpectInL1("k", 700 * kKiB, Level::kL2Pinned);
}

TEST_F(L1StreamTest, APutWhoseCopyFailsChangesNothing) {
  OpenWithStream(0);
  ASSERT_TRUE(Put("k", 700 * kKiB, 1).ok());
  const uint64_t l2_bytes_used = store_->Stats().l2.bytes_used;
  const absl::Span<std::byte> memory = GpuMemory(kMiB);
  const TensorView view = {.meta = TensorMeta::Bytes(kMiB),
                           .data = memory.data(),
                           .size = kMiB,
                           .kind = MemoryKind::kGpu,
                           .device = 0};
  device_->copies_to_refuse = 1;
  ExpectStatus(store_->Put("k", view, {}), StatusCode::kUnavailable, "refused");
  Expect("k", 700 * kKiB, 1);
  EXPECT_EQ(store_->Stats().puts_refused, 1u);
  EXPECT_EQ(store_->Stats().l2.bytes_used, l2_bytes_used);
}

// Readers with and without streams, writers and evictions, all at once.
TEST_F(L1StreamTest, ThreadsTogether) {
  options_.l1_bytes_max = 2 * kMiB;
  OpenL1(200);
  constexpr uint64_t kSize = 200 * kKiB;
  constexpr int kKeys = 16;
  const auto name = [](uint64_t key) { return "k" + std::to_string(key); };
  for (int i = 0; i < kKeys; ++i) ASSERT_TRUE(Put(name(i), kSize).ok());
  std::vector<std::jthread> threads(4);
  std::atomic<uint64_t> read = 0;
  for (size_t t = 0; t < threads.size(); ++t) {
    threads[t] = std::jthread([&, t] {
      std::mt19937_64 random(t);
      const StreamRef stream = *device_->CreateStream();
      for (int i = 0; i < 60; ++i) {
        const std::string key = name(random() % kKeys);
        switch (random() % 6) {
          case 0:
            // The same content: readers can always tell right from wrong.
            EXPECT_TRUE(Put(key, kSize).ok());
            break;
          case 1:
            store_->Evict(key, Level::kL3Nvme).IgnoreError();
            break;
          case 2:
            store_->Prefetch({key}, {.to = Level::kL1Gpu});
            break;
          default: {
            GetOptions options = {.want = Level::kL1Gpu};
            if (random() % 2 == 0) options.consumer = stream;
            absl::StatusOr<TensorHandle> handle = store_->Get(key, options);
            if (!handle.ok()) {
              ADD_FAILURE() << handle.status();
              break;
            }
            EXPECT_TRUE(Matches(*handle, key, kSize)) << key;
            ++read;
            if (random() % 2 == 0) {
              EXPECT_TRUE(handle->ReleaseAfter(stream).ok());
            }
          }
        }
      }
      EXPECT_TRUE(store_->ForgetStream(stream).ok());
      EXPECT_TRUE(device_->DestroyStream(stream).ok());
    });
  }
  for (std::jthread& thread : threads) thread.join();
  EXPECT_GT(read.load(), 0u);
  EXPECT_GT(store_->Stats().l1.evictions, 0u);
}

}  // namespace
}  // namespace cairn
