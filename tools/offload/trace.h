#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace cairn::offload {

// One prompt as a model host sees it.
struct Request {
  double timestamp_s = 0;
  uint64_t input_tokens = 0;
  uint64_t output_tokens = 0;
  // One id per block of the prompt, chained: an id names its block and all before it.
  std::vector<uint64_t> block_ids;
};

enum class TraceFormat : uint8_t {
  kMooncake,   // timestamp in ms, input_length, output_length, hash_ids of 512-token blocks.
  kBailian,    // Qwen-Bailian: timestamp in s, chat_id, turn, type; hash_ids of 16-token blocks.
  kGenerated,  // Of workload.h.
};

const char* TraceFormatName(TraceFormat format);
// Tokens of one block where nobody says otherwise.
uint32_t DefaultBlockTokens(TraceFormat format);

struct Trace {
  TraceFormat format = TraceFormat::kMooncake;
  std::vector<Request> requests;
  // Requests that begin before the one in front of them; 0 in a sound trace. The order of the
  // file is kept.
  uint64_t timestamps_backwards = 0;
};

// Reads a trace of JSON lines; the fields of the first line tell its format. Stops after
// `requests_max` requests, leaving later lines unread; 0: all. Blank lines are passed over.
//
// kInvalidArgument "FILE:LINE: what" for a line that is no request of this format, or when there
// is no request at all; kNotFound and the like, naming the file, when it cannot be read.
absl::StatusOr<Trace> ReadTrace(const std::string& path, uint64_t requests_max);
// The same from a stream; messages call it `name`.
absl::StatusOr<Trace> ParseTrace(std::istream& lines, const std::string& name,
                                 uint64_t requests_max);

}  // namespace cairn::offload
