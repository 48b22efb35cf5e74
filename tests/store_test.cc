// The verbs of one store, through the public face.

#include <gtest/gtest.h>

#include <atomic>

#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;

TEST_F(StoreTest, PutThenGetFromL2) {
  Open();
  ASSERT_TRUE(Put("a", 100 * kKiB).ok());
  const absl::StatusOr<TensorHandle> handle = store_->Get("a", {});
  ASSERT_TRUE(handle.ok()) << handle.status();
  EXPECT_EQ(handle->found_at(), Level::kL2Pinned);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(handle->view().data) % 4096, 0u);
  Expect("a", 100 * kKiB);
  ExpectStatus(GetStatus("b"), StatusCode::kNotFound, "no tensor b");
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.puts, 1u);
  EXPECT_EQ(stats.gets, 3u);
  EXPECT_EQ(stats.misses, 1u);
  EXPECT_EQ(stats.l2.hits, 2u);
}

TEST_F(StoreTest, SizesAroundBlocksAndChunksComeBackFromL3) {
  Open();
  const std::vector<uint64_t> sizes = {1,
                                       7,
                                       4095,
                                       4096,
                                       4097,
                                       kMiB - 1,
                                       kMiB,
                                       kMiB + 1,
                                       2 * kMiB - 4096,
                                       2 * kMiB + 512,
                                       3 * kMiB + 17};
  for (const uint64_t size : sizes) {
    ASSERT_TRUE(Put("size" + std::to_string(size), size).ok()) << size;
  }
  Reopen();
  for (const uint64_t size : sizes) {
    const std::string key = "size" + std::to_string(size);
    const absl::StatusOr<TensorHandle> handle = store_->Get(key, {});
    ASSERT_TRUE(handle.ok()) << handle.status();
    EXPECT_EQ(handle->found_at(), Level::kL3Nvme);
    Expect(key, size);
  }
  EXPECT_EQ(store_->Stats().recovered_tensors, sizes.size());
}

TEST_F(StoreTest, MetaClassAndRetentionSurviveReopen) {
  Open();
  const TensorMeta meta = TensorMeta::Of(DType::kInt4, {3, 5, 7});
  std::vector<std::byte> bytes(meta.byte_count());
  ASSERT_EQ(bytes.size(), 53u);
  ASSERT_TRUE(store_
                  ->Put("t", {.meta = meta, .data = bytes.data(), .size = bytes.size()},
                        {.retention = Retention::kKeep, .tensor_class = TensorClass::kVision})
                  .ok());
  Reopen();
  const absl::StatusOr<TensorInfo> info = store_->Describe("t");
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->meta, meta);
  EXPECT_EQ(info->tensor_class, TensorClass::kVision);
  EXPECT_EQ(info->retention, Retention::kKeep);
  EXPECT_TRUE(info->in_l3);
  EXPECT_FALSE(info->in_l2);
  EXPECT_EQ(store_->Get("t", {})->view().meta, meta);
}

TEST_F(StoreTest, BadPutsAreRefusedByNameAndChangeNothing) {
  Open();
  ASSERT_TRUE(Put("k", 1000).ok());
  const std::vector<std::byte> bytes(1000);
  const auto put = [&](TensorKey key, const TensorView& view) {
    return store_->Put(key, view, {});
  };
  ExpectStatus(put("", ViewOf(bytes)), StatusCode::kInvalidArgument, "key is empty");
  ExpectStatus(put(std::string(256, 'x'), ViewOf(bytes)), StatusCode::kInvalidArgument,
               "256 bytes, at most 255");
  EXPECT_TRUE(put(std::string(255, 'x'), ViewOf(bytes)).ok());
  TensorView view = ViewOf(bytes);
  view.size = 999;
  ExpectStatus(put("k", view), StatusCode::kInvalidArgument, "999 bytes and uint8[1000]");
  view = ViewOf(bytes);
  view.data = nullptr;
  ExpectStatus(put("k", view), StatusCode::kInvalidArgument, "empty");
  view = ViewOf(bytes);
  view.meta = TensorMeta::Of(DType::kUint8, {0});
  ExpectStatus(put("k", view), StatusCode::kInvalidArgument, "dimension");
  view = ViewOf(bytes);
  view.kind = MemoryKind::kGpu;
  ExpectStatus(put("k", view), StatusCode::kInvalidArgument, "l1_bytes_max is 0");
  const std::vector<std::byte> large(9 * kMiB);
  ExpectStatus(put("k", ViewOf(large)), StatusCode::kInvalidArgument, "more than L2's 8388608");
  ExpectStatus(store_->Put("k", ViewOf(bytes), {.ttl = absl::ZeroDuration()}),
               StatusCode::kInvalidArgument, "time to live");
  Expect("k", 1000);
}

TEST_F(StoreTest, OptionsAreValidatedByName) {
  const auto open = [&](auto change) {
    StoreOptions options = options_;
    change(options);
    return Store::Open(options).status();
  };
  ExpectStatus(open([](StoreOptions& o) { o.path = ""; }), StatusCode::kInvalidArgument, "path");
  ExpectStatus(open([](StoreOptions& o) { o.l2_bytes_max = 0; }), StatusCode::kInvalidArgument,
               "l2_bytes_max is 0");
  ExpectStatus(open([](StoreOptions& o) { o.l3_bytes_max = 0; }), StatusCode::kInvalidArgument,
               "l3_bytes_max is 0");
  ExpectStatus(open([](StoreOptions& o) { o.l3_index_bytes_max = 1; }),
               StatusCode::kInvalidArgument, "l3_index_bytes_max is 1");
  ExpectStatus(open([](StoreOptions& o) { o.l1_bytes_max = 1; }), StatusCode::kInvalidArgument,
               "l1_bytes_max is 1");
  ExpectStatus(open([](StoreOptions& o) { o.gpus = {}; }), StatusCode::kInvalidArgument, "gpus");
  ExpectStatus(open([](StoreOptions& o) {
                 o.gpus = {0, -1};
               }),
               StatusCode::kInvalidArgument, "gpus has -1");
  ExpectStatus(open([](StoreOptions& o) {
                 o.gpus = {3, 2, 3};
               }),
               StatusCode::kInvalidArgument, "gpus has 3 twice");
  ExpectStatus(open([](StoreOptions& o) { o.gpus.resize(17); }), StatusCode::kInvalidArgument,
               "gpus names 17");
  ExpectStatus(open([](StoreOptions& o) { o.stripe_count = 3; }), StatusCode::kInvalidArgument,
               "stripe_count");
  ExpectStatus(open([](StoreOptions& o) { o.l3_bytes_max = uint64_t{1} << 60; }),
               StatusCode::kResourceExhausted, "free");
  EXPECT_FALSE(std::filesystem::exists(directory_));
}

TEST_F(StoreTest, ReplaceGivesNewBytesAndSparesReadersOfTheOld) {
  Open();
  ASSERT_TRUE(Put("k", 300 * kKiB, 1).ok());
  const absl::StatusOr<TensorHandle> old = store_->Get("k", {});
  ASSERT_TRUE(old.ok());
  ASSERT_TRUE(Put("k", 200 * kKiB, 2).ok());
  Expect("k", 200 * kKiB, 2);
  const std::vector<std::byte> expected = ContentOf("k", 300 * kKiB, 1);
  EXPECT_EQ(std::memcmp(old->view().data, expected.data(), expected.size()), 0);
  ASSERT_TRUE(store_->Flush().ok());
  Expect("k", 200 * kKiB, 2);
}

TEST_F(StoreTest, KeepExistingDoesNotWrite) {
  Open();
  ASSERT_TRUE(Put("k", 1000, 1).ok());
  for (const Durability durability :
       {Durability::kInMemory, Durability::kOnDevice, Durability::kFlushed}) {
    ASSERT_TRUE(Put("k", 2000, 2, {.durability = durability, .if_exists = IfExists::kKeep}).ok());
  }
  Expect("k", 1000, 1);
  EXPECT_EQ(store_->Stats().puts_kept_existing, 3u);
  EXPECT_EQ(store_->Stats().spills, 1u);
}

TEST_F(StoreTest, HandlesOutliveTheStore) {
  Open();
  ASSERT_TRUE(Put("k", kMiB).ok());
  absl::StatusOr<TensorHandle> handle = store_->Get("k", {});
  ASSERT_TRUE(handle.ok());
  Close();
  const std::vector<std::byte> expected = ContentOf("k", kMiB);
  EXPECT_EQ(std::memcmp(handle->view().data, expected.data(), kMiB), 0);
}

TEST_F(StoreTest, CallsAfterCloseSayClosed) {
  Open();
  ASSERT_TRUE(store_->Close().ok());
  EXPECT_TRUE(store_->Close().ok());
  ExpectStatus(Put("k", 10), StatusCode::kFailedPrecondition, "closed");
  ExpectStatus(GetStatus("k"), StatusCode::kFailedPrecondition, "closed");
  ExpectStatus(store_->Flush(), StatusCode::kFailedPrecondition, "closed");
  EXPECT_EQ(store_->Prefetch({"k"}, {}), 0u);
  EXPECT_EQ(store_->Stats().puts, 0u);
}

TEST_F(StoreTest, EraseRemovesForGood) {
  Open();
  ASSERT_TRUE(Put("k", 5000, 0, {.durability = Durability::kOnDevice}).ok());
  ASSERT_TRUE(Put("other", 5000).ok());
  const absl::StatusOr<TensorHandle> handle = store_->Get("k", {});
  ASSERT_TRUE(handle.ok());
  EXPECT_TRUE(store_->Erase("k").ok());
  EXPECT_TRUE(store_->Erase("k").ok());
  ExpectStatus(GetStatus("k"), StatusCode::kNotFound, "k");
  EXPECT_EQ(handle->view().size, 5000u);
  const_cast<TensorHandle&>(*handle).Release();
  Reopen();
  ExpectStatus(GetStatus("k"), StatusCode::kNotFound, "k");
  Expect("other", 5000);
}

TEST_F(StoreTest, ErasePrefixAndScanInOrder) {
  Open();
  for (int i = 0; i < 25; ++i) {
    char key[32];
    std::snprintf(key, sizeof(key), "tenant%c/%02d", i % 2 == 0 ? 'A' : 'B', i);
    ASSERT_TRUE(Put(key, 1000).ok());
  }
  std::vector<std::string> keys;
  std::string after;
  while (true) {
    const absl::StatusOr<ScanPage> page = store_->Scan("tenantA/", after, 4);
    ASSERT_TRUE(page.ok());
    for (const ScanEntry& entry : page->entries) keys.push_back(entry.key);
    if (!page->more) break;
    after = page->entries.back().key;
  }
  EXPECT_EQ(keys.size(), 13u);
  EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
  EXPECT_EQ(*store_->ErasePrefix("tenantA/"), 13u);
  EXPECT_TRUE(store_->Scan("tenantA/", "", 10)->entries.empty());
  EXPECT_EQ(store_->Scan("", "", 100)->entries.size(), 12u);
  ExpectStatus(store_->Scan("", "", 0).status(), StatusCode::kInvalidArgument, "0 tensors");
}

TEST_F(StoreTest, WriteThroughIsOnL3WhenAcknowledged) {
  options_.write_policy = WritePolicy::kWriteThrough;
  Open();
  ASSERT_TRUE(Put("k", kMiB).ok());
  EXPECT_TRUE(store_->Describe("k")->in_l3);
  ASSERT_TRUE(Put("f", kMiB, 0, {.durability = Durability::kFlushed}).ok());
  EXPECT_GE(store_->Stats().device_flushes, 1u);
}

TEST_F(StoreTest, FingerprintsAreApart) {
  options_.fingerprint = "model-1 bf16";
  Open();
  ASSERT_TRUE(Put("k", 1000, 1).ok());
  Close();
  options_.fingerprint = "model-2 bf16";
  const absl::Status refused = Store::Open(options_).status();
  ExpectStatus(refused, StatusCode::kFailedPrecondition, "model-1 bf16");
  ExpectStatus(refused, StatusCode::kFailedPrecondition, "model-2 bf16");
  options_.other_fingerprint = OtherFingerprint::kShare;
  Open();
  ExpectStatus(GetStatus("k"), StatusCode::kNotFound, "k");
  ASSERT_TRUE(Put("k", 2000, 2).ok());
  Close();
  options_.fingerprint = "model-1 bf16";
  Open();
  Expect("k", 1000, 1);
  EXPECT_EQ(store_->Scan("", "", 10)->entries.size(), 1u);
  EXPECT_EQ(*store_->PurgeFingerprint("model-2 bf16"), 1u);
  EXPECT_EQ(*store_->PurgeFingerprint("unknown"), 0u);
  Expect("k", 1000, 1);
  Close();
  options_.other_fingerprint = OtherFingerprint::kRefuse;
  Open();
  Close();
  options_.fingerprint = "model-3";
  options_.other_fingerprint = OtherFingerprint::kPurge;
  Open();
  EXPECT_EQ(store_->Stats().l3.tensors, 0u);
  EXPECT_EQ(store_->Stats().l3.bytes_used, 0u);
}

TEST_F(StoreTest, WithoutL1ItIsRefusedByName) {
  Open();
  ASSERT_TRUE(Put("k", 1000).ok());
  ExpectStatus(store_->Get("k", {.want = Level::kL1Gpu}).status(), StatusCode::kInvalidArgument,
               "l1_bytes_max is 0");
  EXPECT_EQ(store_->Prefetch({"k"}, {.to = Level::kL1Gpu}), 0u);
}

TEST_F(StoreTest, StatsAsJson) {
  Open();
  ASSERT_TRUE(Put("k", 1000).ok());
  const std::string json = store_->Stats().ToJson();
  EXPECT_NE(json.find("\"puts\": 1"), std::string::npos) << json;
  EXPECT_NE(json.find("\"io_engine\": \""), std::string::npos);
}

}  // namespace
}  // namespace cairn
