#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/tier/job.h"

namespace cairn::bench {

// The jobs of a job file as fio writes them: sections [name] of "option=value" or "option" lines;
// [global] sets what later jobs begin with; what follows # or ; is a comment. `defaults` is what
// the file begins with, `source` its name for messages.
//
// kInvalidArgument "SOURCE:LINE: what". Reads nothing but the text. The jobs are not validated.
absl::StatusOr<std::vector<Job>> ParseJobFile(std::string_view text, std::string_view source,
                                              const Job& defaults);

}  // namespace cairn::bench
