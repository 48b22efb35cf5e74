#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/tier/job.h"

namespace cairn::bench {

// fio's sizes: "4k", "1m", "2g", "1.5m", "8192"; k, m, g, t are powers of 1024, with or without
// a b. Not "1MiB", which fio takes for a power of 1000.
absl::StatusOr<uint64_t> ParseBytes(std::string_view text);

// fio's times in seconds: "10", "1.5s", "500ms", "200us", "2m", "1h".
absl::StatusOr<double> ParseSeconds(std::string_view text);

// "64k/40:1m/40:16m/20"; shares left out divide what remains.
absl::StatusOr<std::vector<SizeShare>> ParseSplit(std::string_view text);

// A number without sign or unit, within the limits.
absl::StatusOr<uint64_t> ParseCount(std::string_view text, uint64_t min, uint64_t max);

// An option that jobs have, on the command line and in job files.
struct JobOption {
  const char* name;
  const char* value;  // What it takes, for help.
  const char* help;
  bool value_optional = false;  // The bare name means "1".
  absl::Status (*set)(std::string_view value, Job& job) = nullptr;
};
const std::vector<JobOption>& JobOptions();
const JobOption* FindJobOption(std::string_view name);

// Sets it and remembers it in job.given. The message of an error begins with "name=value".
absl::Status SetOption(std::string_view name, std::string_view value, Job& job);

// The one of `names` most like `name`; empty when none is like it.
std::string NearestName(std::string_view name, const std::vector<std::string>& names);

}  // namespace cairn::bench
