#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/store_fixture.h"

namespace cairn {

// Keys with one writer each and many readers: what is read must be whole, and of a version that the
// key had at some moment of the call.
class StressFixture : public StoreTest {
 protected:
  struct Key {
    std::atomic<uint64_t> started = 0;
    std::atomic<uint64_t> completed = 0;
  };

  explicit StressFixture(size_t key_count) : keys_(key_count) {}

  static std::string NameOf(int key) { return "stress" + std::to_string(key); }
  static uint64_t SizeOf(int key, uint64_t version) {
    return 4096 * (1 + (static_cast<uint64_t>(key) * 7 + version * 13) % 40);
  }

  // Each 8 bytes tell key, version and place: cheap to make and to check at any speed.
  static void FillContent(std::byte* data, int key, uint64_t version) {
    auto* words = reinterpret_cast<uint64_t*>(data);
    for (uint64_t i = 0; i < SizeOf(key, version) / 8; ++i) {
      words[i] = (version << 32) ^ (static_cast<uint64_t>(key) << 20) ^ i;
    }
  }
  void ExpectContent(const std::byte* data, uint64_t size, int key, uint64_t oldest) {
    const auto* words = reinterpret_cast<const uint64_t*>(data);
    const uint64_t version = words[0] >> 32;
    EXPECT_GE(version, oldest);
    EXPECT_LE(version, keys_[key].started.load());
    EXPECT_EQ(size, SizeOf(key, version));
    for (uint64_t i = 0; i < size / 8; ++i) {
      if (words[i] == ((version << 32) ^ (static_cast<uint64_t>(key) << 20) ^ i)) continue;
      ADD_FAILURE() << NameOf(key) << " version " << version << " differs at word " << i;
      return;
    }
  }

  std::vector<Key> keys_;
};

}  // namespace cairn
