// A store on two GPUs, each with an L1 of its own. Devices of the host stand in for them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/gpus_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST_F(GpusTest, ATensorIsHadOnEach) {
  OpenL1();
  ASSERT_TRUE(Put("k", 700 * kKiB).ok());
  const TensorHandle on_first = *GetOn(kFirst, "k");
  EXPECT_EQ(on_first.view().device, kFirst);
  EXPECT_THAT(GpusOf("k"), ElementsAre(kFirst));
  const TensorHandle on_second = *GetOn(kSecond, "k");
  EXPECT_EQ(on_second.view().device, kSecond);
  EXPECT_EQ(on_second.found_at(), Level::kL2Pinned) << "the copy on the first is of no use to it";
  EXPECT_THAT(GpusOf("k"), ElementsAre(kSecond, kFirst));
  EXPECT_NE(on_first.view().data, on_second.view().data);
  EXPECT_TRUE(Matches(on_first, "k", 700 * kKiB));
  EXPECT_TRUE(Matches(on_second, "k", 700 * kKiB));
  ExpectOn(kFirst, "k", 700 * kKiB, Level::kL1Gpu);
  ExpectOn(kSecond, "k", 700 * kKiB, Level::kL1Gpu);
  EXPECT_EQ(store_->Stats().lifts, 2u);
}

TEST_F(GpusTest, WhoNamesNoneGetsTheFirstOrTheConsumers) {
  OpenL1(1000);
  ASSERT_TRUE(Put("k", 5000).ok());
  EXPECT_EQ(GetInL1("k")->view().device, kFirst);
  const StreamRef stream = *devices_[kSecond]->CreateStream();
  absl::StatusOr<TensorHandle> handle =
      store_->Get("k", {.want = Level::kL1Gpu, .consumer = stream});
  ASSERT_TRUE(handle.ok()) << handle.status();
  EXPECT_EQ(handle->view().device, kSecond);
  EXPECT_TRUE(Matches(*handle, "k", 5000));
  EXPECT_TRUE(handle->ReleaseAfter(stream).ok());
  ASSERT_TRUE(store_->ForgetStream(stream).ok());
  ASSERT_TRUE(devices_[kSecond]->DestroyStream(stream).ok());
  // In L2 any of them may read it.
  TensorHandle in_l2 = *store_->Get("k", {});
  EXPECT_TRUE(in_l2.ReleaseAfter({.stream = nullptr, .device = kSecond}).ok());
}

TEST_F(GpusTest, OthersAreRefusedByName) {
  OpenL1();
  ASSERT_TRUE(Put("k", 5000).ok());
  ExpectStatus(GetOn(7, "k").status(), StatusCode::kInvalidArgument,
               "GPU 7 is none of the store's, 1, 0 (StoreOptions::gpus)");
  const StreamRef other = {.stream = nullptr, .device = 5};
  ExpectStatus(store_->Get("k", {.want = Level::kL1Gpu, .consumer = other}).status(),
               StatusCode::kInvalidArgument, "GPU 5 is none");
  const StreamRef of_first = {.stream = nullptr, .device = kFirst};
  const GetOptions crossed = {.want = Level::kL1Gpu, .gpu = kSecond, .consumer = of_first};
  ExpectStatus(store_->Get("k", crossed).status(), StatusCode::kInvalidArgument,
               "the stream is of GPU 1, not of 0");
  const auto queue = *CompletionQueue::Create(1);
  ExpectStatus(store_->GetAsync({"k"}, {.want = Level::kL1Gpu, .gpu = 7}, *queue, 0),
               StatusCode::kInvalidArgument, "GPU 7");
  EXPECT_EQ(queue->outstanding(), 0u);
  EXPECT_EQ(store_->Prefetch({"k"}, {.to = Level::kL1Gpu, .gpu = 7}), 0u);
  ExpectStatus(store_->WillNeed({"k"}, {.to = Level::kL1Gpu, .gpu = 7}).status(),
               StatusCode::kInvalidArgument, "GPU 7");
  TensorHandle handle = *GetOn(kSecond, "k");
  ExpectStatus(handle.ReleaseAfter(other), StatusCode::kInvalidArgument, "GPU 5");
  ExpectStatus(store_->ForgetStream(other), StatusCode::kInvalidArgument, "GPU 5");
  ExpectStatus(store_->CopyKvBlocks(other, {}, {}, {}), StatusCode::kInvalidArgument, "GPU 5");
  EXPECT_TRUE(Matches(handle, "k", 5000));
}

TEST_F(GpusTest, OneThatIsFullTakesNothingFromTheOther) {
  OpenL1();
  std::vector<TensorHandle> held;
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(Put("k" + std::to_string(i), kMiB).ok());
    ExpectOn(kSecond, "k" + std::to_string(i), kMiB, Level::kL2Pinned);
    held.push_back(*GetOn(kFirst, "k" + std::to_string(i)));
  }
  ASSERT_TRUE(Put("more", kMiB).ok());
  ExpectStatus(GetOn(kFirst, "more", absl::Milliseconds(20)).status(),
               StatusCode::kResourceExhausted, "on GPU 1");
  // What is pinned on the first leaves the second, by its own order.
  ExpectOn(kSecond, "k0", kMiB, Level::kL1Gpu);
  ExpectOn(kSecond, "more", kMiB, Level::kL2Pinned);
  EXPECT_THAT(GpusOf("k0"), ElementsAre(kSecond, kFirst));
  EXPECT_THAT(GpusOf("k1"), ElementsAre(kFirst));
  EXPECT_TRUE(Matches(held[1], "k1", kMiB));
  held.clear();
  ExpectOn(kFirst, "more", kMiB, Level::kL2Pinned);
  EXPECT_EQ(L1Of(kFirst).evictions, 1u);
  EXPECT_EQ(L1Of(kSecond).evictions, 1u);
}

TEST_F(GpusTest, FiguresAddUp) {
  OpenL1();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Put("k" + std::to_string(i), kMiB).ok());
  for (int i = 0; i < 3; ++i) ExpectOn(kFirst, "k" + std::to_string(i), kMiB, Level::kL2Pinned);
  ExpectOn(kSecond, "k1", kMiB, Level::kL2Pinned);
  ExpectOn(kSecond, "k1", kMiB, Level::kL1Gpu);
  const StatsSnapshot stats = store_->Stats();
  ASSERT_EQ(stats.gpus.size(), 2u);
  const GpuStats& first = stats.gpus[0];
  const GpuStats& second = stats.gpus[1];
  EXPECT_EQ(first.ordinal, kFirst);
  EXPECT_EQ(second.ordinal, kSecond);
  EXPECT_EQ(second.device, "host");
  EXPECT_EQ(first.l1.tensors, 3u);
  EXPECT_EQ(second.l1.tensors, 1u);
  EXPECT_EQ(first.l1.bytes_used, 3 * kMiB);
  EXPECT_EQ(second.l1.bytes_used, kMiB);
  EXPECT_EQ(first.l1.bytes_written, 3 * kMiB);
  EXPECT_EQ(second.l1.bytes_read, kMiB);
  EXPECT_EQ(first.l1.hits, 0u);
  EXPECT_EQ(second.l1.hits, 1u);
  EXPECT_EQ(stats.l1.tensors, 4u);
  EXPECT_EQ(stats.l1.bytes_max, 8 * kMiB);
  EXPECT_EQ(stats.l1.bytes_used, 4 * kMiB);
  EXPECT_EQ(stats.l1.bytes_written, 4 * kMiB);
  EXPECT_EQ(stats.l1.hits, 1u);
  EXPECT_EQ(stats.l1.classes[0].hits, 1u);
  EXPECT_EQ(stats.l1.bytes_free_longest, 3 * kMiB);
  EXPECT_EQ(stats.gets, 5u);
}

TEST_F(GpusTest, ReplaceAndEraseSpareReadersOnEach) {
  OpenL1();
  ASSERT_TRUE(Put("k", kMiB, 1).ok());
  TensorHandle old_on_first = *GetOn(kFirst, "k");
  TensorHandle old_on_second = *GetOn(kSecond, "k");
  ASSERT_TRUE(Put("k", kMiB, 2).ok());
  EXPECT_EQ(store_->Stats().l1.tensors, 0u);
  ExpectOn(kSecond, "k", kMiB, Level::kL2Pinned, 2);
  EXPECT_TRUE(Matches(old_on_first, "k", kMiB, 1));
  ASSERT_TRUE(store_->Erase("k").ok());
  EXPECT_TRUE(absl::IsNotFound(GetOn(kSecond, "k").status()));
  EXPECT_TRUE(Matches(old_on_first, "k", kMiB, 1));
  EXPECT_TRUE(Matches(old_on_second, "k", kMiB, 1));
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_EQ(L1Of(kFirst).bytes_used, kMiB);
  old_on_first.Release();
  // The last pin of the tensor takes all that is left of it.
  old_on_second.Release();
  EXPECT_EQ(store_->Stats().l1.bytes_used, 0u);
}

TEST_F(GpusTest, EvictDropsTheCopiesOfAllOrNone) {
  OpenL1();
  ASSERT_TRUE(Put("k", 5000).ok());
  ExpectOn(kSecond, "k", 5000, Level::kL2Pinned);
  TensorHandle held = *GetOn(kFirst, "k");
  ExpectStatus(store_->Evict("k", Level::kL2Pinned), StatusCode::kResourceExhausted,
               "k is pinned in L1 of GPU 1");
  EXPECT_THAT(GpusOf("k"), ElementsAre(kSecond, kFirst));
  held.Release();
  ASSERT_TRUE(store_->Evict("k", Level::kL2Pinned).ok());
  EXPECT_THAT(GpusOf("k"), IsEmpty());
  EXPECT_EQ(store_->Stats().l1.bytes_used, 0u);
  ExpectOn(kFirst, "k", 5000, Level::kL2Pinned);
  ExpectOn(kSecond, "k", 5000, Level::kL2Pinned);
  ASSERT_TRUE(store_->Evict("k", Level::kL3Nvme).ok());
  EXPECT_THAT(GpusOf("k"), IsEmpty());
  ExpectOn(kSecond, "k", 5000, Level::kL3Nvme);
}

TEST_F(GpusTest, PrefetchesGoToTheGpuThatIsNamed) {
  OpenL1(100);
  for (const char* key : {"now", "later", "first"}) {
    ASSERT_TRUE(Put(key, 300 * kKiB).ok());
    ASSERT_TRUE(store_->Evict(key, Level::kL3Nvme).ok());
  }
  EXPECT_EQ(store_->Prefetch({"now"}, {.to = Level::kL1Gpu, .gpu = kSecond}), 1u);
  ASSERT_TRUE(store_->WillNeed({"later"}, {.to = Level::kL1Gpu, .gpu = kSecond}).ok());
  ASSERT_TRUE(store_->WillNeed({"first"}, {.to = Level::kL1Gpu}).ok());
  for (const char* key : {"now", "later", "first"}) {
    while (!IsInL1(key)) SleepFor(std::chrono::milliseconds(1));
  }
  EXPECT_THAT(GpusOf("now"), ElementsAre(kSecond));
  EXPECT_THAT(GpusOf("later"), ElementsAre(kSecond));
  EXPECT_THAT(GpusOf("first"), ElementsAre(kFirst));
  // What is on one is to be had on the other all the same.
  EXPECT_EQ(store_->Prefetch({"now"}, {.to = Level::kL1Gpu, .gpu = kFirst}), 1u);
  EXPECT_EQ(store_->Prefetch({"later"}, {.to = Level::kL1Gpu, .gpu = kSecond}), 0u);
}

TEST_F(GpusTest, AsynchronousGetsEndOnEach) {
  OpenL1(200);
  std::vector<std::string> names;
  for (int i = 0; i < 12; ++i) {
    names.push_back("k" + std::to_string(i));
    ASSERT_TRUE(Put(names.back(), kMiB).ok());
  }
  const auto queue = *CompletionQueue::Create(64);
  const std::vector<TensorKey> keys(names.begin(), names.end());
  // Three times as much as either takes, the same for both.
  for (const int gpu : {kFirst, kSecond}) {
    const GetOptions options = {.want = Level::kL1Gpu, .gpu = gpu};
    ASSERT_TRUE(store_->GetAsync(keys, options, *queue, static_cast<uint64_t>(gpu) * 100).ok());
  }
  for (size_t ended = 0; ended < 2 * names.size(); ++ended) {
    Completion done;
    ASSERT_EQ(queue->Wait({&done, 1}, absl::Seconds(30)), 1u);
    ASSERT_TRUE(done.status.ok()) << done.status;
    EXPECT_EQ(done.handle.view().device, static_cast<int>(done.tag / 100));
    EXPECT_TRUE(Matches(done.handle, names[done.tag % 100], kMiB));
  }
}

TEST_F(GpusTest, MemoryAtTheCallersEndIsOfOneOfThem) {
  OpenL1(500);
  FaultyDevice& second = *devices_[kSecond];
  const StreamRef stream = *second.CreateStream();
  const absl::Span<std::byte> memory = *second.AllocateArena(kMiB);
  const std::vector<std::byte> bytes = ContentOf("k", 300 * kKiB);
  const CopyPiece up = {memory.data(), bytes.data(), bytes.size()};
  ASSERT_TRUE(second.Copy(stream, CopyDirection::kToDevice, {&up, 1}).ok());
  TensorView view = ViewOf(bytes);
  view.data = memory.data();
  view.kind = MemoryKind::kGpu;
  view.device = kSecond;
  ASSERT_TRUE(store_->Put("k", view, {.producer = stream}).ok());
  Expect("k", bytes.size());
  // Where the view does not say whose it is, the stream does.
  view.device = -1;
  ASSERT_TRUE(store_->Put("k", view, {.producer = stream}).ok());
  ExpectStatus(store_->Put("k", view, {}), StatusCode::kInvalidArgument, "device's memory");
  view.device = 7;
  ExpectStatus(store_->Put("k", view, {}), StatusCode::kInvalidArgument, "GPU 7");
  view.device = kFirst;
  ExpectStatus(store_->Put("k", view, {.producer = stream}), StatusCode::kInvalidArgument,
               "the stream is of GPU 0, not of 1");

  const ConstPiece source = {memory.data(), bytes.size()};
  const PutRequest put = {.key = "k",
                          .meta = view.meta,
                          .pieces = {&source, 1},
                          .kind = MemoryKind::kGpu,
                          .device = kSecond};
  ASSERT_TRUE(store_->PutFrom({put}, {})[0].ok());
  Expect("k", bytes.size());
  const Piece target = {memory.data() + 512 * kKiB, bytes.size()};
  GetRequest get = {.key = "k", .pieces = {&target, 1}, .kind = MemoryKind::kGpu};
  ExpectOn(kFirst, "k", bytes.size(), Level::kL2Pinned);
  // Out of its own L1 where it is there, else out of L2.
  for (const bool in_l1 : {false, true}) {
    if (in_l1) ExpectOn(kSecond, "k", bytes.size(), Level::kL2Pinned);
    ASSERT_TRUE(store_->GetInto({get}, {.gpu = kSecond})[0].ok());
    get.device = kSecond;
    ASSERT_TRUE(store_->GetInto({get}, {})[0].ok());
    EXPECT_EQ(second.copies_within, in_l1 ? 2 : 0);
    get.device = -1;
  }
  std::vector<std::byte> back(bytes.size());
  const CopyPiece down = {back.data(), target.data, target.size};
  ASSERT_TRUE(second.Copy(stream, CopyDirection::kToHost, {&down, 1}).ok());
  ASSERT_TRUE(second.Synchronize(stream).ok());
  EXPECT_TRUE(back == bytes);
}

// Page first in L2 and in the L1 of each, layer first in the second's memory.
TEST_F(GpusTest, BlocksAreTurnedOnTheSecond) {
  OpenL1(500);
  FaultyDevice& second = *devices_[kSecond];
  const StreamRef stream = *second.CreateStream();
  const KvShape shape = {.blocks = 4, .layers = 3, .piece_bytes = 4096};
  const uint64_t bytes = PageFirst(shape).block_bytes * shape.blocks;
  const std::vector<std::byte> pages = ContentOf("k", bytes);
  std::vector<std::byte> turned(bytes);
  ASSERT_TRUE(
      CopyKvBlocks(shape, turned.data(), LayerFirst(shape), pages.data(), PageFirst(shape)).ok());
  ASSERT_TRUE(Put("k", bytes).ok());
  std::byte* const area = second.AllocateArena(bytes)->data();
  const KvTarget to_area = {area, LayerFirst(shape)};
  for (const Level from : {Level::kL2Pinned, Level::kL1Gpu}) {
    TensorHandle handle = *store_->Get("k", {.want = from, .gpu = kSecond});
    const KvSource source = {handle.view().data, PageFirst(shape),
                             from == Level::kL1Gpu ? MemoryKind::kGpu : handle.view().kind};
    ASSERT_TRUE(store_->CopyKvBlocks(stream, shape, to_area, source).ok());
    ASSERT_TRUE(handle.ReleaseAfter(stream).ok());
    std::vector<std::byte> back(bytes);
    const CopyPiece down = {back.data(), area, bytes};
    ASSERT_TRUE(second.Copy(stream, CopyDirection::kToHost, {&down, 1}).ok());
    ASSERT_TRUE(second.Synchronize(stream).ok());
    EXPECT_TRUE(back == turned);
  }
  EXPECT_EQ(devices_[kFirst]->row_copies, 0);
  EXPECT_GT(second.row_copies, 0);
  const TensorHandle elsewhere = *GetOn(kFirst, "k");
  const KvSource source = {elsewhere.view().data, PageFirst(shape)};
  ExpectStatus(store_->CopyKvBlocks(stream, shape, to_area, source), StatusCode::kInvalidArgument,
               "not in the device's memory");
}

TEST_F(GpusTest, ManagedMemoryOfEach) {
  poses_as_gpu_ = true;
  options_.l1_memory = L1Memory::kManaged;
  OpenL1();
  ASSERT_TRUE(Put("k", 5000).ok());
  for (const int gpu : {kFirst, kSecond}) {
    EXPECT_EQ(devices_[gpu]->managed.size(), options_.l1_bytes_max);
    const TensorHandle handle = *GetOn(gpu, "k");
    EXPECT_EQ(handle.view().kind, MemoryKind::kManaged);
    EXPECT_EQ(handle.view().device, gpu);
    EXPECT_GE(devices_[gpu]->bytes_prefetched, 5000u);
    EXPECT_TRUE(Matches(handle, "k", 5000));
  }
}

TEST_F(GpusTest, ACopyThatFailsOnOneSparesTheOther) {
  OpenL1();
  ASSERT_TRUE(Put("k", 700 * kKiB).ok());
  ExpectOn(kFirst, "k", 700 * kKiB, Level::kL2Pinned);
  devices_[kSecond]->events_to_fail = 1;
  EXPECT_TRUE(absl::IsUnavailable(GetOn(kSecond, "k").status()));
  EXPECT_THAT(GpusOf("k"), ElementsAre(kFirst));
  EXPECT_EQ(L1Of(kSecond).bytes_used, 0u);
  ExpectOn(kFirst, "k", 700 * kKiB, Level::kL1Gpu);
  ExpectOn(kSecond, "k", 700 * kKiB, Level::kL2Pinned);
}

TEST_F(GpusTest, MovesAreOfOneL1) {
  constexpr int kCount = 16;
  const auto key = [](int i) { return "k" + std::to_string(i); };
  OpenL1();
  for (int i = 0; i < kCount; ++i) {
    ASSERT_TRUE(Put(key(i), 256 * kKiB).ok());
    ASSERT_TRUE(GetOn(kSecond, key(i)).ok());
  }
  // Every second one is gone from there: half is free, in pieces of one.
  for (int i = 0; i < kCount; i += 2) {
    ASSERT_TRUE(store_->Evict(key(i), Level::kL2Pinned).ok());
    ASSERT_TRUE(GetOn(kFirst, key(i)).ok());
  }
  for (int i = 0; i < kCount; ++i) {
    // Used in no order.
    const int chosen = i * 7 % kCount;
    if (chosen % 2 != 0) ExpectOn(kSecond, key(chosen), 256 * kKiB, Level::kL1Gpu);
  }
  ASSERT_TRUE(Put("large", kMiB).ok());
  ExpectOn(kSecond, "large", kMiB, Level::kL2Pinned);
  EXPECT_EQ(L1Of(kSecond).windows_emptied, 1u);
  EXPECT_GT(L1Of(kSecond).bytes_moved, 0u);
  EXPECT_EQ(L1Of(kFirst).bytes_moved, 0u);
  EXPECT_EQ(devices_[kFirst]->copies_within, 0);
  for (int i = 0; i < kCount; i += 2) ExpectOn(kFirst, key(i), 256 * kKiB, Level::kL1Gpu);
  for (int i = 1; i < kCount; i += 2) Expect(key(i), 256 * kKiB);
}

}  // namespace
}  // namespace cairn
