// What a store does with its room: eviction, retention, pins, leases, time to live, sizes.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "io/store_files.h"
#include "tests/disk_fixture.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;

// What came first leaves first, unless it was used: so that a test knows what must be gone.
class StoreSpaceTest : public StoreTest {
 protected:
  StoreSpaceTest() { options_.eviction = EvictionKind::kLru; }
};

TEST_F(StoreSpaceTest, TensorLargerThanADataFileIsRefused) {
  options_.l2_bytes_max = 32 * kMiB;
  options_.data_file_bytes = 16 * kMiB;
  Open();
  const std::vector<std::byte> large(17 * kMiB);
  ExpectStatus(store_->Put("k", ViewOf(large), {}), StatusCode::kInvalidArgument,
               "do not fit a data file");
}

TEST_F(StoreSpaceTest, ManyReplacementsLeakNoSpace) {
  Open();
  for (uint64_t version = 0; version < 300; ++version) {
    ASSERT_TRUE(Put("k", 700 * kKiB, version).ok());
  }
  ASSERT_TRUE(store_->Flush().ok());
  Expect("k", 700 * kKiB, 299);
  EXPECT_EQ(store_->Stats().l3.bytes_used, 704 * kKiB);
  EXPECT_EQ(store_->Stats().l3.tensors, 1u);
  Reopen();
  Expect("k", 700 * kKiB, 299);
  EXPECT_EQ(store_->Stats().l3.bytes_used, 704 * kKiB);
}

TEST_F(StoreSpaceTest, AnOverwrittenStoreWritesItsTensorsOnce) {
  options_.l3_bytes_max = 96 * kMiB;
  Open();
  uint64_t stored = 0;
  for (uint64_t version = 0; version < 10; ++version) {
    for (int i = 0; i < 64; ++i) {
      ASSERT_TRUE(
          Put("k" + std::to_string(i), kMiB, version, {.durability = Durability::kOnDevice}).ok());
      stored += kMiB;
    }
    EXPECT_LE(BytesOnDisk(directory_), options_.l3_bytes_max);
  }
  const double written = static_cast<double>(store_->Stats().device_bytes_written);
  EXPECT_LE(written / static_cast<double>(stored), 1.02);
  // The index keeps what it says of 640 puts within a hundredth of their bytes.
  EXPECT_LE(BytesOnDisk(directory_ / "index"), stored / 100);
}

TEST_F(StoreSpaceTest, EvictedTensorsComeBackAndL3KeepsItsBound) {
  Open();
  // Four times what L3 takes.
  for (int i = 0; i < 160; ++i) ASSERT_TRUE(Put("k" + std::to_string(i), kMiB).ok()) << i;
  ASSERT_TRUE(store_->Flush().ok());
  const StatsSnapshot stats = store_->Stats();
  EXPECT_GT(stats.l3.evictions, 100u);
  EXPECT_GT(stats.l2.evictions, 100u);
  EXPECT_LE(stats.l3.bytes_used, stats.l3.bytes_max);
  EXPECT_LE(stats.l2.bytes_used, stats.l2.bytes_max);
  Expect("k159", kMiB);
  Expect("k140", kMiB);
  EXPECT_GT(store_->Stats().l3.hits, 0u);
  ExpectStatus(GetStatus("k0"), StatusCode::kNotFound, "k0");
  uint64_t bytes_on_disk = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(directory_)) {
    if (file.is_regular_file()) bytes_on_disk += file.file_size();
  }
  EXPECT_LE(bytes_on_disk, options_.l3_bytes_max);
}

TEST_F(StoreSpaceTest, KeptTensorsAreNeverEvicted) {
  Open();
  const PutOptions keep = {.retention = Retention::kKeep, .timeout = absl::Seconds(10)};
  int kept = 0;
  absl::Status status;
  for (; kept < 100; ++kept) {
    status = Put("keep" + std::to_string(kept), kMiB, 0, keep);
    if (!status.ok()) break;
  }
  ExpectStatus(status, StatusCode::kResourceExhausted, "to be kept");
  EXPECT_GT(kept, 25);
  // A cache tensor finds no room either, and says so.
  ExpectStatus(Put("cache", kMiB, 0, {.timeout = absl::Milliseconds(50)}),
               StatusCode::kResourceExhausted, "cache");
  for (int i = 0; i < kept; ++i) Expect("keep" + std::to_string(i), kMiB);
  ASSERT_TRUE(store_->Erase("keep0").ok());
  EXPECT_TRUE(Put("cache", kMiB).ok());
  Reopen();
  for (int i = 1; i < kept; ++i) Expect("keep" + std::to_string(i), kMiB);
}

TEST_F(StoreSpaceTest, PinsHoldL2AndSayWhenItIsFull) {
  Open();
  std::vector<TensorHandle> handles;
  for (int i = 0; i < 8; ++i) {
    const std::string key = "k" + std::to_string(i);
    ASSERT_TRUE(Put(key, kMiB).ok());
    handles.push_back(*store_->Get(key, {}));
  }
  ExpectStatus(Put("more", kMiB, 0, {.timeout = absl::Milliseconds(50)}),
               StatusCode::kResourceExhausted, "L2 is full");
  EXPECT_EQ(store_->Stats().puts_refused, 1u);
  ExpectStatus(GetStatus("more"), StatusCode::kNotFound, "more");
  handles.pop_back();
  EXPECT_TRUE(Put("more", kMiB).ok());
  Expect("more", kMiB);
}

TEST_F(StoreSpaceTest, TtlEndsATensor) {
  std::atomic<int64_t> now = 1000000;
  StoreSeams seams;
  seams.now_unix_ms = [&now] { return now.load(); };
  Open(seams);
  ASSERT_TRUE(Put("short", 1000, 0, {.ttl = absl::Seconds(10)}).ok());
  ASSERT_TRUE(Put("long", 1000, 0, {.ttl = absl::Seconds(1000)}).ok());
  ASSERT_TRUE(Put("ever", 1000).ok());
  now += 9999;
  Expect("short", 1000);
  now += 1;
  ExpectStatus(GetStatus("short"), StatusCode::kNotFound, "short");
  ExpectStatus(store_->Describe("short").status(), StatusCode::kNotFound, "short");
  EXPECT_EQ(store_->CountLeading({"short"}, {})->count, 0u);
  EXPECT_EQ(store_->Scan("", "", 10)->entries.size(), 2u);
  Close();
  now += 1000000;
  Open(seams);
  ExpectStatus(GetStatus("long"), StatusCode::kNotFound, "long");
  Expect("ever", 1000);
  EXPECT_EQ(store_->Stats().recovery_dropped, 2u);
  Close();  // Before the clock.
}

TEST_F(StoreSpaceTest, CountLeadingLeasesAgainstEviction) {
  Open();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Put("k" + std::to_string(i), kMiB).ok());
  ASSERT_TRUE(store_->Flush().ok());
  {
    absl::StatusOr<LeadingHits> hits =
        store_->CountLeading({"k0", "k1", "k2", "missing", "k3"}, {});
    ASSERT_TRUE(hits.ok());
    EXPECT_EQ(hits->count, 3u);
    EXPECT_EQ(hits->count_l2 + hits->count_l3, 3u);
    EXPECT_EQ(hits->bytes, 3 * kMiB);
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(Put("fill" + std::to_string(i), kMiB).ok());
    for (int i = 0; i < 3; ++i) Expect("k" + std::to_string(i), kMiB);
    ExpectStatus(GetStatus("k3"), StatusCode::kNotFound, "k3");
  }
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Put("again" + std::to_string(i), kMiB).ok());
  ExpectStatus(GetStatus("k0"), StatusCode::kNotFound, "k0");
}

TEST_F(StoreSpaceTest, LeasesExpire) {
  Open();
  ASSERT_TRUE(Put("k", kMiB).ok());
  absl::StatusOr<LeadingHits> hits =
      store_->CountLeading({"k"}, {.duration = absl::Milliseconds(1)});
  ASSERT_EQ(hits->count, 1u);
  // The lease is still held by us; only its time is up. Puts wait for the expiry if they must.
  for (int round = 0; round < 100; ++round) {
    for (int i = 0; i < 40; ++i) {
      ASSERT_TRUE(Put("fill" + std::to_string(round) + "_" + std::to_string(i), kMiB).ok());
    }
    if (absl::IsNotFound(GetStatus("k"))) return;
  }
  FAIL() << "the lease never expired";
}

TEST_F(StoreSpaceTest, EvictDropsTheCopyInL2) {
  Open();
  ASSERT_TRUE(Put("k", kMiB).ok());
  {
    const absl::StatusOr<TensorHandle> handle = store_->Get("k", {});
    ASSERT_TRUE(handle.ok());
    ExpectStatus(store_->Evict("k", Level::kL3Nvme), StatusCode::kResourceExhausted, "pinned");
  }
  ASSERT_TRUE(store_->Evict("k", Level::kL3Nvme).ok());
  EXPECT_FALSE(store_->Describe("k")->in_l2);
  EXPECT_TRUE(store_->Describe("k")->in_l3);
  EXPECT_EQ(store_->Get("k", {})->found_at(), Level::kL3Nvme);
  EXPECT_EQ(store_->Get("k", {})->found_at(), Level::kL2Pinned);
  ExpectStatus(store_->Evict("none", Level::kL3Nvme), StatusCode::kNotFound, "none");
}

TEST_F(StoreSpaceTest, ReopenWithLessForgetsWhatNoLongerFits) {
  options_.data_file_bytes = 16 * kMiB;
  options_.l3_bytes_max = 96 * kMiB;
  Open();
  for (int i = 0; i < 60; ++i) ASSERT_TRUE(Put("k" + std::to_string(i), kMiB).ok());
  Close();
  options_.l3_bytes_max = 48 * kMiB;
  Open();
  uint64_t found = 0;
  for (int i = 0; i < 60; ++i) {
    if (store_->Describe("k" + std::to_string(i)).ok()) {
      ++found;
      Expect("k" + std::to_string(i), kMiB);
    }
  }
  EXPECT_GT(found, 20u);
  EXPECT_LT(found, 48u);
  ASSERT_TRUE(Put("keep", kMiB, 0, {.retention = Retention::kKeep}).ok());
  Close();
  options_.l3_bytes_max = 96 * kMiB;
  Open();
  EXPECT_GT(store_->Stats().l3.bytes_max, 64 * kMiB);
  Expect("keep", kMiB);
}

TEST_F(StoreSpaceTest, NewFilesAreWrittenOnceBeforehandWhenAsked) {
  options_.data_file_bytes = 16 * kMiB;
  const auto never_written = [this](uint64_t number) {
    const auto files = StoreFiles::OpenReadOnly(options_.path);
    EXPECT_TRUE(files.ok()) << files.status();
    return (*files)->HasNeverWritten(number * 16 * kMiB + kMiB, kMiB);
  };
  Open();
  Close();
  if (!never_written(0)) GTEST_SKIP() << "the file system does not tell";
  options_.l3_prewrite = true;
  options_.l3_bytes_max = 80 * kMiB;
  Open();
  ASSERT_TRUE(Put("k", kMiB).ok());
  Reopen();
  Expect("k", kMiB);
  // Those that were there stay as they are.
  EXPECT_TRUE(never_written(1));
  EXPECT_FALSE(never_written(3));
  EXPECT_LE(BytesOnDisk(options_.path), options_.l3_bytes_max);
}

std::string LongKey(int i) { return absl::StrCat(std::string(200, 'k'), i); }

TEST_F(StoreSpaceTest, ManySmallTensorsLetTheColdestGoBeforeTheIndexOutgrowsItsBytes) {
  options_.l3_bytes_max = 128 * kMiB;
  Open();
  constexpr int kCount = 20000;
  for (int i = 0; i < kCount; ++i) ASSERT_TRUE(Put(LongKey(i), 100).ok()) << i;
  ASSERT_TRUE(store_->Flush().ok());
  const StatsSnapshot stats = store_->Stats();
  EXPECT_GT(stats.l3.evictions, 5000u);
  // It was not the data that were too much.
  EXPECT_LT(stats.l3.bytes_used, 80 * kMiB);
  EXPECT_LE(BytesOnDisk(options_.path), options_.l3_bytes_max);
  for (int i = kCount - 5000; i < kCount; ++i) Expect(LongKey(i), 100);
  ExpectStatus(GetStatus(LongKey(0)), StatusCode::kNotFound, "kkk");
  Reopen();
  EXPECT_LE(BytesOnDisk(options_.path), options_.l3_bytes_max);
  for (int i = kCount - 5000; i < kCount; ++i) Expect(LongKey(i), 100);
}

TEST_F(StoreSpaceTest, TheIndexHasTheShareThatItIsGiven) {
  // Room for all of them, though each may come to lie in a pack of its own.
  options_.l3_bytes_max = 256 * kMiB;
  options_.l3_index_bytes_max = 32 * kMiB;
  Open();
  for (int i = 0; i < 20000; ++i) ASSERT_TRUE(Put(LongKey(i), 100).ok()) << i;
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_EQ(store_->Stats().l3.evictions, 0u);
  EXPECT_LE(store_->Stats().l3.bytes_max, 224 * kMiB);
  EXPECT_LE(BytesOnDisk(options_.path), options_.l3_bytes_max);
}

TEST_F(StoreSpaceTest, APutWaitsForAnIndexFullOfLeasedTensors) {
  options_.l3_bytes_max = 128 * kMiB;
  Open();
  std::vector<LeadingHits> leased;
  const auto put = [this](int i, absl::Duration timeout) {
    return Put(LongKey(i), 100, 0, {.timeout = timeout});
  };
  int count = 0;
  while (put(count, absl::Milliseconds(500)).ok()) {
    const std::string key = LongKey(count++);
    leased.push_back(*store_->CountLeading({key}, {.duration = absl::Minutes(5)}));
    ASSERT_EQ(leased.back().count, 1u);
    ASSERT_LT(count, 20000);
  }
  std::thread releases([&leased] {
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    leased.clear();
  });
  EXPECT_TRUE(put(count, absl::Seconds(60)).ok());
  releases.join();
  Expect(LongKey(count), 100);
}

TEST_F(StoreSpaceTest, AnIndexFullOfKeptTensorsSaysSo) {
  options_.l3_bytes_max = 128 * kMiB;
  Open();
  const PutOptions keep = {.retention = Retention::kKeep, .timeout = absl::Seconds(10)};
  absl::Status status;
  int count = 0;
  while (status.ok() && count < 20000) status = Put(LongKey(count++), 100, 0, keep);
  ExpectStatus(status, StatusCode::kResourceExhausted, "the index is full");
  EXPECT_LE(BytesOnDisk(options_.path), options_.l3_bytes_max);
  ASSERT_TRUE(store_->Erase(LongKey(0)).ok());
  EXPECT_TRUE(Put(LongKey(count), 100, 0, keep).ok());
}

}  // namespace
}  // namespace cairn
