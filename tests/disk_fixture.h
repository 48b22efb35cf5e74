#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "io/checksum.h"
#include "io/index.h"
#include "io/record.h"
#include "tests/temporary_directory.h"

namespace cairn {

// What tests of the formats and files of L3 work with.

inline constexpr uint64_t operator""_KiB(unsigned long long value) { return value << 10; }
inline constexpr uint64_t operator""_MiB(unsigned long long value) { return value << 20; }
inline constexpr uint64_t operator""_GiB(unsigned long long value) { return value << 30; }

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

inline void WriteFile(const std::string& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  EXPECT_TRUE(file.good()) << path;
}

// Inverts bits of one byte in place.
inline void FlipByte(const std::string& path, uint64_t offset, uint8_t bits = 0xff) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(static_cast<std::streamoff>(offset));
  const int byte = file.get();
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(static_cast<char>(byte ^ bits));
  EXPECT_TRUE(file.good()) << path << " at " << offset;
}

// Every file and directory with what a write would change: size, times, inode, content.
inline std::map<std::string, std::string> Snapshot(const std::string& path) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    struct stat file;
    EXPECT_EQ(lstat(entry.path().c_str(), &file), 0);
    std::string seen = absl::StrCat(file.st_ino, " ", file.st_size, " ", file.st_mode, " ",
                                    file.st_mtim.tv_sec, ".", file.st_mtim.tv_nsec, " ",
                                    file.st_ctim.tv_sec, ".", file.st_ctim.tv_nsec);
    if (S_ISREG(file.st_mode) && file.st_size <= 1 << 20) seen += ReadFile(entry.path());
    files[entry.path().string()] = seen;
  }
  return files;
}

// What the file system has given to all under the path.
inline uint64_t BytesOnDisk(const std::string& path) {
  uint64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator entry(path, error), end; entry != end;
       entry.increment(error)) {
    struct stat file;
    if (lstat(entry->path().c_str(), &file) == 0) {
      bytes += static_cast<uint64_t>(file.st_blocks) * 512;
    }
  }
  return bytes;
}

// A record of one such tensor that verifies, at a made-up place.
inline IndexRecord SampleRecord(std::string_view fingerprint, std::string_view key, TensorMeta meta,
                                uint64_t offset = 4096, uint64_t sequence = 1) {
  IndexRecord record;
  record.sequence = sequence;
  record.offset = offset;
  record.meta = meta;
  record.payload_bytes = meta.byte_count();
  record.header_bytes = RecordHeaderBytes(fingerprint.size(), key.size(), record.payload_bytes);
  record.checksum = 0x0123456789abcdef;
  return record;
}

inline bool SameRecord(const IndexRecord& a, const IndexRecord& b) {
  return a.sequence == b.sequence && a.offset == b.offset && a.header_bytes == b.header_bytes &&
         a.payload_bytes == b.payload_bytes && a.checksum == b.checksum && a.meta == b.meta &&
         a.tensor_class == b.tensor_class && a.retention == b.retention &&
         a.recompute_level == b.recompute_level && a.expires_unix_ms == b.expires_unix_ms;
}

}  // namespace cairn
