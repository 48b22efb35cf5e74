// Close on a device that does not answer: it says so in time, and what the device may still touch
// stays where it is.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "src/base/clock.h"
#include "tests/manual_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;
using std::chrono::milliseconds;

class StoreCloseTest : public StoreTest {
 protected:
  // A device that answers when it is told to, and flushes when the gate is open: so the engine is
  // still there when Release returns.
  void OpenHung() {
    StoreSeams seams = WrappedIn(&io_);
    seams.flush_file = [this](int) {
      while (!gate_) std::this_thread::sleep_for(milliseconds(1));
      return 0;
    };
    gate_ = true;
    options_.close_timeout = absl::Milliseconds(50);
    Open(seams);
    gate_ = false;
  }
  void ExpectStillClosing(std::string_view what) {
    const auto start = SteadyNow();
    ExpectStatus(store_->Close(), StatusCode::kDeadlineExceeded, what);
    EXPECT_GE(SteadyNow() - start, milliseconds(50));
  }

  ManualIo* io_ = nullptr;
  std::atomic<bool> gate_ = false;
};

TEST_F(StoreCloseTest, AHungWriteIsADeadlineAndIsWaitedForAgain) {
  OpenHung();
  ASSERT_TRUE(Put("k", kMiB).ok());
  ASSERT_TRUE(Put("small", 5000).ok());
  io_->WaitForPending(2);
  ExpectStillClosing("2 writes to L3 have not ended");
  ExpectStatus(Put("late", 5000), StatusCode::kFailedPrecondition, "closed");
  ExpectStatus(GetStatus("k"), StatusCode::kFailedPrecondition, "closed");
  ExpectStillClosing("2 writes to L3 have not ended");
  io_->Release();
  ExpectStillClosing("a flush");
  gate_ = true;
  ExpectClosesNow();
  EXPECT_TRUE(store_->Close().ok());
  store_.reset();
  Open();
  Expect("k", kMiB);
  Expect("small", 5000);
}

TEST_F(StoreCloseTest, MemoryThatAHungReadMayWriteToStays) {
  Open();
  ASSERT_TRUE(Put("k", kMiB).ok());
  ASSERT_TRUE(Put("held", kMiB).ok());
  Close();
  OpenHung();
  EXPECT_EQ(store_->Get("k", {.timeout = absl::Milliseconds(1)}).status().code(),
            StatusCode::kDeadlineExceeded);
  ExpectStillClosing("is still closing");
  // Into memory that is still L2's.
  io_->CompleteAll();
  io_->Release();
  gate_ = true;
  ExpectClosesNow();
}

TEST_F(StoreCloseTest, CallsThatWaitForTheDeviceHoldUpNoClose) {
  OpenHung();
  AlignedBuffer buffer(kMiB);
  const ConstPiece piece = {buffer.data(), kMiB};
  absl::Status put;
  std::thread putter([&] {
    put = store_->PutFrom({{.key = "k", .meta = TensorMeta::Bytes(kMiB), .pieces = {&piece, 1}}},
                          {})[0];
  });
  io_->WaitForPending(1);
  ExpectStillClosing("1 calls and 1 writes to L3 have not ended");
  io_->Release();
  putter.join();
  EXPECT_TRUE(put.ok()) << put;
  gate_ = true;
  ExpectClosesNow();
}

TEST_F(StoreCloseTest, TheDestructorWaitsForTheDeviceAndSaysSo) {
  OpenHung();
  ASSERT_TRUE(Put("k", kMiB).ok());
  io_->WaitForPending(1);
  std::atomic<bool> destroyed = false;
  std::thread destroyer([&] {
    store_.reset();
    destroyed = true;
  });
  const auto said = [this] {
    const MutexLock lock(log_mutex_);
    return std::any_of(log_.begin(), log_.end(), [](const std::string& line) {
      return line.find("waiting, as the device may still write") != std::string::npos;
    });
  };
  while (!said()) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_FALSE(destroyed);
  io_->Release();
  gate_ = true;
  destroyer.join();
  Open();
  Expect("k", kMiB);
}

}  // namespace
}  // namespace cairn
