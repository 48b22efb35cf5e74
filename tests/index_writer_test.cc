#include "io/index_writer.h"

#include <algorithm>
#include <atomic>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "io/memory_index.h"
#include "src/base/wake_scope.h"
#include "tests/disk_fixture.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kFileBytes = uint64_t{1} << 20;

// An index that notes what is committed, waits at a gate, and fails when told.
class TestIndex final : public Index {
 public:
  struct Committed {
    std::vector<std::string> keys;
    bool sync = false;
  };

  absl::Status Commit(absl::Span<const IndexEdit> edits, bool sync) override {
    {
      MutexLock lock(mutex_);
      ++arrivals_;
      arrived_.NotifyAll();
    }
    // Closed: the test holds the lock until it has enqueued what shall gather.
    MutexLock gate(gate_);
    MutexLock lock(mutex_);
    Committed& committed = commits_.emplace_back();
    committed.sync = sync;
    for (const IndexEdit& edit : edits) {
      committed.keys.push_back(std::string(edit.kind == IndexEdit::Kind::kPut ? "+" : "-") +
                               std::string(edit.key.key));
    }
    if (!failure_.ok()) return failure_;
    return memory_.Commit(edits, sync);
  }
  absl::StatusOr<IndexRecord> Find(IndexKey key) const override { return memory_.Find(key); }
  absl::Status ForEach(const Visitor& visitor) const override { return memory_.ForEach(visitor); }
  absl::Status DeleteRaw(std::string_view raw_key) override { return memory_.DeleteRaw(raw_key); }
  absl::StatusOr<std::vector<Fingerprint>> Fingerprints() const override {
    return memory_.Fingerprints();
  }
  absl::StatusOr<uint32_t> FingerprintId(std::string_view text) override {
    return memory_.FingerprintId(text);
  }
  absl::Status RestoreFingerprint(const Fingerprint& fingerprint) override {
    return memory_.RestoreFingerprint(fingerprint);
  }
  absl::Status DropFingerprint(uint32_t id) override { return memory_.DropFingerprint(id); }
  absl::Status Sync() override { return memory_.Sync(); }
  absl::Status Reopen() override { return memory_.Reopen(); }

  Mutex& gate() { return gate_; }
  // Until the writer stands at the gate with the first batch.
  void WaitForArrival() {
    MutexLock lock(mutex_);
    while (arrivals_ == 0) arrived_.Wait(mutex_);
  }
  void Fail(absl::Status status) {
    MutexLock lock(mutex_);
    failure_ = std::move(status);
  }
  std::vector<Committed> commits() {
    MutexLock lock(mutex_);
    return commits_;
  }

 private:
  Mutex gate_;
  Mutex mutex_;
  CondVar arrived_;
  MemoryIndex memory_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::vector<Committed> commits_ ABSL_GUARDED_BY(mutex_);
  int arrivals_ ABSL_GUARDED_BY(mutex_) = 0;
};

// What happened, in order.
class Journal {
 public:
  void Add(std::string line) {
    MutexLock lock(mutex_);
    lines_.push_back(std::move(line));
  }
  std::vector<std::string> lines() {
    MutexLock lock(mutex_);
    return lines_;
  }

 private:
  Mutex mutex_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
};

// Destroys itself, as a change may.
class TestChange final : public IndexChange {
 public:
  TestChange(Journal* journal, std::string name, uint64_t offset, bool flushed)
      : journal_(journal) {
    fingerprint_id = 1;
    record = SampleRecord("", name, TensorMeta::Bytes(100), offset);
    key = std::move(name);
    flush = flushed;
  }
  void OnCommitted(absl::Status status) override {
    journal_->Add(key + (status.ok() ? " ok" : absl::StrCat(" ", status.ToString())));
    delete this;
  }

 private:
  Journal* const journal_;
};

class IndexWriterTest : public ::testing::Test {
 protected:
  IndexWriter::FlushData Flusher() {
    return [this](uint64_t offset) {
      journal_.Add(absl::StrCat("flush ", offset / kFileBytes));
      return offset / kFileBytes == bad_file_ ? absl::UnavailableError("no such luck")
                                              : absl::OkStatus();
    };
  }
  void Put(IndexWriter& writer, std::string name, uint64_t offset = 4096, bool flush = false) {
    writer.Enqueue(new TestChange(&journal_, std::move(name), offset, flush));
  }

  TestIndex index_;
  Journal journal_;
  uint64_t bad_file_ = ~uint64_t{0};
};

TEST_F(IndexWriterTest, CommitsInOrderWithoutFlushOrSync) {
  {
    IndexWriter writer(&index_, kFileBytes, Flusher());
    ASSERT_TRUE(writer.Start().ok());
    for (const char* name : {"a", "b", "c"}) Put(writer, name);
    writer.Drain();
    EXPECT_EQ(writer.flushes(), 0u);
    EXPECT_THAT(journal_.lines(), ElementsAre("a ok", "b ok", "c ok"));
  }
  for (const TestIndex::Committed& commit : index_.commits()) EXPECT_FALSE(commit.sync);
  EXPECT_TRUE(index_.Find({1, "b"}).ok());
}

TEST_F(IndexWriterTest, GathersWhatWaitsIntoOneCommit) {
  IndexWriter writer(&index_, kFileBytes, Flusher());
  ASSERT_TRUE(writer.Start().ok());
  {
    MutexLock gate(index_.gate());
    Put(writer, "first");
    index_.WaitForArrival();
    for (int i = 0; i < 100; ++i) Put(writer, absl::StrCat(i), 4096, i == 50);
  }
  writer.Drain();
  EXPECT_LE(writer.commits(), 2u);
  EXPECT_EQ(writer.flushes(), 1u);
  const std::vector<TestIndex::Committed> commits = index_.commits();
  EXPECT_EQ(std::count_if(commits.begin(), commits.end(),
                          [](const TestIndex::Committed& commit) { return commit.sync; }),
            1);
  EXPECT_EQ(commits.back().keys.back(), "+99");
  EXPECT_EQ(journal_.lines().size(), 102u);
}

TEST_F(IndexWriterTest, WakesForWhatAScopeHasEnqueued) {
  IndexWriter writer(&index_, kFileBytes, Flusher());
  ASSERT_TRUE(writer.Start().ok());
  for (int round = 0; round < 100; ++round) {
    {
      const WakeScope wakes;
      Put(writer, absl::StrCat(round, "a"));
      Put(writer, absl::StrCat(round, "b"));
    }
    // From a thread without a scope, though the queue may not be empty yet.
    Put(writer, absl::StrCat(round, "c"));
    writer.Drain();
    EXPECT_EQ(journal_.lines().size(), 3u * static_cast<size_t>(round + 1));
  }
}

TEST_F(IndexWriterTest, FlushesEachFileOnceBeforeTheCommit) {
  IndexWriter writer(&index_, kFileBytes, Flusher());
  ASSERT_TRUE(writer.Start().ok());
  {
    MutexLock gate(index_.gate());
    Put(writer, "first");
    index_.WaitForArrival();
    Put(writer, "a", 4096, true);
    Put(writer, "b", 8192, true);
    Put(writer, "c", 2 * kFileBytes + 4096, true);
    Put(writer, "d", 5 * kFileBytes + 4096, false);
    Put(writer, "e", 12288, true);
  }
  writer.Drain();
  EXPECT_EQ(writer.flushes(), 2u);
  const std::vector<std::string> lines = journal_.lines();
  EXPECT_THAT(lines, ::testing::UnorderedElementsAre("flush 0", "flush 2", "first ok", "a ok",
                                                     "b ok", "c ok", "d ok", "e ok"));
  const auto at = [&](const char* line) {
    return std::find(lines.begin(), lines.end(), line) - lines.begin();
  };
  EXPECT_LT(at("flush 0"), at("a ok"));
  EXPECT_LT(at("flush 2"), at("a ok"));
}

TEST_F(IndexWriterTest, RemovalWithFlushSyncsWithoutAFlush) {
  IndexWriter writer(&index_, kFileBytes, Flusher());
  ASSERT_TRUE(writer.Start().ok());
  auto* const change = new TestChange(&journal_, "gone", 4096, true);
  change->kind = IndexEdit::Kind::kDelete;
  writer.Enqueue(change);
  writer.Drain();
  EXPECT_EQ(writer.flushes(), 0u);
  ASSERT_EQ(index_.commits().size(), 1u);
  EXPECT_TRUE(index_.commits()[0].sync);
  EXPECT_THAT(index_.commits()[0].keys, ElementsAre("-gone"));
}

TEST_F(IndexWriterTest, FailedFlushFailsExactlyWhatAskedForIt) {
  bad_file_ = 2;
  IndexWriter writer(&index_, kFileBytes, Flusher());
  ASSERT_TRUE(writer.Start().ok());
  {
    MutexLock gate(index_.gate());
    Put(writer, "first");
    index_.WaitForArrival();
    Put(writer, "lost1", 2 * kFileBytes + 4096, true);
    Put(writer, "unflushed", 2 * kFileBytes + 8192, false);
    Put(writer, "elsewhere", 4096, true);
    Put(writer, "lost2", 2 * kFileBytes + 12288, true);
  }
  writer.Drain();
  EXPECT_THAT(journal_.lines(), ::testing::Contains("unflushed ok"));
  EXPECT_THAT(journal_.lines(), ::testing::Contains("elsewhere ok"));
  EXPECT_THAT(journal_.lines(),
              ::testing::Contains("lost1 UNAVAILABLE: flush of data file 2: no such luck"));
  EXPECT_TRUE(absl::IsNotFound(index_.Find({1, "lost1"}).status()));
  EXPECT_TRUE(absl::IsNotFound(index_.Find({1, "lost2"}).status()));
  EXPECT_TRUE(index_.Find({1, "unflushed"}).ok());
}

TEST_F(IndexWriterTest, AllFlushesFailedMeansNoCommit) {
  bad_file_ = 0;
  IndexWriter writer(&index_, kFileBytes, Flusher());
  ASSERT_TRUE(writer.Start().ok());
  Put(writer, "lost", 4096, true);
  writer.Drain();
  EXPECT_EQ(writer.commits(), 0u);
  EXPECT_TRUE(index_.commits().empty());
}

TEST_F(IndexWriterTest, FailedCommitFailsTheBatchAndLaterOnesAsLongAsItLasts) {
  IndexWriter writer(&index_, kFileBytes, Flusher());
  ASSERT_TRUE(writer.Start().ok());
  index_.Fail(absl::UnavailableError("the log cannot be written"));
  Put(writer, "a");
  Put(writer, "b");
  writer.Drain();
  Put(writer, "c");
  writer.Drain();
  for (const std::string& line : journal_.lines()) {
    EXPECT_THAT(line, HasSubstr("UNAVAILABLE: the log cannot be written"));
  }
  index_.Fail(absl::OkStatus());
  Put(writer, "d");
  writer.Drain();
  EXPECT_EQ(journal_.lines().back(), "d ok");
}

TEST_F(IndexWriterTest, DestructionCommitsWhatIsQueued) {
  {
    IndexWriter writer(&index_, kFileBytes, Flusher());
    ASSERT_TRUE(writer.Start().ok());
    for (int i = 0; i < 1000; ++i) Put(writer, absl::StrCat(i));
  }
  EXPECT_EQ(journal_.lines().size(), 1000u);
}

// A change that enqueues the next from its OnCommitted.
class Chain final : public IndexChange {
 public:
  Chain(IndexWriter* writer, std::atomic<int>* left, std::latch* done)
      : writer_(writer), left_(left), done_(done) {
    fingerprint_id = 1;
    key = absl::StrCat("chain", left->load());
    record = SampleRecord("", key, TensorMeta::Bytes(100));
  }
  void OnCommitted(absl::Status status) override {
    EXPECT_TRUE(status.ok());
    if (left_->fetch_sub(1) > 1) {
      writer_->Enqueue(new Chain(writer_, left_, done_));
    } else {
      done_->count_down();
    }
    delete this;
  }

 private:
  IndexWriter* const writer_;
  std::atomic<int>* const left_;
  std::latch* const done_;
};

TEST_F(IndexWriterTest, MayBeUsedFromOnCommitted) {
  IndexWriter writer(&index_, kFileBytes, Flusher());
  ASSERT_TRUE(writer.Start().ok());
  std::atomic<int> left = 50;
  std::latch done(1);
  writer.Enqueue(new Chain(&writer, &left, &done));
  done.wait();
  writer.Drain();
  EXPECT_EQ(left.load(), 0);
}

TEST_F(IndexWriterTest, ManyThreadsLoseNothing) {
  constexpr int kThreads = 4;
  constexpr int kEach = 500;
  {
    IndexWriter writer(&index_, kFileBytes, Flusher());
    ASSERT_TRUE(writer.Start().ok());
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < kEach; ++i) {
          Put(writer, absl::StrCat(thread, "/", i), 4096, i % 7 == 0);
          if (i % 100 == 0) writer.Drain();
        }
      });
    }
  }
  std::vector<int> next(kThreads);
  for (const std::string& line : journal_.lines()) {
    if (line.starts_with("flush")) continue;
    const size_t thread = static_cast<size_t>(line[0] - '0');
    EXPECT_EQ(line, absl::StrCat(thread, "/", next[thread], " ok"));
    ++next[thread];
  }
  EXPECT_THAT(next, ElementsAre(kEach, kEach, kEach, kEach));
}

}  // namespace
}  // namespace cairn
