#include "bench/tier/job_options.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tools/offload/option_values.h"

namespace cairn::bench {
namespace {

constexpr uint64_t kBlockBytesMax = uint64_t{1} << 30;
constexpr uint64_t kBuffersBytesMax = uint64_t{4} << 30;
constexpr uint64_t kDepthMax = 4096;
constexpr uint64_t kClonesMax = 256;

template <typename Value>
struct Word {
  const char* text;
  Value value;
};

template <typename Value, size_t kCount>
absl::Status SetWord(std::string_view text, const std::array<Word<Value>, kCount>& words,
                     Value& target) {
  std::vector<std::string> known;
  for (const Word<Value>& word : words) {
    if (text == word.text) {
      target = word.value;
      return absl::OkStatus();
    }
    known.emplace_back(word.text);
  }
  return absl::InvalidArgumentError(absl::StrCat("one of ", absl::StrJoin(known, ", ")));
}

template <typename Integer>
absl::Status SetCount(std::string_view text, uint64_t min, uint64_t max, Integer& target) {
  CAIRN_ASSIGN_OR_RETURN(const uint64_t count, ParseCount(text, min, max));
  target = static_cast<Integer>(count);
  return absl::OkStatus();
}

absl::Status SetFlag(std::string_view text, bool& target) { return SetCount(text, 0, 1, target); }

absl::Status SetBytes(std::string_view text, uint64_t& target) {
  CAIRN_ASSIGN_OR_RETURN(target, ParseBytes(text));
  return absl::OkStatus();
}

absl::Status SetSeconds(std::string_view text, double& target) {
  CAIRN_ASSIGN_OR_RETURN(target, ParseSeconds(text));
  return absl::OkStatus();
}

absl::Status SetBlockBytes(std::string_view text, Job& job) {
  CAIRN_ASSIGN_OR_RETURN(const uint64_t bytes, ParseBytes(text));
  if (bytes > kBlockBytesMax) return absl::InvalidArgumentError("at most 1g");
  job.block_bytes = bytes;
  job.split.clear();
  return absl::OkStatus();
}

absl::Status SetVerify(std::string_view text, Job& job) {
  static constexpr std::array<Word<bool>, 5> kWords = {
      {{"pattern", true}, {"1", true}, {"null", false}, {"none", false}, {"0", false}}};
  if (SetWord(text, kWords, job.verify).ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "pattern (every byte is compared with what key and offset say) or none; the store's own "
      "checksums are verified in any case");
}

// fio's own.
std::vector<JobOption> FioOptions() {
  return {
      {"rw", "WORD", "read, write, randread, randwrite, rw, randrw", false,
       [](std::string_view text, Job& job) {
         static constexpr std::array<Word<Access>, 7> kWords = {
             {{"read", Access::kRead},
              {"write", Access::kWrite},
              {"randread", Access::kRandRead},
              {"randwrite", Access::kRandWrite},
              {"rw", Access::kReadWrite},
              {"readwrite", Access::kReadWrite},
              {"randrw", Access::kRandReadWrite}}};
         return SetWord(text, kWords, job.access);
       }},
      {"rwmixread", "PERCENT", "reads of a mixed job (50)", false,
       [](std::string_view text, Job& job) { return SetCount(text, 0, 100, job.read_percent); }},
      {"bs", "SIZE", "of a request; tier=store, pinned: of a tensor (4k)", false, SetBlockBytes},
      {"bssplit", "SIZE/PERCENT:...", "several sizes; each block has one and keeps it", false,
       [](std::string_view text, Job& job) -> absl::Status {
         CAIRN_ASSIGN_OR_RETURN(job.split, ParseSplit(text));
         return absl::OkStatus();
       }},
      {"size", "SIZE", "of all blocks that are worked on", false,
       [](std::string_view text, Job& job) { return SetBytes(text, job.size); }},
      {"io_size", "SIZE", "bytes to move (size)", false,
       [](std::string_view text, Job& job) { return SetBytes(text, job.io_size); }},
      {"iodepth", "N", "requests outstanding, by each thread (1)", false,
       [](std::string_view text, Job& job) { return SetCount(text, 1, kDepthMax, job.depth); }},
      {"numjobs", "N", "threads that each do the job (1)", false,
       [](std::string_view text, Job& job) { return SetCount(text, 1, kClonesMax, job.clones); }},
      {"runtime", "TIME", "ends the job then, whatever is left of it", false,
       [](std::string_view text, Job& job) { return SetSeconds(text, job.runtime_s); }},
      {"time_based", "0|1", "goes on until runtime, over and over", true,
       [](std::string_view text, Job& job) { return SetFlag(text, job.time_based); }},
      {"ramp_time", "TIME", "runs before anything counts", false,
       [](std::string_view text, Job& job) { return SetSeconds(text, job.ramp_s); }},
      {"directory", "PATH", "see below", false,
       [](std::string_view text, Job& job) {
         job.directory = std::string(text);
         return text.empty() ? absl::InvalidArgumentError("a path") : absl::OkStatus();
       }},
      {"verify", "pattern|none", "compare every byte that was read", true, SetVerify},
      {"fsync", "N", "the same as fdatasync", false,
       [](std::string_view text, Job& job) {
         return SetCount(text, 0, UINT32_MAX, job.sync_every);
       }},
      {"fdatasync", "N", "flush the device every N writes; tier=store: a flushed put", false,
       [](std::string_view text, Job& job) {
         return SetCount(text, 0, UINT32_MAX, job.sync_every);
       }},
      {"sqthread_poll", "0|1", "io_uring: a thread of the kernel's takes requests over", true,
       [](std::string_view text, Job& job) { return SetFlag(text, job.polls_submissions); }},
      {"hipri", "0|1", "io_uring: completions are polled for", true,
       [](std::string_view text, Job& job) { return SetFlag(text, job.polls_completions); }},
      {"group_reporting", "0|1", "one report for all jobs of a group", true,
       [](std::string_view text, Job& job) { return SetFlag(text, job.group_reporting); }},
      {"stonewall", "0|1", "wait for the jobs before it to end", true,
       [](std::string_view text, Job& job) { return SetFlag(text, job.stonewall); }},
      {"randseed", "N", "another random order (1)", false,
       [](std::string_view text, Job& job) { return SetCount(text, 0, UINT64_MAX, job.seed); }},
  };
}

// What fio has no word for.
std::vector<JobOption> OwnOptions() {
  return {
      {"durable", "memory|device|flushed", "tier=store: when a put is acknowledged (device)", false,
       [](std::string_view text, Job& job) {
         static constexpr std::array<Word<Durability>, 3> kWords = {
             {{"memory", Durability::kInMemory},
              {"device", Durability::kOnDevice},
              {"flushed", Durability::kFlushed}}};
         return SetWord(text, kWords, job.durability);
       }},
      {"tier", "nvme|store|pinned|gpu", "what is measured (nvme)", false,
       [](std::string_view text, Job& job) {
         static constexpr std::array<Word<Tier>, 4> kWords = {{{"nvme", Tier::kNvme},
                                                               {"store", Tier::kStore},
                                                               {"pinned", Tier::kPinned},
                                                               {"gpu", Tier::kGpu}}};
         return SetWord(text, kWords, job.tier);
       }},
      {"engine", "auto|uring|posix|null", "what moves the bytes (auto)", false,
       [](std::string_view text, Job& job) {
         static constexpr std::array<Word<Engine>, 4> kWords = {{{"auto", Engine::kAuto},
                                                                 {"uring", Engine::kUring},
                                                                 {"posix", Engine::kPosix},
                                                                 {"null", Engine::kNull}}};
         return SetWord(text, kWords, job.engine);
       }},
      {"l2", "SIZE", "tier=store: of its L2 (64m; at least 4 times what is outstanding)", false,
       [](std::string_view text, Job& job) -> absl::Status {
         CAIRN_RETURN_IF_ERROR(SetBytes(text, job.l2_bytes));
         if (job.l2_bytes >= StoreOptions::kL2BytesMin) return absl::OkStatus();
         return absl::InvalidArgumentError("at least 4m");
       }},
      {"buffers", "SIZE",
       "tier=store: memory that requests take in turn (twice what is outstanding)", false,
       [](std::string_view text, Job& job) -> absl::Status {
         CAIRN_RETURN_IF_ERROR(SetBytes(text, job.buffers_bytes));
         if (job.buffers_bytes <= kBuffersBytesMax) return absl::OkStatus();
         return absl::InvalidArgumentError("at most 4g");
       }},
  };
}

// Insertions, deletions and replacements from one to the other.
size_t Distance(std::string_view left, std::string_view right) {
  std::vector<size_t> row(right.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < left.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < right.size(); ++j) {
      const size_t replaced = diagonal + (left[i] == right[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

absl::StatusOr<uint64_t> ParseBytes(std::string_view text) {
  const absl::Status mistake =
      absl::InvalidArgumentError("a size over 0, such as 4k, 1m or 2g (powers of 1024)");
  const size_t number_size = std::min(text.find_first_not_of("0123456789."), text.size());
  std::string unit = absl::AsciiStrToLower(ToAbsl(text.substr(number_size)));
  if (unit.size() == 2 && unit[1] == 'b') unit.pop_back();
  if (unit.size() > 1) return mistake;
  absl::StatusOr<uint64_t> bytes =
      offload::ParseSize(absl::StrCat(ToAbsl(text.substr(0, number_size)), unit));
  if (!bytes.ok()) return mistake;
  return bytes;
}

absl::StatusOr<double> ParseSeconds(std::string_view text) {
  static constexpr std::array<Word<double>, 7> kUnits = {
      {{"", 1}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}}};
  const absl::Status mistake =
      absl::InvalidArgumentError("a time, such as 10, 10s, 500ms, 200us or 2m");
  const size_t number_size = std::min(text.find_first_not_of("0123456789."), text.size());
  double number = 0;
  double unit = 0;
  if (!absl::SimpleAtod(ToAbsl(text.substr(0, number_size)), &number)) return mistake;
  if (!SetWord(text.substr(number_size), kUnits, unit).ok()) return mistake;
  if (number * unit > 1e8) return mistake;  // Three years.
  return number * unit;
}

absl::StatusOr<std::vector<SizeShare>> ParseSplit(std::string_view text) {
  std::vector<SizeShare> split;
  uint64_t percent_given = 0;
  size_t open_shares = 0;
  for (const absl::string_view part : absl::StrSplit(ToAbsl(text), ':')) {
    const std::pair<absl::string_view, absl::string_view> words =
        absl::StrSplit(part, absl::MaxSplits('/', 1));
    CAIRN_ASSIGN_OR_RETURN(const uint64_t bytes, ParseBytes(ToStd(words.first)));
    if (bytes > kBlockBytesMax) return absl::InvalidArgumentError("sizes of at most 1g");
    SizeShare share = {.bytes = bytes};
    if (words.second.empty()) {
      ++open_shares;
    } else {
      CAIRN_RETURN_IF_ERROR(SetCount(ToStd(words.second), 1, 100, share.percent));
      percent_given += share.percent;
    }
    split.push_back(share);
  }
  const bool fits = open_shares == 0 ? percent_given == 100 : percent_given + open_shares <= 100;
  if (!fits) return absl::InvalidArgumentError("shares that add up to 100");
  for (SizeShare& share : split) {
    if (share.percent != 0) continue;
    share.percent = static_cast<uint32_t>((100 - percent_given) / open_shares);
    percent_given += share.percent;
    --open_shares;
  }
  return split;
}

absl::StatusOr<uint64_t> ParseCount(std::string_view text, uint64_t min, uint64_t max) {
  uint64_t count = 0;
  const bool digits = text.find_first_not_of("0123456789") == std::string_view::npos;
  if (digits && absl::SimpleAtoi(ToAbsl(text), &count) && count >= min && count <= max) {
    return count;
  }
  if (max == UINT64_MAX) return absl::InvalidArgumentError("a number");
  return absl::InvalidArgumentError(absl::StrCat("a number from ", min, " to ", max));
}

const std::vector<JobOption>& JobOptions() {
  static const auto& options = *new std::vector<JobOption>([] {
    std::vector<JobOption> all = FioOptions();
    for (const JobOption& option : OwnOptions()) all.push_back(option);
    return all;
  }());
  return options;
}

const JobOption* FindJobOption(std::string_view name) {
  for (const JobOption& option : JobOptions()) {
    if (name == option.name) return &option;
  }
  return nullptr;
}

absl::Status SetOption(std::string_view name, std::string_view value, Job& job) {
  const JobOption* const option = FindJobOption(name);
  if (option == nullptr) {
    std::vector<std::string> names;
    for (const JobOption& known : JobOptions()) names.emplace_back(known.name);
    const std::string nearest = NearestName(name, names);
    return absl::InvalidArgumentError(
        absl::StrCat("unknown option ", ToAbsl(name),
                     nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
  }
  const absl::Status status = option->set(value, job);
  if (!status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(name), "=", ToAbsl(value), ": expected ", status.message()));
  }
  job.given.emplace_back(name, value);
  return absl::OkStatus();
}

std::string NearestName(std::string_view name, const std::vector<std::string>& names) {
  std::string nearest;
  size_t nearest_distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& known : names) {
    const size_t distance = Distance(name.substr(0, 64), known);
    // Nothing is left of a name in which every letter was replaced.
    if (distance >= nearest_distance || distance >= known.size()) continue;
    nearest = known;
    nearest_distance = distance;
  }
  return nearest;
}

}  // namespace cairn::bench
