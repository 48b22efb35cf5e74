// Moves within L3 amid what goes wrong: errors of the device and of the index, crashes, Close, and
// others who replace or erase what is on its way.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/l3_defragmentation_fixture.h"

namespace cairn {
namespace {

using Kind = FaultyIo::Kind;

class StoreL3MoveFaultTest : public L3DefragmentationTest {};

// Each read before a move is held up until the test has changed what it reads.
TEST_F(StoreL3MoveFaultTest, WhatIsReplacedOrErasedMeanwhileStaysSo) {
  options_.l2_bytes_max = 4 * kMiB;
  OpenQuiet();
  Fragment();
  LeaveL2();
  std::atomic<int> held = 0;
  io_->SetPlan([&](const IoOp& op, uint64_t) -> FaultyIo::Fault {
    if (!ReadsToMove(op)) return {};
    ++held;
    return {.kind = Kind::kDelay, .delay = std::chrono::hours(1)};
  });
  std::thread putting([&] {
    PutOptions put = kKept;
    put.timeout = absl::Seconds(20);
    Put("large", kLarge, 0, put).IgnoreError();
  });
  while (held == 0) SleepFor(std::chrono::milliseconds(1));
  // One of them is being moved. Where L3 is that full a put may be refused, and has changed
  // nothing.
  std::vector<uint64_t> versions(static_cast<size_t>(count_));
  for (int i = 0; i < count_; ++i) {
    if (!IsThere(i)) continue;
    if (i % 2 == 0) {
      EXPECT_TRUE(store_->Erase(Key(i)).ok());
    } else {
      versions[static_cast<size_t>(i)] = Put(Key(i), kBytes, 1, kKept).ok() ? 1 : 0;
    }
  }
  io_->SetPlan(nullptr);
  io_->EndDelays();
  putting.join();
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < count_; ++i) {
      if (!IsThere(i)) continue;
      if (i % 2 == 0) {
        EXPECT_EQ(GetStatus(Key(i)).code(), absl::StatusCode::kNotFound) << i;
      } else {
        Expect(Key(i), kBytes, versions[static_cast<size_t>(i)]);
      }
    }
    if (round == 0) Reopen();
  }
}

// The index has the move in hand, and is told of what follows behind it.
TEST_F(StoreL3MoveFaultTest, WhatIsErasedOrReplacedBehindTheMoveStaysSo) {
  OpenQuiet();
  Fragment();
  std::vector<std::atomic<uint64_t>> versions(static_cast<size_t>(count_));
  std::vector<std::thread> threads;
  {
    const MutexLock gate(index_->gate());
    const int begun = index_->commits_begun();
    threads.emplace_back([&] { Put("large", kLarge, 0, kKept).IgnoreError(); });
    while (index_->commits_begun() == begun) SleepFor(std::chrono::milliseconds(1));
    for (int i = 0; i < count_; ++i) {
      if (!IsThere(i)) continue;
      threads.emplace_back([&, i] {
        if (i % 2 == 0) {
          EXPECT_TRUE(store_->Erase(Key(i)).ok());
        } else {
          // As above.
          versions[static_cast<size_t>(i)] = Put(Key(i), kBytes, 1, kKept).ok() ? 1 : 0;
        }
      });
    }
    SleepFor(std::chrono::milliseconds(100));
  }
  for (std::thread& thread : threads) thread.join();
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < count_; ++i) {
      if (!IsThere(i)) continue;
      if (i % 2 == 0) {
        EXPECT_EQ(GetStatus(Key(i)).code(), absl::StatusCode::kNotFound) << i;
      } else {
        Expect(Key(i), kBytes, versions[static_cast<size_t>(i)]);
      }
    }
    if (round == 0) Reopen();
  }
  EXPECT_EQ(store_->Stats().recovery_dropped, 0u);
}

TEST_F(StoreL3MoveFaultTest, AnIndexThatFailsLosesNothing) {
  OpenQuiet();
  Fragment();
  broken_ = true;
  PutOptions put = kKept;
  put.timeout = absl::Milliseconds(300);
  EXPECT_FALSE(Put("large", kLarge, 0, put).ok());
  EXPECT_EQ(Moved(), 0u);
  ExpectAll();
  broken_ = false;
  ExpectAll();
  // One that was to move, and any other, can be put again and erased.
  const uint64_t used = store_->Stats().l3.bytes_used;
  for (int i = 0; i < count_; ++i) {
    if (IsThere(i)) {
      ASSERT_TRUE(Put(Key(i), kBytes, 0, kKept).ok());
    }
  }
  EXPECT_LT(store_->Stats().l3.bytes_used, used);
  ExpectAllAfterReopen();
  for (int i = 0; i < count_; ++i) ASSERT_TRUE(store_->Erase(Key(i)).ok());
  EXPECT_EQ(store_->Stats().l3.bytes_used, 0u);
}

TEST_F(StoreL3MoveFaultTest, AFailedReadOrWriteLosesNothing) {
  options_.l2_bytes_max = 4 * kMiB;
  OpenQuiet();
  Fragment();
  LeaveL2();
  std::atomic<uint64_t> requests = 0;
  PutOptions put = kKept;
  put.timeout = absl::Milliseconds(500);
  const auto plan = [&requests](Kind kind, bool reads) {
    return [&requests, kind, reads](const IoOp& op, uint64_t) -> FaultyIo::Fault {
      const bool wanted = reads ? ReadsToMove(op) : op.kind == IoOp::Kind::kWrite;
      if (!wanted) return {};
      ++requests;
      return {.kind = kind, .where = 12345, .status = absl::UnavailableError("EIO")};
    };
  };
  for (const auto& [kind, reads] : {std::pair(Kind::kFail, true), std::pair(Kind::kFlipBit, true),
                                    std::pair(Kind::kFail, false), std::pair(Kind::kTear, false)}) {
    requests = 0;
    io_->SetPlan(plan(kind, reads));
    EXPECT_FALSE(Put("large", kLarge, 0, put).ok());
    EXPECT_GT(requests, 0u);
    io_->SetPlan(nullptr);
    EXPECT_EQ(Moved(), 0u);
    EXPECT_EQ(store_->Stats().quarantined, 0u);
    EXPECT_EQ(store_->Stats().spill_failures, 0u);
    ExpectAll();
    LeaveL2();
  }
  ExpectAllAfterReopen();
}

TEST_F(StoreL3MoveFaultTest, ClosesSoonAmidAWindow) {
  OpenBusy(/*bytes_per_second=*/1);
  Fragment();
  AwaitMoves(1);
  const Deadline begun = SteadyNow();
  Close();
  EXPECT_LT(SteadyNow() - begun, std::chrono::seconds(20));
  Open();
  ExpectAll();
}

TEST_F(StoreL3MoveFaultTest, ClosesWhileAMoveIsHeldUp) {
  options_.l2_bytes_max = 4 * kMiB;
  OpenBusy();
  std::atomic<int> held = 0;
  io_->SetPlan([&](const IoOp& op, uint64_t) -> FaultyIo::Fault {
    if (!ReadsToMove(op)) return {};
    ++held;
    return {.kind = Kind::kDelay, .delay = std::chrono::milliseconds(500)};
  });
  Fragment();
  while (held == 0) SleepFor(std::chrono::milliseconds(1));
  Close();
  Open();
  ExpectAll();
}

// What an index says, and what lies there, at each step of moves: as a killed process leaves it.
TEST_F(StoreL3MoveFaultTest, ACrashAtAnyStepKeepsEveryTensor) {
  options_.l2_bytes_max = 4 * kMiB;
  OpenQuiet();
  Fragment();
  LeaveL2();
  const std::filesystem::path copy = temporary_ / "copy";
  std::atomic<int> held = 0;
  const auto hold = [&](const IoOp& op, uint64_t) -> FaultyIo::Fault {
    const bool wanted = ReadsToMove(op) || op.kind == IoOp::Kind::kWrite;
    if (!wanted) return {};
    ++held;
    return {.kind = Kind::kDelay, .delay = std::chrono::hours(1)};
  };
  io_->SetPlan(hold);
  std::atomic<bool> done = false;
  std::thread putting([&] {
    PutOptions put = kKept;
    put.timeout = absl::Seconds(60);
    EXPECT_TRUE(Put("large", kLarge, 0, put).ok());
    done = true;
  });
  int steps = 0;
  while (!done) {
    if (held.exchange(0) == 0) {
      SleepFor(std::chrono::milliseconds(1));
      continue;
    }
    // All that was submitted together is held, and the index rests.
    SleepFor(std::chrono::milliseconds(20));
    std::filesystem::remove_all(copy);
    std::filesystem::copy(directory_, copy, std::filesystem::copy_options::recursive);
    StoreOptions options = options_;
    options.path = copy.string();
    {
      absl::StatusOr<std::unique_ptr<Store>> crashed = OpenStore(options, {});
      ASSERT_TRUE(crashed.ok()) << crashed.status();
      EXPECT_EQ((*crashed)->Stats().recovery_dropped, 0u);
      for (int i = 0; i < count_; ++i) {
        if (!IsThere(i)) continue;
        const absl::StatusOr<TensorHandle> handle = (*crashed)->Get(Key(i), {});
        ASSERT_TRUE(handle.ok()) << steps << ": " << handle.status();
        const std::vector<std::byte> expected = ContentOf(Key(i), kBytes);
        ASSERT_EQ(std::memcmp(handle->view().data, expected.data(), kBytes), 0);
      }
    }
    ++steps;
    io_->EndDelays();
  }
  putting.join();
  EXPECT_GT(steps, 4);
  io_->SetPlan(nullptr);
  io_->EndDelays();
  ExpectAllAfterReopen();
}

TEST_F(StoreL3MoveFaultTest, PutsAndMovesOfTheSameKeysAgree) {
  OpenQuiet();
  Fragment();
  std::vector<std::atomic<uint64_t>> versions(static_cast<size_t>(count_));
  std::vector<std::thread> writers;
  std::atomic<bool> stop = false;
  for (int writer = 0; writer < 2; ++writer) {
    writers.emplace_back([&, writer] {
      std::mt19937_64 random(static_cast<uint64_t>(writer));
      while (!stop) {
        const int i = static_cast<int>(random() % static_cast<uint64_t>(count_));
        if (!IsThere(i) || i % 2 != writer) continue;
        // One that is refused has changed nothing; of one that is to be on the device in time that
        // would not be known.
        const PutOptions put = {.retention = Retention::kKeep, .timeout = absl::Milliseconds(50)};
        const uint64_t version = versions[static_cast<size_t>(i)] + 1;
        if (Put(Key(i), kBytes, version, put).ok()) versions[static_cast<size_t>(i)] = version;
        SleepFor(std::chrono::milliseconds(random() % 4));
      }
    });
  }
  // Each has others moved, and leaves pieces.
  for (const Deadline until = SteadyNow() + std::chrono::seconds(5);
       Moved() < 20 && SteadyNow() < until;) {
    PutOptions put = kKept;
    put.timeout = absl::Milliseconds(200);
    Put("large", kLarge, 0, put).IgnoreError();
    EXPECT_TRUE(store_->Erase("large").ok());
  }
  stop = true;
  for (std::thread& writer : writers) writer.join();
  EXPECT_GT(Moved(), 0u);
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < count_; ++i) {
      if (IsThere(i)) Expect(Key(i), kBytes, versions[static_cast<size_t>(i)]);
    }
    if (round == 0) Reopen();
  }
}

}  // namespace
}  // namespace cairn
