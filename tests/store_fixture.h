#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "cairn/store.h"
#include "src/base/clock.h"
#include "src/store_core.h"
#include "tests/io_fixture.h"
#include "tests/temporary_directory.h"

namespace cairn {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;

// The engine the suite runs on: CAIRN_TEST_IO_ENGINE=uring|posix, else the default.
inline IoEngineKind TestEngine() {
  const char* name = std::getenv("CAIRN_TEST_IO_ENGINE");
  if (name == nullptr) return IoEngineKind::kAuto;
  return std::string_view(name) == "posix" ? IoEngineKind::kPosix : IoEngineKind::kUring;
}

// The bytes of a test tensor: a function of its name and version, so any store can be checked.
inline std::vector<std::byte> ContentOf(std::string_view key, uint64_t size, uint64_t version = 0) {
  std::mt19937_64 random(std::hash<std::string_view>{}(key) ^ (version * 0x9e3779b97f4a7c15));
  std::vector<std::byte> bytes(size);
  uint64_t i = 0;
  for (; i + 8 <= size; i += 8) {
    const uint64_t word = random();
    std::memcpy(&bytes[i], &word, 8);
  }
  for (; i < size; ++i) bytes[i] = static_cast<std::byte>(random());
  return bytes;
}

inline TensorView ViewOf(const std::vector<std::byte>& bytes) {
  return {.meta = TensorMeta::Bytes(bytes.size()), .data = bytes.data(), .size = bytes.size()};
}

// A store whose engine is wrapped in an Io (FaultyIo, ManualIo), which *io is from Open on.
template <class Io>
StoreSeams WrappedIn(Io** io) {
  StoreSeams seams;
  seams.wrap_io = [io](std::unique_ptr<AsyncIo> inner) {
    auto wrapped = std::make_unique<Io>(std::move(inner));
    *io = wrapped.get();
    return wrapped;
  };
  return seams;
}

// A store in a directory of its own, removed at the end.
class StoreTest : public ::testing::Test {
 protected:
  StoreTest() {
    options_.path = directory_.string();
    options_.l2_bytes_max = 8 * kMiB;
    options_.l3_bytes_max = 48 * kMiB;
    options_.io_engine = TestEngine();
    options_.log = [this](std::string_view line) {
      const MutexLock lock(log_mutex_);
      log_.emplace_back(line);
    };
  }
  // While what its callbacks refer to, members of derived fixtures, is still there.
  void TearDown() override { store_.reset(); }

  // Unless a test says how short memory is, there is plenty, whatever else the machine does.
  void Open(StoreSeams seams = {}) {
    if (!seams.read_pressure) seams.read_pressure = [] { return PressureReadings(); };
    absl::StatusOr<std::unique_ptr<Store>> store = OpenStore(options_, std::move(seams));
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  void Close() {
    const absl::Status status = store_->Close();
    EXPECT_TRUE(status.ok()) << status;
    store_.reset();
  }
  // Of a store whose close_timeout is short, once nothing holds it up any more.
  void ExpectClosesNow() {
    absl::Status closed;
    do {
      closed = store_->Close();
    } while (absl::IsDeadlineExceeded(closed));
    EXPECT_TRUE(closed.ok()) << closed;
  }
  void Reopen() {
    Close();
    Open();
  }

  absl::Status Put(std::string_view key, uint64_t size, uint64_t version = 0,
                   const PutOptions& options = {}) {
    return store_->Put(key, ViewOf(ContentOf(key, size, version)), options);
  }
  // Gets the tensor and compares every byte.
  void Expect(std::string_view key, uint64_t size, uint64_t version = 0) {
    const absl::StatusOr<TensorHandle> handle = store_->Get(key, {});
    ASSERT_TRUE(handle.ok()) << key << ": " << handle.status();
    ASSERT_EQ(handle->view().size, size) << key;
    const std::vector<std::byte> expected = ContentOf(key, size, version);
    EXPECT_EQ(std::memcmp(handle->view().data, expected.data(), size), 0)
        << key << " has other bytes";
  }
  void ExpectStatus(const absl::Status& status, absl::StatusCode code, std::string_view text) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_NE(status.ToString().find(std::string(text)), std::string::npos)
        << "\"" << text << "\" is not in: " << status;
  }
  // Bounded by the test's own time alone.
  void AwaitPressure(absl::FunctionRef<bool(const PressureStats&)> reached) {
    while (!reached(store_->Stats().pressure)) SleepFor(std::chrono::milliseconds(5));
  }
  absl::Status GetStatus(std::string_view key) { return store_->Get(key, {}).status(); }

  TemporaryDirectory temporary_;
  std::filesystem::path directory_ = temporary_ / "store";
  StoreOptions options_;
  std::unique_ptr<Store> store_;
  Mutex log_mutex_;
  std::vector<std::string> log_;
};

}  // namespace cairn
