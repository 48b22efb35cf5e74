#include "src/machine/readings.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

constexpr size_t kTextBytesMax = size_t{1} << 20;
// A list of CPUs that names more is not one.
constexpr uint32_t kCpusMax = 65536;
// Version 1 writes "no limit" as the largest multiple of a page.
constexpr uint64_t kLimitBytesMax = uint64_t{1} << 60;

std::optional<uint64_t> ParseFigure(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[digits]))) {
    ++digits;
  }
  uint64_t figure = 0;
  if (!absl::SimpleAtoi(text.substr(0, digits), &figure)) return std::nullopt;
  text = absl::StripAsciiWhitespace(text.substr(digits));
  int shift = 0;
  if (absl::StartsWithIgnoreCase(text, "k")) shift = 10;
  if (absl::StartsWith(text, "M")) shift = 20;
  if (figure > (UINT64_MAX >> shift)) return std::nullopt;
  return figure << shift;
}

// A group's folder and the root of its hierarchy, from a line of /proc/self/cgroup.
struct Group {
  std::string hierarchy;
  std::string path;
  bool version_2 = false;
};

std::vector<Group> MemoryGroups(const Readings& readings) {
  std::vector<Group> groups;
  const std::optional<std::string> text = readings.Text("/proc/self/cgroup");
  for (const absl::string_view line : absl::StrSplit(text.value_or(""), '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<absl::string_view> controllers = absl::StrSplit(parts[1], ',');
    if (parts[1].empty()) {
      // Beside version 1 it is mounted below.
      for (const char* hierarchy : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
        groups.push_back({hierarchy, std::string(parts[2]), true});
      }
    } else if (std::find(controllers.begin(), controllers.end(), "memory") != controllers.end()) {
      groups.push_back({"/sys/fs/cgroup/memory", std::string(parts[2]), false});
    }
  }
  return groups;
}

std::optional<MemoryLimit> LimitOf(const Readings& readings, const Group& group,
                                   const std::string& folder) {
  const std::optional<uint64_t> bytes_max = readings.Number(
      absl::StrCat(folder, group.version_2 ? "/memory.max" : "/memory.limit_in_bytes"));
  if (!bytes_max || *bytes_max >= kLimitBytesMax) return std::nullopt;
  const uint64_t used =
      readings
          .Number(
              absl::StrCat(folder, group.version_2 ? "/memory.current" : "/memory.usage_in_bytes"))
          .value_or(0);
  const std::string stat = absl::StrCat(folder, "/memory.stat");
  // As MemAvailable counts: of a file that is in use, too, the kernel drops what others need. Only
  // waiting (PSI) tells where that hurts.
  uint64_t droppable = 0;
  for (const std::string_view list : {"inactive_file", "active_file"}) {
    droppable += readings.Field(stat, absl::StrCat(group.version_2 ? "" : "total_", ToAbsl(list)))
                     .value_or(0);
  }
  return MemoryLimit{.bytes_max = *bytes_max, .bytes_used = used - std::min(used, droppable)};
}

}  // namespace

std::string Readings::Path(std::string_view path) const {
  return absl::StrCat(root_, ToAbsl(path));
}

std::optional<std::string> Readings::Text(std::string_view path) const {
  std::ifstream file(Path(path), std::ios::binary);
  if (!file) return std::nullopt;
  std::string text;
  std::array<char, 4096> piece;
  while (file && text.size() < kTextBytesMax) {
    file.read(piece.data(), piece.size());
    text.append(piece.data(), static_cast<size_t>(file.gcount()));
  }
  if (file.bad()) return std::nullopt;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::optional<uint64_t> Readings::Number(std::string_view path) const {
  const std::optional<std::string> text = Text(path);
  return text ? ParseFigure(*text) : std::nullopt;
}

std::optional<uint64_t> Readings::Field(std::string_view path, std::string_view name) const {
  const std::optional<std::string> text = Text(path);
  for (absl::string_view line : absl::StrSplit(text.value_or(""), '\n')) {
    // Those of a NUMA node have "Node 0 " before them.
    const size_t at = line.find(ToAbsl(name));
    if (at == absl::string_view::npos || (at > 0 && line[at - 1] != ' ')) continue;
    line.remove_prefix(at + name.size());
    absl::ConsumePrefix(&line, ":");
    if (!absl::StartsWith(line, " ") && !absl::StartsWith(line, "\t")) continue;
    return ParseFigure(line);
  }
  return std::nullopt;
}

std::vector<std::string> Readings::Names(std::string_view folder) const {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(Path(folder), error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::optional<std::string> Readings::LinkName(std::string_view path) const {
  std::error_code error;
  const std::filesystem::path target = std::filesystem::read_symlink(Path(path), error);
  if (error || target.filename().empty()) return std::nullopt;
  return target.filename();
}

std::vector<uint32_t> ParseCpuList(std::string_view text) {
  std::vector<uint32_t> cpus;
  for (const absl::string_view part :
       absl::StrSplit(absl::StripAsciiWhitespace(ToAbsl(text)), ',', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    uint32_t first = 0;
    uint32_t last = 0;
    if (!absl::SimpleAtoi(ends.first, &first)) continue;
    if (ends.second.empty()) {
      last = first;
    } else if (!absl::SimpleAtoi(ends.second, &last)) {
      continue;
    }
    for (uint32_t cpu = first; cpu <= last && cpus.size() < kCpusMax; ++cpu) cpus.push_back(cpu);
  }
  return cpus;
}

std::vector<MemoryLimit> ReadMemoryLimits(const Readings& readings) {
  std::vector<MemoryLimit> limits;
  for (const Group& group : MemoryGroups(readings)) {
    // The group and all around it. Inside of a container the group's own path may not be mounted:
    // then the limit is that of the hierarchy's root.
    std::filesystem::path path = group.path;
    while (true) {
      const std::string below = path == "/" ? "" : path.string();
      const std::optional<MemoryLimit> limit =
          LimitOf(readings, group, absl::StrCat(group.hierarchy, below));
      if (limit) limits.push_back(*limit);
      if (below.empty() || !path.has_parent_path()) break;
      path = path.parent_path();
    }
  }
  return limits;
}

std::optional<MemoryLimit> ReadMemoryLimit(const Readings& readings) {
  std::optional<MemoryLimit> tightest;
  const auto left = [](const MemoryLimit& of) {
    return of.bytes_max - std::min(of.bytes_max, of.bytes_used);
  };
  for (const MemoryLimit& limit : ReadMemoryLimits(readings)) {
    if (!tightest || left(limit) < left(*tightest)) tightest = limit;
  }
  return tightest;
}

std::optional<uint64_t> ReadStallUs(const Readings& readings, std::string_view path) {
  const std::optional<std::string> text = readings.Text(path);
  for (const absl::string_view line : absl::StrSplit(text.value_or(""), '\n')) {
    if (!absl::StartsWith(line, "some ")) continue;
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits("total=", 1));
    return ParseFigure(parts.second);
  }
  return std::nullopt;
}

std::optional<uint64_t> ReadGroupStallUs(const Readings& readings) {
  for (const Group& group : MemoryGroups(readings)) {
    if (!group.version_2) continue;
    for (const std::string& path : {group.path, std::string("/")}) {
      const std::string folder = absl::StrCat(group.hierarchy, path == "/" ? "" : path);
      // The root of all has none of this: its figures are those of the whole system.
      if (!readings.Number(absl::StrCat(folder, "/memory.current"))) continue;
      return ReadStallUs(readings, absl::StrCat(folder, "/memory.pressure"));
    }
  }
  return std::nullopt;
}

}  // namespace cairn
