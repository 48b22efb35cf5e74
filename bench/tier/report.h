#pragma once

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "bench/tier/measurement.h"

namespace cairn::bench {

// The reports as fio prints them, our own figures in a block below each job's, and the table.
std::string ReportText(absl::Span<const JobReport> reports);

// A line for each direction of each job, and below it what it is measured by: fio's medians where
// they were taken, memcpy for tier=pinned.
std::string SummaryTable(absl::Span<const JobReport> reports);

// The reports as fio's JSON: its tree and its names, our own figures under "tensor_store".
// `bins`: with the histograms, as json+ has them.
std::string ReportJson(absl::Span<const JobReport> reports, bool bins);

}  // namespace cairn::bench
