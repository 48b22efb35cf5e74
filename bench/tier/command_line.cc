#include "bench/tier/command_line.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/tier/job_file.h"
#include "bench/tier/job_options.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn::bench {
namespace {

constexpr uint64_t kPairsDefault = 5;
constexpr uint64_t kPairsMax = 100;

// An option of the whole run, which no job file may have.
struct RunOption {
  const char* name;
  const char* value;  // What it takes; nullptr: nothing.
  const char* help;
  bool value_optional;
  absl::Status (*set)(std::string_view value, Invocation& invocation);
};

absl::Status SetFormat(std::string_view value, Invocation& invocation) {
  if (value == "normal") {
    invocation.format = OutputFormat::kNormal;
  } else if (value == "json") {
    invocation.format = OutputFormat::kJson;
  } else if (value == "json+") {
    invocation.format = OutputFormat::kJsonPlus;
  } else {
    return absl::InvalidArgumentError("one of normal, json, json+");
  }
  return absl::OkStatus();
}

absl::Status SetPairs(std::string_view value, Invocation& invocation) {
  CAIRN_ASSIGN_OR_RETURN(const uint64_t pairs, value.empty()
                                                   ? absl::StatusOr<uint64_t>(kPairsDefault)
                                                   : ParseCount(value, 1, kPairsMax));
  invocation.compare_pairs = static_cast<uint32_t>(pairs);
  return absl::OkStatus();
}

const std::vector<RunOption>& KnownRunOptions() {
  static const auto& options = *new std::vector<RunOption>{
      {"output", "FILE", "instead of standard output", false,
       [](std::string_view value, Invocation& invocation) {
         invocation.output = std::string(value);
         return value.empty() ? absl::InvalidArgumentError("a file") : absl::OkStatus();
       }},
      {"output-format", "normal|json|json+", "fio's text or fio's JSON (normal)", false, SetFormat},
      {"status-interval", "TIME", "a line on standard error that often", false,
       [](std::string_view value, Invocation& invocation) -> absl::Status {
         CAIRN_ASSIGN_OR_RETURN(invocation.status_interval_s, ParseSeconds(value));
         return absl::OkStatus();
       }},
      {"compare-fio", "PAIRS", "alternate with fio (5 pairs of runs)", true, SetPairs},
      {"parse-only", nullptr, "check the jobs and exit", true,
       [](std::string_view, Invocation& invocation) {
         invocation.parse_only = true;
         return absl::OkStatus();
       }},
      {"help", nullptr, "this", true,
       [](std::string_view, Invocation& invocation) {
         invocation.help = true;
         return absl::OkStatus();
       }},
  };
  return options;
}

const RunOption* FindRunOption(std::string_view name) {
  for (const RunOption& option : KnownRunOptions()) {
    if (name == option.name) return &option;
  }
  return nullptr;
}

absl::Status Unknown(std::string_view name) {
  std::vector<std::string> names = {"name"};
  for (const JobOption& known : JobOptions()) names.emplace_back(known.name);
  for (const RunOption& known : KnownRunOptions()) names.emplace_back(known.name);
  const std::string nearest = NearestName(name, names);
  return absl::InvalidArgumentError(
      absl::StrCat("unknown option --", ToAbsl(name),
                   nearest.empty() ? " (--help lists the options)"
                                   : absl::StrCat("; did you mean --", nearest, "?")));
}

class CommandLineParser {
 public:
  CommandLineParser(absl::Span<const std::string> words, const FileReader& read_file)
      : words_(words), read_file_(read_file) {}

  absl::StatusOr<Invocation> Parse() {
    while (next_ < words_.size()) {
      const std::string_view word = words_[next_++];
      if (!word.starts_with("--")) {
        CAIRN_RETURN_IF_ERROR(File(std::string(word)));
        continue;
      }
      const size_t equals = word.find('=');
      const std::string_view name = word.substr(2, equals == word.npos ? equals : equals - 2);
      std::optional<std::string_view> value;
      if (equals != word.npos) value = word.substr(equals + 1);
      CAIRN_RETURN_IF_ERROR(Option(name, value));
      if (invocation_.help) return Invocation{.help = true};
    }
    EndJob();
    if (invocation_.jobs.empty()) {
      return absl::InvalidArgumentError("no job: give --name=... or a job file");
    }
    for (const Job& job : invocation_.jobs) CAIRN_RETURN_IF_ERROR(Validate(job));
    return std::move(invocation_);
  }

 private:
  absl::Status File(const std::string& path) {
    EndJob();
    CAIRN_ASSIGN_OR_RETURN(const std::string text, read_file_(path));
    CAIRN_ASSIGN_OR_RETURN(std::vector<Job> jobs, ParseJobFile(text, path, global_));
    for (Job& job : jobs) invocation_.jobs.push_back(std::move(job));
    return absl::OkStatus();
  }

  // The value behind "=", or else the next word.
  absl::StatusOr<std::string_view> ValueOf(std::string_view name,
                                           std::optional<std::string_view> value) {
    if (value.has_value()) return *value;
    if (next_ < words_.size() && !words_[next_].starts_with("--")) return words_[next_++];
    return absl::InvalidArgumentError(absl::StrCat("--", ToAbsl(name), " takes a value"));
  }

  absl::Status Option(std::string_view name, std::optional<std::string_view> value) {
    if (name == "name") {
      CAIRN_ASSIGN_OR_RETURN(const std::string_view job_name, ValueOf(name, value));
      EndJob();
      if (job_name.empty()) return absl::InvalidArgumentError("--name= takes a name");
      if (job_name == "global") return absl::OkStatus();
      job_ = global_;
      job_->name = std::string(job_name);
      return absl::OkStatus();
    }
    if (const RunOption* option = FindRunOption(name)) return SetRun(*option, value);
    const JobOption* const option = FindJobOption(name);
    if (option == nullptr) return Unknown(name);
    std::string_view text = "1";
    if (value.has_value() || !option->value_optional) {
      CAIRN_ASSIGN_OR_RETURN(text, ValueOf(name, value));
    }
    const absl::Status status = SetOption(name, text, job_.has_value() ? *job_ : global_);
    if (status.ok()) return status;
    return absl::InvalidArgumentError(absl::StrCat("--", status.message()));
  }

  absl::Status SetRun(const RunOption& option, std::optional<std::string_view> value) {
    if (option.value == nullptr && value.has_value()) {
      return absl::InvalidArgumentError(absl::StrCat("--", option.name, " takes no value"));
    }
    std::string_view text;
    if (value.has_value() || !option.value_optional) {
      CAIRN_ASSIGN_OR_RETURN(text, ValueOf(option.name, value));
    }
    const absl::Status status = option.set(text, invocation_);
    if (status.ok()) return status;
    return absl::InvalidArgumentError(
        absl::StrCat("--", option.name, "=", ToAbsl(text), ": expected ", status.message()));
  }

  void EndJob() {
    if (job_.has_value()) invocation_.jobs.push_back(*std::move(job_));
    job_.reset();
  }

  const absl::Span<const std::string> words_;
  const FileReader& read_file_;
  size_t next_ = 0;
  Job global_;
  std::optional<Job> job_;
  Invocation invocation_;
};

constexpr const char* kUsage = R"(tier-bench [OPTION...] --name=JOB [OPTION...] [--name=JOB ...]
tier-bench [OPTION...] FILE.job...

Measures the tiers of a Cairn store in fio's words, and beside fio:
  tier-bench --directory=/nvme/bench --tier=store --rw=randread --bs=1m --size=2g --iodepth=4 \
             --runtime=5 --time_based --name=get --compare-fio
Sizes: k, m, g are powers of 1024. Times: seconds, or us, ms, s, m, h.
Options before the first --name are for all jobs; those up to the next with stonewall
run together.
Exit status: 0 fine, 1 an I/O error or a verify failure, 2 a mistake in the input.
)";

constexpr const char* kMeanings = R"(
Tiers:
  nvme    requests to the store's I/O engine, on data files: no key, no checksum
  store   PutFrom and GetInto by key, between the job's memory and L3: index, checksums, all of it
          (durable=memory: Put); a read that L2 served is counted and said
  pinned  Put and GetInto by key, between the job's memory and L2, one at a time in each thread
  gpu     GetAsync by key, from L2 to L1, which takes little more than what is outstanding; without
          a GPU HostDevice stands in, which is said
engine=null moves nothing: what it measures is tier-bench itself.

DIRECTORY is either a store, of which tier=nvme reads the data files and writes none, or a folder
where tier-bench makes stores of its own (tier-bench.nvme, tier-bench.store), which it overwrites,
recreates and leaves there for the next run. Each takes the size of the jobs and about a fifth more
(tensors of 4k: a few times as much), at least 64 MiB, and is written once over its whole length
before anything is measured.

--compare-fio runs fio, then the jobs, and so on, each for the jobs' runtime (2 s without one). fio
gets io_uring, O_DIRECT, registered buffers and files, and the files that the jobs read; for jobs of
tier=store that write it works on tier-bench.nvme. The buffers of both are the same huge pages, of
which root can have some reserved; where they cannot be had both sides run with small ones, which is
said. (The first thread's are the same; more threads of ours have theirs beside.)

The output is fio's. What fio has no word for is below each job as "tensor store", in JSON as
jobs[].tensor_store and jobs[].percent_of_fio, fio_pairs, pair_medians. At its end is a table:
  clat    from submission until the job's thread has seen the completion, as in fio; for a put,
          until it is as durable as was asked. With fio: the medians of the pairs
  cpu     of the whole process, the engine's threads too, per GiB that all jobs moved together; of
          fio what it says itself, which leaves out work the kernel does for it in other threads
  of the limit
          tier-bench's rate by fio's: the median of the pairs' ratios. For tier=pinned by the rate
          of memcpy of such blocks by as many threads, for tier=gpu of bare copies of such blocks to
          the GPU, as many at a time, measured for half a second just before
A line with ! says why figures are not those of their tier alone: the page cache, L2 before L3.
usr, sys and ctx are of the whole process while the job was measured.
)";

}  // namespace

absl::StatusOr<Invocation> ParseCommandLine(absl::Span<const std::string> words,
                                            const FileReader& read_file) {
  return CommandLineParser(words, read_file).Parse();
}

std::string HelpText() {
  std::string text = kUsage;
  text += "\nOf a job, here and in job files:\n";
  const auto add = [&text](const auto& option) {
    std::string words = option.name;
    if (option.value != nullptr && option.value_optional) {
      absl::StrAppend(&words, "[=", option.value, "]");
    } else if (option.value != nullptr) {
      absl::StrAppend(&words, "=", option.value);
    }
    absl::StrAppendFormat(&text, "  --%-32s %s\n", words, option.help);
  };
  add(JobOption{.name = "name", .value = "JOB", .help = "begins a job"});
  for (const JobOption& option : JobOptions()) add(option);
  text += "\nOf the run:\n";
  for (const RunOption& option : KnownRunOptions()) add(option);
  return text + kMeanings;
}

}  // namespace cairn::bench
