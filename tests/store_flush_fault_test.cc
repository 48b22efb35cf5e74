// A flush of a data file that fails: the file is given up until the next Open, for a later flush
// that works proves nothing of what the failed one was about.

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <set>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;

constexpr PutOptions kFlushed = {.durability = Durability::kFlushed};
constexpr PutOptions kOnDevice = {.durability = Durability::kOnDevice};
constexpr int kNone = -1;
constexpr int kAll = -2;

// Three data files, of 16, 16 and 8 MiB.
class StoreFlushFaultTest : public StoreTest {
 protected:
  StoreFlushFaultTest() { options_.data_file_bytes = 16 * kMiB; }
  // Closing flushes, which asks this fixture.
  ~StoreFlushFaultTest() override { store_.reset(); }

  static int FileOf(int fd) {
    const std::string path =
        std::filesystem::read_symlink(absl::StrCat("/proc/self/fd/", fd)).stem().string();
    return std::stoi(path);
  }
  void OpenFailing() {
    StoreSeams seams;
    seams.flush_file = [this](int fd) {
      last_flushed_ = FileOf(fd);
      ++flushes_;
      return bad_ == kAll || bad_ == last_flushed_ ? EIO : 0;
    };
    Open(seams);
  }
  // Puts it and says which file it is in.
  int PutFlushed(std::string_view key, uint64_t size) {
    EXPECT_TRUE(Put(key, size, 0, kFlushed).ok());
    return last_flushed_;
  }
  void ExpectFromL3(const std::string& key, uint64_t size) {
    ASSERT_TRUE(store_->Evict(key, Level::kL3Nvme).ok()) << key;
    Expect(key, size);
  }
  // Every file fails a flush.
  void GiveAllUp() {
    bad_ = kAll;
    for (int i = 0; store_->Stats().data_files_given_up < 3; ++i) {
      ASSERT_LT(i, 3);
      ExpectStatus(Put("lost", 100 * kKiB, 0, kFlushed), StatusCode::kUnavailable, "data file");
    }
    bad_ = kNone;
  }

  std::atomic<int> bad_ = kNone;
  std::atomic<int> last_flushed_ = kNone;
  std::atomic<int> flushes_ = 0;
};

TEST_F(StoreFlushFaultTest, TheFileIsGivenUpAndAnotherOneTaken) {
  OpenFailing();
  const uint64_t bytes_max = store_->Stats().l3.bytes_max;
  const int file = PutFlushed("before", 100 * kKiB);
  const std::string name = absl::StrCat("data file ", file, " is given up");
  bad_ = file;
  ExpectStatus(Put("failed", 100 * kKiB, 0, kFlushed), StatusCode::kUnavailable, name);
  bad_ = kNone;
  EXPECT_EQ(store_->Stats().data_files_given_up, 1u);
  EXPECT_NE(store_->Stats().degraded.find(name), std::string::npos) << store_->Stats().degraded;
  EXPECT_LT(store_->Stats().l3.bytes_max, bytes_max);
  for (const uint64_t size : {100 * kKiB, 5000 * uint64_t{1}}) {
    EXPECT_NE(PutFlushed(absl::StrCat("next", size), size), file);
  }
  // The writes work, and it is still said which file is out of use.
  EXPECT_EQ(store_->Stats().degraded.find("L3 writes fail"), std::string::npos);
  EXPECT_NE(store_->Stats().degraded.find(name), std::string::npos);
  ExpectFromL3("before", 100 * kKiB);
  ExpectFromL3("next5000", 5000);
  Expect("failed", 100 * kKiB);
}

TEST_F(StoreFlushFaultTest, AFlushThatWorksLaterProvesNothing) {
  OpenFailing();
  const int file = PutFlushed("flushed", 100 * kKiB);
  ASSERT_TRUE(Put("written", 100 * kKiB, 0, kOnDevice).ok());
  bad_ = file;
  ExpectStatus(store_->Flush(), StatusCode::kUnavailable, absl::StrCat("data file ", file));
  bad_ = kNone;
  const int flushes = flushes_;
  ExpectStatus(store_->Flush(), StatusCode::kUnavailable, absl::StrCat("data file ", file));
  EXPECT_EQ(flushes_, flushes + 2);  // Of the two other files.
  const PutOptions keep = {.durability = Durability::kFlushed, .if_exists = IfExists::kKeep};
  ExpectStatus(Put("written", 100 * kKiB, 0, keep), StatusCode::kUnavailable,
               absl::StrCat("data file ", file));
  EXPECT_EQ(flushes_, flushes + 2);
  // Put again it lies elsewhere; when nothing is left there, all is flushed.
  ASSERT_TRUE(Put("written", 100 * kKiB, 1, kFlushed).ok());
  EXPECT_TRUE(Put("written", 100 * kKiB, 1, keep).ok());
  ASSERT_TRUE(store_->Erase("flushed").ok());
  EXPECT_TRUE(store_->Flush().ok());
  EXPECT_EQ(store_->Stats().data_files_given_up, 1u);
  Close();
}

TEST_F(StoreFlushFaultTest, TheNextOpenUsesTheFileAgain) {
  OpenFailing();
  const uint64_t bytes_max = store_->Stats().l3.bytes_max;
  const int file = PutFlushed("before", 100 * kKiB);
  ASSERT_TRUE(Put("written", 100 * kKiB, 0, kOnDevice).ok());
  bad_ = file;
  ExpectStatus(store_->Flush(), StatusCode::kUnavailable, "data file");
  bad_ = kNone;
  ExpectStatus(store_->Close(), StatusCode::kUnavailable, absl::StrCat("data file ", file));
  store_.reset();
  OpenFailing();
  EXPECT_EQ(store_->Stats().degraded, "");
  EXPECT_EQ(store_->Stats().data_files_given_up, 0u);
  EXPECT_EQ(store_->Stats().l3.bytes_max, bytes_max);
  EXPECT_EQ(PutFlushed("after", 100 * kKiB), file);
  Expect("before", 100 * kKiB);
  Expect("written", 100 * kKiB);
  Close();
}

TEST_F(StoreFlushFaultTest, WithoutAFileInUseWritesAreRefusedByNameAndReadsGoOn) {
  OpenFailing();
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(Put(absl::StrCat("k", i), 500 * kKiB).ok());
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(Put(absl::StrCat("small", i), 5000).ok());
  ASSERT_TRUE(store_->Flush().ok());
  GiveAllUp();
  for (const uint64_t size : {uint64_t{5000}, 100 * kKiB}) {
    for (const PutOptions& options : {PutOptions(), kOnDevice, kFlushed}) {
      ExpectStatus(Put("refused", size, 0, options), StatusCode::kUnavailable,
                   "3 of its 3 data files are given up");
    }
  }
  AlignedBuffer buffer(kMiB);
  const ConstPiece piece = {buffer.data(), kMiB};
  ExpectStatus(
      store_->PutFrom({{.key = "borrowed", .meta = TensorMeta::Bytes(kMiB), .pieces = {&piece, 1}}},
                      {})[0],
      StatusCode::kUnavailable, "given up");
  ExpectStatus(GetStatus("refused"), StatusCode::kNotFound, "refused");
  // Nobody makes room for writes that cannot come.
  std::this_thread::sleep_for(std::chrono::milliseconds(350));
  EXPECT_EQ(store_->Stats().l3.evictions, 0u);
  for (int i = 0; i < 40; ++i) ExpectFromL3(absl::StrCat("k", i), 500 * kKiB);
  for (int i = 0; i < 40; ++i) ExpectFromL3(absl::StrCat("small", i), 5000);
  EXPECT_TRUE(store_->Erase("k0").ok());
  store_->Close().IgnoreError();
  store_.reset();
  Open();
  ExpectStatus(GetStatus("k0"), StatusCode::kNotFound, "k0");
  for (int i = 1; i < 40; ++i) Expect(absl::StrCat("k", i), 500 * kKiB);
  EXPECT_TRUE(Put("refused", kMiB, 0, kFlushed).ok());
}

TEST_F(StoreFlushFaultTest, WhatLiesInAGivenUpFileIsNotEvictedInVain) {
  OpenFailing();
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(Put(absl::StrCat("cold", i), 500 * kKiB).ok());
  ASSERT_TRUE(store_->Flush().ok());
  // All of them are in the smallest file, which best fit fills first.
  const int file = PutFlushed("last", 100 * kKiB);
  bad_ = file;
  ExpectStatus(store_->Flush(), StatusCode::kUnavailable, "data file");
  bad_ = kNone;
  // Twice what the others hold.
  for (int i = 0; i < 128; ++i) {
    ASSERT_TRUE(Put(absl::StrCat("hot", i), 500 * kKiB, 0, kOnDevice).ok()) << i;
  }
  EXPECT_GT(store_->Stats().l3.evictions, 50u);
  EXPECT_LE(store_->Stats().l3.bytes_used, store_->Stats().l3.bytes_max);
  for (int i = 0; i < 12; ++i) Expect(absl::StrCat("cold", i), 500 * kKiB);
}

TEST_F(StoreFlushFaultTest, OfTwoFlushesAtOnceNoneIsToldOfASuccess) {
  std::atomic<bool> failing = false;
  std::atomic<bool> go = false;
  std::atomic<int> begun = 0;
  StoreSeams seams;
  // As the kernel: the error is told once.
  seams.flush_file = [&](int) {
    if (!failing || begun++ > 0) return 0;
    while (!go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return EIO;
  };
  Open(seams);
  ASSERT_TRUE(Put("k", 100 * kKiB, 0, kFlushed).ok());
  failing = true;
  std::thread put([this] {
    ExpectStatus(Put("k", 100 * kKiB, 1, kFlushed), StatusCode::kUnavailable, "given up");
  });
  while (begun == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const PutOptions keep = {.durability = Durability::kFlushed, .if_exists = IfExists::kKeep};
  std::thread kept(
      [&] { ExpectStatus(Put("k", 100 * kKiB, 1, keep), StatusCode::kUnavailable, "given up"); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  go = true;
  put.join();
  kept.join();
  store_->Close().IgnoreError();
}

}  // namespace
}  // namespace cairn
