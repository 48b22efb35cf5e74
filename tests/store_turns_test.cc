// Room comes to who has waited for it: small tensors that come all the time do not starve a large
// one of what was let go for it.

#include <atomic>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "io/record.h"
#include "tests/faulty_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

constexpr int kThreads = 8;
constexpr uint64_t kSmall = 70 * kKiB;

// On a device whose requests take their time and end one by one.
class StoreTurnsTest : public StoreTest {
 protected:
  StoreTurnsTest() { options_.l3_write_bytes_per_day = StoreOptions::kL3WritesUnlimited; }

  void SetUp() override { Open(WrappedIn(&io_)); }

  void SlowDown() {
    io_->SetPlan([random = std::mt19937_64(1)](const IoOp& op, uint64_t) mutable {
      if (op.kind == IoOp::Kind::kSync) return FaultyIo::Fault{};
      return FaultyIo::Fault{.kind = FaultyIo::Kind::kDelay,
                             .delay = std::chrono::milliseconds(random() % 64)};
    });
  }

  // `large` while `small(thread, number)` is called over and over.
  template <typename Small, typename Large>
  void RunAmong(Small small, Large large) {
    SlowDown();
    std::atomic<bool> end = false;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (uint64_t i = 0; !end; ++i) {
          const absl::Status status = small(t, i);
          EXPECT_TRUE(status.ok()) << status;
        }
      });
    }
    for (int i = 0; i < 3; ++i) {
      const absl::Status status = large(i);
      EXPECT_TRUE(status.ok()) << status;
    }
    end = true;
    for (std::thread& thread : threads) thread.join();
  }

  FaultyIo* io_ = nullptr;
};

// 4 MiB may be dirty: it waits until nothing is.
TEST_F(StoreTurnsTest, AmongPuts) {
  RunAmong([this](int t, uint64_t i) { return Put(absl::StrCat(t, "_", i % 100), kSmall, i); },
           [this](int i) { return Put(absl::StrCat("large", i), 5 * kMiB); });
}

TEST_F(StoreTurnsTest, AmongGets) {
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(Put(absl::StrCat("small", i), kSmall).ok());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Put(absl::StrCat("large", i), 5 * kMiB).ok());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(store_->Evict(absl::StrCat("large", i), Level::kL3Nvme).ok());
  }
  RunAmong(
      [this](int t, uint64_t i) { return GetStatus(absl::StrCat("small", (25 * t + i) % 200)); },
      [this](int i) { return GetStatus(absl::StrCat("large", i)); });
}

TEST_F(StoreTurnsTest, AmongPutsFromTheCallersMemory) {
  const auto put_from = [this](const std::string& key, const AlignedBuffer& bytes) {
    const ConstPiece piece = {bytes.data(), bytes.size()};
    return store_->PutFrom(
        {{.key = key, .meta = TensorMeta::Bytes(piece.size), .pieces = {&piece, 1}}}, {})[0];
  };
  const AlignedBuffer small(17 * kBlockBytes);
  const AlignedBuffer large(5 * kMiB);
  for (int i = 0; i < 900; ++i) ASSERT_TRUE(put_from(absl::StrCat(i % 8, "_", i / 8), small).ok());
  ASSERT_GT(store_->Stats().l3.evictions, 0u);
  RunAmong([&](int t, uint64_t i) { return put_from(absl::StrCat(t, "_", i % 100), small); },
           [&](int i) { return put_from(absl::StrCat("large", i), large); });
}

}  // namespace
}  // namespace cairn
