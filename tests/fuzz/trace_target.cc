// Requests as JSON lines, of both schemas (tools/offload/trace.h).

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <sstream>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "src/base/check.h"
#include "tests/fuzz/target.h"
#include "tools/offload/trace.h"

namespace cairn::fuzz {
namespace {

using offload::Request;
using offload::Trace;
using offload::TraceFormat;

absl::StatusOr<Trace> Parse(std::string_view text, uint64_t requests_max) {
  std::istringstream lines{std::string(text)};
  return offload::ParseTrace(lines, "input", requests_max);
}

// The trace as a file of its format.
std::string Written(const Trace& trace) {
  const bool bailian = trace.format == TraceFormat::kBailian;
  std::string text;
  for (const Request& request : trace.requests) {
    // Mooncake counts milliseconds.
    const double timestamp =
        bailian ? request.timestamp_s : std::min(request.timestamp_s * 1000, DBL_MAX);
    absl::StrAppendFormat(&text, R"({"timestamp": %.17g, "input_length": %u, "output_length": %u)",
                          timestamp, request.input_tokens, request.output_tokens);
    if (bailian) text += R"(, "chat_id": 1, "parent_chat_id": -1, "type": "text", "turn": 1)";
    absl::StrAppend(&text, R"(, "hash_ids": [)", absl::StrJoin(request.block_ids, ","), "]}\n");
  }
  return text;
}

void CheckSame(const Trace& trace, const Trace& again) {
  CAIRN_CHECK(trace.format == again.format);
  CAIRN_CHECK(trace.requests.size() == again.requests.size());
  for (size_t i = 0; i < trace.requests.size(); ++i) {
    const Request& a = trace.requests[i];
    const Request& b = again.requests[i];
    CAIRN_CHECK(a.input_tokens == b.input_tokens && a.output_tokens == b.output_tokens);
    CAIRN_CHECK(a.block_ids == b.block_ids);
    // A thousandth of a number, times a thousand, can be its neighbour.
    CAIRN_CHECK(std::abs(a.timestamp_s - b.timestamp_s) <= 4 * DBL_EPSILON * a.timestamp_s);
  }
}

}  // namespace

bool Examine(std::string_view input) {
  const absl::StatusOr<Trace> trace = Parse(input, 0);
  if (!trace.ok()) {
    CAIRN_CHECK(absl::IsInvalidArgument(trace.status()));
    CAIRN_CHECK(trace.status().message().find("input:") == 0);
    return false;
  }
  CAIRN_CHECK(!trace->requests.empty());
  CAIRN_CHECK(trace->format != TraceFormat::kGenerated);
  CAIRN_CHECK(trace->timestamps_backwards < trace->requests.size());
  size_t ids = 0;
  for (const Request& request : trace->requests) {
    CAIRN_CHECK(!request.block_ids.empty());
    CAIRN_CHECK(std::isfinite(request.timestamp_s) && request.timestamp_s >= 0);
    ids += request.block_ids.size();
  }
  CAIRN_CHECK(ids <= input.size());  // An id takes a digit and a comma.
  const absl::StatusOr<Trace> again = Parse(Written(*trace), 0);
  CAIRN_CHECK(again.ok());
  CheckSame(*trace, *again);
  const absl::StatusOr<Trace> first = Parse(input, 1);
  CAIRN_CHECK(first.ok() && first->requests.size() == 1);
  CAIRN_CHECK(first->requests.front().block_ids == trace->requests.front().block_ids);
  return true;
}

std::vector<std::string> Seeds() { return {}; }

}  // namespace cairn::fuzz
