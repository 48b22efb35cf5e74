// The write budget of L3 as a host of the store sees it, with a clock of the test's.

#include <atomic>
#include <fstream>
#include <random>
#include <set>

#include "gtest/gtest.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

constexpr uint64_t kDayMs = 24 * 60 * 60 * 1000;
constexpr uint64_t kSize = 256 * kKiB;
constexpr uint64_t kOnDisk = kSize + 4 * kKiB;  // With its record's header.

class StoreAdmissionTest : public StoreTest {
 protected:
  // A millisecond of the test's clock gains a KiB.
  StoreAdmissionTest() { options_.l3_write_bytes_per_day = kDayMs * kKiB; }

  void OpenWithClock() {
    StoreSeams seams;
    seams.now_unix_ms = [this] { return now_ms_.load(); };
    Open(std::move(seams));
  }
  void ReopenWithClock() {
    Close();
    OpenWithClock();
  }
  static std::string Key(uint64_t number) { return "key " + std::to_string(number); }
  // A minute passes, and all that it grants is written: nothing is in hand then, and a twentieth of
  // it may be borrowed.
  void UseUpAMinute() {
    now_ms_ += 60'000;
    while (Budget().bytes_in_hand > 0) {
      ASSERT_TRUE(Put("promised", kSize, 0, {.durability = Durability::kOnDevice}).ok());
    }
  }
  // So many tensors that L2 has nothing left of what was put before.
  void PushOutOfL2() {
    const uint64_t count = 4 * options_.l2_bytes_max / kSize;
    for (uint64_t i = 0; i < count; ++i) {
      ASSERT_TRUE(Put("filler " + std::to_string(fillers_++), kSize).ok());
    }
  }
  bool InL3(std::string_view key) const {
    const absl::StatusOr<TensorInfo> info = store_->Describe(key);
    return info.ok() && info->in_l3;
  }
  // A use is looked at by a thread of the store.
  bool ComesToL3(std::string_view key) const {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!InL3(key) && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return InL3(key);
  }
  WriteBudgetStats Budget() const { return store_->Stats().write_budget; }

  std::atomic<int64_t> now_ms_{1'700'000'000'000};
  uint64_t fillers_ = 0;
};

TEST_F(StoreAdmissionTest, WhatIsRefusedIsInL2AndThenAMiss) {
  OpenWithClock();
  UseUpAMinute();
  const uint64_t written_before = Budget().bytes_written;
  ASSERT_TRUE(Put("a", kSize).ok());
  EXPECT_FALSE(InL3("a"));
  Expect("a", kSize);
  // Its use was a second sight.
  ASSERT_TRUE(ComesToL3("a"));
  ASSERT_TRUE(Put("b", kSize).ok());
  EXPECT_FALSE(InL3("b"));
  PushOutOfL2();
  Expect("a", kSize);
  EXPECT_EQ(GetStatus("b").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Budget().admitted_second_sight, 1);
  EXPECT_EQ(Budget().bytes_written, written_before + kOnDisk);
  EXPECT_EQ(Budget().refused_first_sight, 2 + fillers_);
  EXPECT_EQ(store_->Stats().l3.tensors, 2);
  EXPECT_EQ(store_->Stats().puts_refused, 0);
}

TEST_F(StoreAdmissionTest, WhatComesAgainIsWritten) {
  OpenWithClock();
  UseUpAMinute();
  ASSERT_TRUE(Put("a", kSize).ok());
  PushOutOfL2();
  ASSERT_EQ(GetStatus("a").code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(Put("a", kSize, 1).ok());
  PushOutOfL2();
  Expect("a", kSize, 1);
}

TEST_F(StoreAdmissionTest, NewTensorsAreWrittenAsFastAsTheBudgetSays) {
  OpenWithClock();
  const int64_t begin_ms = now_ms_;
  for (uint64_t i = 0; i < 2000; ++i) {
    now_ms_ += 26;
    ASSERT_TRUE(Put(Key(i), kSize).ok());
  }
  const auto granted = static_cast<double>((now_ms_ - begin_ms) * kKiB);
  const WriteBudgetStats budget = Budget();
  EXPECT_NEAR(static_cast<double>(budget.bytes_granted), granted, 1);
  EXPECT_NEAR(static_cast<double>(budget.bytes_written), granted, 0.1 * granted);
  EXPECT_EQ(budget.bytes_written, budget.admitted_first_sight * kOnDisk);
  EXPECT_EQ(budget.admitted_first_sight + budget.refused_first_sight, 2000);
  EXPECT_EQ(budget.bytes_per_day, kDayMs * kKiB);
  EXPECT_NEAR(static_cast<double>(budget.bytes_granted) - static_cast<double>(budget.bytes_written),
              static_cast<double>(budget.bytes_in_hand), 2);
  EXPECT_GT(budget.drive_life_days, 0);
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_GE(store_->Stats().device_bytes_written, budget.bytes_written);
}

TEST_F(StoreAdmissionTest, PromisesAreKeptThoughNothingIsInHand) {
  OpenWithClock();
  ASSERT_TRUE(Put("device", kSize, 0, {.durability = Durability::kOnDevice}).ok());
  ASSERT_TRUE(Put("flushed", kSize, 0, {.durability = Durability::kFlushed}).ok());
  ASSERT_TRUE(Put("kept", kSize, 0, {.retention = Retention::kKeep}).ok());
  ASSERT_TRUE(Put("small", kKiB, 0, {.durability = Durability::kOnDevice}).ok());
  EXPECT_EQ(Budget().admitted_promised, 4);
  EXPECT_EQ(Budget().bytes_in_hand, -static_cast<int64_t>(3 * kOnDisk + 4 * kKiB));
  ASSERT_TRUE(Put("refused", kSize).ok());
  EXPECT_FALSE(InL3("refused"));
  ReopenWithClock();
  for (const char* key : {"device", "flushed", "kept"}) Expect(key, kSize);
  Expect("small", kKiB);
  EXPECT_EQ(GetStatus("refused").code(), absl::StatusCode::kNotFound);
}

TEST_F(StoreAdmissionTest, WhatWasRefusedIsWrittenForWhoAsks) {
  OpenWithClock();
  for (const char* key : {"evicted", "kept", "flushed"}) {
    ASSERT_TRUE(Put(key, kSize).ok());
    EXPECT_FALSE(InL3(key));
  }
  ASSERT_TRUE(Put("small", kKiB).ok());
  ASSERT_TRUE(store_->Evict("evicted", Level::kL3Nvme).ok());
  EXPECT_TRUE(InL3("evicted"));
  EXPECT_EQ(Budget().admitted_promised, 1);
  ASSERT_TRUE(
      Put("kept", kSize, 0, {.durability = Durability::kFlushed, .if_exists = IfExists::kKeep})
          .ok());
  EXPECT_TRUE(InL3("kept"));
  EXPECT_FALSE(InL3("flushed"));
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_TRUE(InL3("flushed"));
  EXPECT_TRUE(InL3("small"));
  ReopenWithClock();
  for (const char* key : {"evicted", "kept", "flushed"}) Expect(key, kSize);
  Expect("small", kKiB);
}

TEST_F(StoreAdmissionTest, PartialBlocksStayInL2) {
  OpenWithClock();
  now_ms_ += 60'000;
  const PutOptions partial = {.partial_block = true};
  ASSERT_TRUE(Put("tail", kSize, 0, partial).ok());
  ASSERT_TRUE(Put("tail", kSize, 0, partial).ok());
  ASSERT_TRUE(Put("full", kSize).ok());
  Expect("tail", kSize);
  EXPECT_EQ(Budget().refused_partial, 2);
  EXPECT_EQ(Budget().admitted_first_sight, 1);
  PutOptions durable = partial;
  durable.durability = Durability::kOnDevice;
  ASSERT_TRUE(Put("tail", kSize, 0, durable).ok());
  EXPECT_TRUE(InL3("tail"));
}

TEST_F(StoreAdmissionTest, AChainIsWrittenAsAWhole) {
  OpenWithClock();
  std::vector<std::string> names;
  std::vector<TensorKey> chain;
  for (uint64_t i = 0; i < 8; ++i) names.push_back(Key(i));
  for (const std::string& name : names) chain.emplace_back(name);
  UseUpAMinute();
  now_ms_ += kOnDisk / kKiB + 1;
  ASSERT_TRUE(store_->CountLeading(chain, {}).ok());
  for (const std::string& name : names) ASSERT_TRUE(Put(name, kSize).ok());
  EXPECT_EQ(Budget().admitted_first_sight, 8);
  ASSERT_TRUE(Put("another", kSize).ok());
  EXPECT_EQ(Budget().refused_first_sight, 1);
}

TEST_F(StoreAdmissionTest, ARestartGrantsNothing) {
  OpenWithClock();
  ASSERT_TRUE(Put("kept", kSize, 0, {.retention = Retention::kKeep}).ok());
  const int64_t owed = Budget().bytes_in_hand;
  EXPECT_EQ(owed, -static_cast<int64_t>(kOnDisk));
  for (int i = 0; i < 5; ++i) {
    ReopenWithClock();
    EXPECT_EQ(Budget().bytes_in_hand, owed);
  }
  // Time passes while it is closed, too, up to a burst.
  Close();
  now_ms_ += 1000;
  OpenWithClock();
  EXPECT_EQ(Budget().bytes_in_hand, owed + static_cast<int64_t>(1000 * kKiB));
  Close();
  now_ms_ += static_cast<int64_t>(10 * kDayMs);
  OpenWithClock();
  EXPECT_EQ(Budget().bytes_in_hand, static_cast<int64_t>(options_.l3_write_bytes_per_day / 10));
  // Whose file is lost, or not to be read, begins with nothing.
  for (const char* text : {"", "fish", "-", "12345678901234567890123 5"}) {
    Close();
    std::ofstream(directory_ / Admission::kFileName) << text;
    OpenWithClock();
    EXPECT_EQ(Budget().bytes_in_hand, 0) << text;
  }
}

TEST_F(StoreAdmissionTest, TheDefaultIsOneDriveWriteADayAndLetsAStoreFill) {
  options_.l3_write_bytes_per_day = 0;
  OpenWithClock();
  EXPECT_GT(Budget().bytes_per_day, 0);
  EXPECT_GE(Budget().bytes_in_hand, static_cast<int64_t>(options_.l3_bytes_max));
  EXPECT_GE(Budget().bytes_in_hand, static_cast<int64_t>(Budget().bytes_per_day / 10));
  for (uint64_t i = 0; i < 20; ++i) ASSERT_TRUE(Put(Key(i), kSize).ok());
  EXPECT_EQ(Budget().admitted_first_sight, 20);
}

TEST_F(StoreAdmissionTest, WithoutABudgetNothingIsRefusedOrCounted) {
  options_.l3_write_bytes_per_day = StoreOptions::kL3WritesUnlimited;
  OpenWithClock();
  ASSERT_TRUE(Put("tail", kSize, 0, {.partial_block = true}).ok());
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_TRUE(InL3("tail"));
  EXPECT_EQ(Budget().bytes_per_day, 0);
  EXPECT_EQ(Budget().bytes_written, 0);
  EXPECT_FALSE(std::filesystem::exists(directory_ / Admission::kFileName));
}

// Random verbs under a budget that refuses most: a Get finds the last value put or nothing, what
// was promised is found, and nothing stays behind that is counted nowhere.
TEST_F(StoreAdmissionTest, AgreesWithAModel) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    options_.path = (directory_ / ("model" + std::to_string(seed))).string();
    std::filesystem::create_directories(directory_);
    OpenWithClock();
    std::map<std::string, uint64_t> versions;
    std::set<std::string> promised;
    constexpr uint64_t kKeys = 60;
    for (uint64_t step = 0; step < 600; ++step) {
      const std::string key = Key(random() % kKeys);
      // Some of them small, which packs would take.
      const uint64_t size = std::hash<std::string>{}(key) % 3 == 0 ? 8 * kKiB : kSize;
      now_ms_ += static_cast<int64_t>(random() % 60);
      switch (random() % 8) {
        case 0:
        case 1:
        case 2: {
          PutOptions options;
          if (random() % 10 == 0) options.durability = Durability::kOnDevice;
          if (random() % 10 == 0) options.partial_block = true;
          ASSERT_TRUE(Put(key, size, step, options).ok());
          versions[key] = step;
          promised.erase(key);
          if (options.durability == Durability::kOnDevice) promised.insert(key);
          break;
        }
        case 3:
          ASSERT_TRUE(store_->Erase(key).ok());
          versions.erase(key);
          promised.erase(key);
          break;
        case 4:
          if (random() % 20 == 0) {
            ASSERT_TRUE(store_->Flush().ok());
            EXPECT_EQ(store_->Stats().dirty_bytes, 0);
          }
          break;
        default: {
          const absl::StatusOr<TensorHandle> handle = store_->Get(key, {});
          if (!handle.ok()) {
            ASSERT_EQ(handle.status().code(), absl::StatusCode::kNotFound) << handle.status();
            ASSERT_FALSE(promised.contains(key)) << key;
            break;
          }
          ASSERT_TRUE(versions.contains(key)) << key;
          const std::vector<std::byte> expected = ContentOf(key, size, versions[key]);
          ASSERT_EQ(std::memcmp(handle->view().data, expected.data(), size), 0) << key;
        }
      }
    }
    const WriteBudgetStats budget = Budget();
    EXPECT_GT(budget.refused_first_sight, 0);
    EXPECT_GT(budget.admitted_second_sight, 0);
    ASSERT_TRUE(store_->Flush().ok());
    ASSERT_TRUE(store_->ErasePrefix("").ok());
    EXPECT_EQ(store_->Stats().l2.bytes_used, 0);
    Close();
  }
}

}  // namespace
}  // namespace cairn
