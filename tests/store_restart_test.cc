// What a store that is opened again knows of which tensors were used: it lets go what it would have
// let go had it never been closed, or killed.

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/disk_fixture.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

constexpr uint64_t kTensorBytes = 512 * kKiB;
constexpr int kTensors = 60;
constexpr int kHotFrom = 0;  // Written first: by age they would be the first to go.
constexpr int kHotEnd = 20;

std::string KeyOf(int number) { return "k" + std::to_string(number); }

const char* NameOf(EvictionKind kind) {
  switch (kind) {
    case EvictionKind::kTuned:
      return "Tuned";
    case EvictionKind::kLru:
      return "Lru";
    case EvictionKind::kClock:
      return "Clock";
    case EvictionKind::kArc:
      return "Arc";
    case EvictionKind::kS3Fifo:
      return "S3Fifo";
  }
  return "";
}

class StoreRestartTest : public StoreTest, public ::testing::WithParamInterface<EvictionKind> {
 protected:
  StoreRestartTest() {
    options_.eviction = GetParam();
    options_.l3_write_bytes_per_day = StoreOptions::kL3WritesUnlimited;
    file_ = directory_ / EvictionFile::kName;
  }

  void Fill() {
    for (int i = 0; i < kTensors; ++i) ASSERT_TRUE(Put(KeyOf(i), kTensorBytes).ok());
    ASSERT_TRUE(store_->Flush().ok());
  }
  void UseTheHot() {
    for (int round = 0; round < 2; ++round) {
      for (int i = kHotFrom; i < kHotEnd; ++i) Expect(KeyOf(i), kTensorBytes);
    }
  }
  // Until something must go, and then as much as is cold.
  void PushOut() {
    for (int i = 0; i < 30; ++i) {
      ASSERT_TRUE(Put("new" + std::to_string(i), kTensorBytes).ok());
      ASSERT_TRUE(store_->Flush().ok());
    }
    EXPECT_GT(store_->Stats().l3.evictions, 0);
  }
  std::set<int> Left() {
    std::set<int> left;
    for (int i = 0; i < kTensors; ++i) {
      if (store_->Describe(KeyOf(i)).ok()) left.insert(i);
    }
    return left;
  }
  void ExpectTheHotAreLeft() {
    const std::set<int> left = Left();
    for (int i = kHotFrom; i < kHotEnd; ++i) EXPECT_TRUE(left.contains(i)) << i;
    EXPECT_LT(left.size(), static_cast<size_t>(kTensors));
  }
  bool Logged(const std::string& text) {
    const MutexLock lock(log_mutex_);
    for (const std::string& line : log_) {
      if (line.find(text) != std::string::npos) return true;
    }
    return false;
  }
  // The other store's file, or bytes that are none.
  void ReplaceFile(const std::string& bytes) {
    std::ofstream(file_, std::ios::binary | std::ios::trunc) << bytes;
  }
  std::string FileBytes() const {
    std::ifstream file(file_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  std::filesystem::path file_;
};

INSTANTIATE_TEST_SUITE_P(AllPolicies, StoreRestartTest,
                         testing::Values(EvictionKind::kTuned, EvictionKind::kLru,
                                         EvictionKind::kClock, EvictionKind::kArc,
                                         EvictionKind::kS3Fifo),
                         [](const auto& tested) { return std::string(NameOf(tested.param)); });

TEST_P(StoreRestartTest, WhatWasUsedBeforeCloseStays) {
  Open();
  Fill();
  UseTheHot();
  Reopen();
  EXPECT_FALSE(Logged("by age"));
  PushOut();
  ExpectTheHotAreLeft();
  EXPECT_LE(BytesOnDisk(directory_), options_.l3_bytes_max);
}

TEST_P(StoreRestartTest, WhatIsKnownLastsOverManyRestarts) {
  Open();
  Fill();
  UseTheHot();
  for (int i = 0; i < 5; ++i) Reopen();
  PushOut();
  ExpectTheHotAreLeft();
}

// What a store that is killed knew is what its thread had written last.
TEST_P(StoreRestartTest, WhatWasUsedBeforeAKillStays) {
  EXPECT_EXIT(
      {
        StoreSeams seams;
        seams.eviction_save_every = std::chrono::milliseconds(20);
        Open(std::move(seams));
        Fill();
        UseTheHot();
        // One that has begun may have passed them; one that begins now has not.
        for (int saves = 0; saves < 2; ++saves) {
          std::filesystem::remove(file_);
          Expect(KeyOf(0), kTensorBytes);
          while (!std::filesystem::exists(file_)) {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
          }
        }
        raise(SIGKILL);
      },
      ::testing::KilledBySignal(SIGKILL), "");
  Open();
  EXPECT_EQ(store_->Stats().recovered_tensors, static_cast<uint64_t>(kTensors));
  EXPECT_FALSE(Logged("by age"));
  PushOut();
  ExpectTheHotAreLeft();
}

// A file that does not know of what came later, and names what is gone.
TEST_P(StoreRestartTest, AnOldFileIsTakenAsFarAsItIsTrue) {
  Open();
  Fill();
  UseTheHot();
  Reopen();
  const std::string old = FileBytes();
  for (int i = kHotEnd; i < kHotEnd + 10; ++i) ASSERT_TRUE(store_->Erase(KeyOf(i)).ok());
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(Put("later" + std::to_string(i), kTensorBytes).ok());
  ASSERT_TRUE(Put(KeyOf(0), kTensorBytes, 1).ok());
  Close();
  ReplaceFile(old);
  Open();
  Expect(KeyOf(0), kTensorBytes, 1);
  for (int i = 0; i < 10; ++i) Expect("later" + std::to_string(i), kTensorBytes);
  ExpectStatus(GetStatus(KeyOf(kHotEnd)), absl::StatusCode::kNotFound, KeyOf(kHotEnd));
  PushOut();
  ExpectTheHotAreLeft();
}

TEST_P(StoreRestartTest, AFileThatCannotBeBelievedIsSaidAndPassedOver) {
  Open();
  Fill();
  UseTheHot();
  Close();
  const std::string whole = FileBytes();
  std::string flipped = whole;
  flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 4);
  std::string foreign = whole;
  foreign[20] = static_cast<char>(foreign[20] ^ 1);
  std::string newer = whole;
  newer[8] = 3;
  for (const std::string& bytes : {flipped, foreign, newer, whole.substr(0, whole.size() / 2),
                                   std::string(), std::string("x")}) {
    ReplaceFile(bytes);
    log_.clear();
    Open();
    EXPECT_TRUE(Logged("by age")) << bytes.size();
    EXPECT_EQ(store_->Stats().recovered_tensors, static_cast<uint64_t>(kTensors));
    Expect(KeyOf(7), kTensorBytes);
    Close();
    EXPECT_NE(FileBytes(), bytes);
  }
  std::filesystem::remove(file_);
  std::filesystem::create_directory(file_);
  Open();
  EXPECT_TRUE(Logged("by age"));
  PushOut();
  Close();
  EXPECT_TRUE(Logged("not kept over restarts"));
  EXPECT_FALSE(std::filesystem::exists(file_.string() + ".new"));
}

TEST_P(StoreRestartTest, AnotherPolicyBeginsAnew) {
  Open();
  Fill();
  Close();
  options_.eviction = GetParam() == EvictionKind::kLru ? EvictionKind::kTuned : EvictionKind::kLru;
  Open();
  EXPECT_TRUE(Logged("by age"));
  PushOut();
  EXPECT_FALSE(Left().contains(0));
}

TEST_P(StoreRestartTest, AStoreThatNobodyUsedWritesNothing) {
  Open();
  Fill();
  Reopen();
  std::filesystem::remove(file_);
  Close();
  EXPECT_FALSE(std::filesystem::exists(file_));
}

}  // namespace
}  // namespace cairn
