#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "cairn/options.h"

namespace cairn {

// What crash_child writes and crash_test expects.

inline constexpr int kCrashKeys = 48;
inline constexpr uint64_t kCrashTensorBytesMax = uint64_t{300} << 10;

inline std::string CrashKeyName(int key) { return "crash" + std::to_string(key); }

inline uint64_t CrashTensorBytes(int key, uint64_t version) {
  return 8 + (version * 7919 + static_cast<uint64_t>(key) * 104729) % (kCrashTensorBytesMax - 8);
}

// Starts with the version; the rest follows from it.
inline void FillCrashContent(int key, uint64_t version, std::byte* target) {
  const uint64_t size = CrashTensorBytes(key, version);
  for (uint64_t i = 0; i * 8 < size; ++i) {
    const uint64_t word =
        i == 0 ? version : (version + i) * 0x9e3779b97f4a7c15 + static_cast<uint64_t>(key);
    std::memcpy(target + i * 8, &word, std::min<uint64_t>(8, size - i * 8));
  }
}

inline StoreOptions CrashStoreOptions(std::string_view path, std::string_view engine) {
  StoreOptions options;
  options.path = std::string(path);
  options.l2_bytes_max = uint64_t{8} << 20;
  options.l3_bytes_max = uint64_t{64} << 20;
  // Who knows what must be there knows of no refusals: a small disk's budget is soon written.
  options.l3_write_bytes_per_day = StoreOptions::kL3WritesUnlimited;
  if (engine == "posix") options.io_engine = IoEngineKind::kPosix;
  if (engine == "uring") options.io_engine = IoEngineKind::kUring;
  options.log = [](std::string_view) {};
  return options;
}

}  // namespace cairn
