#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

// Small files of /proc and /sys below a root, which tests make themselves. What is missing or reads
// otherwise than expected is absent; nothing fails.
class Readings {
 public:
  explicit Readings(std::string root) : root_(std::move(root)) {}

  // The whole file without the line's end. At most 1 MiB.
  std::optional<std::string> Text(std::string_view path) const;
  // The number it begins with, times 1024 or 1024^2 where a K or an M follows.
  std::optional<uint64_t> Number(std::string_view path) const;
  // The figure of a line "NAME: 123 kB" or "NAME 123", in bytes where kB stands behind it.
  std::optional<uint64_t> Field(std::string_view path, std::string_view name) const;
  // Names in a folder, sorted.
  std::vector<std::string> Names(std::string_view folder) const;
  // What a link points to, its last name.
  std::optional<std::string> LinkName(std::string_view path) const;

 private:
  std::string Path(std::string_view path) const;

  const std::string root_;
};

// CPUs of a list such as "0-3,8,10-11".
std::vector<uint32_t> ParseCpuList(std::string_view text);

// Of a control group (version 1 or 2) around this process that limits memory.
struct MemoryLimit {
  uint64_t bytes_max = 0;
  uint64_t bytes_used = 0;  // Without files that the kernel could drop.
};
// From the process's own group upwards.
std::vector<MemoryLimit> ReadMemoryLimits(const Readings& readings);
// That which leaves least.
std::optional<MemoryLimit> ReadMemoryLimit(const Readings& readings);

// Microseconds in which some task waited for memory, since the system, or the control group,
// began: of a file as /proc/pressure/memory, and of the process's own group of version 2.
std::optional<uint64_t> ReadStallUs(const Readings& readings, std::string_view path);
std::optional<uint64_t> ReadGroupStallUs(const Readings& readings);

}  // namespace cairn
