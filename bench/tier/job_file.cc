#include "bench/tier/job_file.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "bench/tier/job_options.h"
#include "src/base/strings.h"

namespace cairn::bench {
namespace {

constexpr size_t kJobsMax = 4096;

class JobFileParser {
 public:
  explicit JobFileParser(const Job& defaults) : global_(defaults) {}

  absl::Status Line(absl::string_view line) {
    line = absl::StripAsciiWhitespace(line.substr(0, line.find_first_of("#;")));
    if (line.empty()) return absl::OkStatus();
    if (line.front() == '[') return Section(line);
    if (!in_section_) {
      return absl::InvalidArgumentError("an option before the first [section]");
    }
    return Option(line);
  }

  std::vector<Job> Take() {
    EndJob();
    return std::move(jobs_);
  }

 private:
  absl::Status Section(absl::string_view line) {
    EndJob();
    if (line.size() < 3 || line.back() != ']') {
      return absl::InvalidArgumentError("a section is [name]");
    }
    if (jobs_.size() >= kJobsMax) {
      return absl::InvalidArgumentError(absl::StrCat("more than ", kJobsMax, " jobs"));
    }
    in_section_ = true;
    const absl::string_view name = line.substr(1, line.size() - 2);
    if (name == "global") return absl::OkStatus();
    job_ = global_;
    job_->name = std::string(name);
    return absl::OkStatus();
  }

  absl::Status Option(absl::string_view line) {
    const std::pair<absl::string_view, absl::string_view> words =
        absl::StrSplit(line, absl::MaxSplits('=', 1));
    const std::string_view name = ToStd(absl::StripAsciiWhitespace(words.first));
    const std::string_view value = ToStd(absl::StripAsciiWhitespace(words.second));
    Job& job = job_.has_value() ? *job_ : global_;
    if (line.find('=') != absl::string_view::npos) return SetOption(name, value, job);
    const JobOption* const option = FindJobOption(name);
    if (option != nullptr && !option->value_optional) {
      return absl::InvalidArgumentError(
          absl::StrCat(ToAbsl(name), " takes a value: ", ToAbsl(name), "=", option->value));
    }
    return SetOption(name, "1", job);
  }

  void EndJob() {
    if (job_.has_value()) jobs_.push_back(*std::move(job_));
    job_.reset();
  }

  Job global_;
  std::optional<Job> job_;  // Empty in a [global] section.
  bool in_section_ = false;
  std::vector<Job> jobs_;
};

}  // namespace

absl::StatusOr<std::vector<Job>> ParseJobFile(std::string_view text, std::string_view source,
                                              const Job& defaults) {
  JobFileParser parser(defaults);
  size_t number = 0;
  for (const absl::string_view line : absl::StrSplit(ToAbsl(text), '\n')) {
    ++number;
    const absl::Status status = parser.Line(line);
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(ToAbsl(source), ":", number, ": ", status.message()));
    }
  }
  std::vector<Job> jobs = parser.Take();
  if (jobs.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(source), ": no job in it"));
  }
  return jobs;
}

}  // namespace cairn::bench
