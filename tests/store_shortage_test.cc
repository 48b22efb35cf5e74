// A store in a process that has no thread or no memory left: an error that says so, nothing kept,
// and the same store opens when there is enough again.

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "tests/refused_calls.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

class StoreShortageTest : public StoreTest {
 protected:
  static constexpr uint64_t kBytes = 300 * kKiB;
  // RocksDB's, of the process: they outlive every index.
  static constexpr size_t kThreadsKept = 2;

  StoreShortageTest() { options_.l1_bytes_max = 4 * kMiB; }
  ~StoreShortageTest() override {
    LeaveThreads(kNoLimit);
    RefuseMappings(kNoLimit, 0);
  }

  absl::StatusOr<std::unique_ptr<Store>> TryOpen() {
    StoreSeams seams;
    seams.read_pressure = [] { return PressureReadings(); };
    return OpenStore(options_, std::move(seams));
  }
  // One that holds a tensor, and is closed.
  void Prepare() {
    Open();
    ASSERT_TRUE(Put("before", kBytes, 0, {.durability = Durability::kOnDevice}).ok());
    Close();
  }
  void ExpectWhole() {
    Expect("before", kBytes);
    ASSERT_TRUE(Put("after", kBytes).ok());
    Expect("after", kBytes);
    GetOptions in_l1;
    in_l1.want = Level::kL1Gpu;
    EXPECT_TRUE(store_->Get("before", in_l1).ok());
  }
  // Opens it again and again, each time with one mapping more served before `count` are refused,
  // until none is.
  void OpenWithMappingsRefused(size_t count);
};

TEST_F(StoreShortageTest, EveryThreadThatOpenIsRefused) {
  for (size_t left = 0;; ++left) {
    LeaveThreads(left);
    absl::StatusOr<std::unique_ptr<Store>> store = TryOpen();
    LeaveThreads(kNoLimit);
    if (store.ok()) {
      EXPECT_GT(left, 10u);
      break;
    }
    ExpectStatus(store.status(), absl::StatusCode::kResourceExhausted, "cannot start thread");
    EXPECT_LE(ThreadsRunning(), kThreadsKept);
  }
  Prepare();
  Open();
  ExpectWhole();
}

TEST_F(StoreShortageTest, AThreadIsRefusedToAStoreThatIsOpen) {
  Prepare();
  Open();
  LeaveThreads(0);
  ExpectWhole();
  // Closes on the caller's.
  Close();
  EXPECT_LE(ThreadsRunning(), kThreadsKept);
  LeaveThreads(kNoLimit);
  Open();
  ExpectWhole();
  Expect("after", kBytes);
}

TEST_F(StoreShortageTest, AReleaseBehindAStreamIsTheHandlesYetWhenNoThreadIsLeft) {
  Open();
  ASSERT_TRUE(Put("a", kBytes).ok());
  GetOptions in_l1;
  in_l1.want = Level::kL1Gpu;
  absl::StatusOr<TensorHandle> handle = store_->Get("a", in_l1);
  ASSERT_TRUE(handle.ok()) << handle.status();
  LeaveThreads(0);
  ExpectStatus(handle->ReleaseAfter(StreamRef{}), absl::StatusCode::kResourceExhausted,
               "cannot start thread");
  EXPECT_TRUE(handle->valid());
  LeaveThreads(kNoLimit);
  EXPECT_TRUE(handle->ReleaseAfter(StreamRef{}).ok());
}

void StoreShortageTest::OpenWithMappingsRefused(size_t count) {
  Prepare();
  const uint64_t bytes_before = BytesMapped();
  bool refused = true;
  for (size_t served = 0; refused; ++served) {
    RefuseMappings(served, count);
    absl::StatusOr<std::unique_ptr<Store>> store = TryOpen();
    refused = MappingsAsked() > served;
    RefuseMappings(kNoLimit, 0);
    if (store.ok()) {
      // There was another way.
      store_ = *std::move(store);
      Expect("before", kBytes);
      Close();
    } else {
      EXPECT_TRUE(refused);
      EXPECT_EQ(store.status().code(), absl::StatusCode::kResourceExhausted) << store.status();
    }
    EXPECT_EQ(BytesMapped(), bytes_before) << served;
    if (!refused) {
      EXPECT_GT(served, 4u);
    }
  }
  Open();
  ExpectWhole();
}

TEST_F(StoreShortageTest, EveryMappingThatOpenIsRefused) { OpenWithMappingsRefused(1); }

TEST_F(StoreShortageTest, EveryMappingFromOneOnThatOpenIsRefused) {
  OpenWithMappingsRefused(kNoLimit);
}

}  // namespace
}  // namespace cairn
