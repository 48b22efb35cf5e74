#include "tools/offload/trace.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"

namespace cairn::offload {
namespace {

using Json = nlohmann::json;

absl::Status Malformed(const std::string& what) { return absl::InvalidArgumentError(what); }

absl::StatusOr<const Json*> Field(const Json& object, const char* name) {
  const auto field = object.find(name);
  if (field == object.end()) return Malformed(absl::StrCat("no \"", name, "\""));
  return &*field;
}

absl::StatusOr<uint64_t> CountOf(const Json& object, const char* name) {
  CAIRN_ASSIGN_OR_RETURN(const Json* field, Field(object, name));
  if (!field->is_number_integer()) {
    return Malformed(absl::StrCat("\"", name, "\" is not an integer"));
  }
  if (!field->is_number_unsigned()) {
    return Malformed(absl::StrCat("\"", name, "\" is negative: ", field->get<int64_t>()));
  }
  return field->get<uint64_t>();
}

absl::StatusOr<double> Timestamp(const Json& object) {
  CAIRN_ASSIGN_OR_RETURN(const Json* field, Field(object, "timestamp"));
  if (!field->is_number()) return Malformed("\"timestamp\" is not a number");
  const double timestamp = field->get<double>();
  if (timestamp < 0) return Malformed(absl::StrCat("\"timestamp\" is negative: ", timestamp));
  return timestamp;
}

absl::StatusOr<std::vector<uint64_t>> BlockIds(const Json& object) {
  CAIRN_ASSIGN_OR_RETURN(const Json* field, Field(object, "hash_ids"));
  if (!field->is_array()) return Malformed("\"hash_ids\" is not a list");
  if (field->empty()) return Malformed("\"hash_ids\" is empty");
  std::vector<uint64_t> ids;
  ids.reserve(field->size());
  for (const Json& id : *field) {
    if (!id.is_number_unsigned()) {
      return Malformed(absl::StrCat("\"hash_ids\"[", ids.size(),
                                    "] is not a whole number from 0 to ", UINT64_MAX));
    }
    ids.push_back(id.get<uint64_t>());
  }
  return ids;
}

// The fields that only this format has.
absl::Status CheckBailian(const Json& object) {
  for (const char* name : {"chat_id", "parent_chat_id"}) {
    CAIRN_ASSIGN_OR_RETURN(const Json* field, Field(object, name));
    if (!field->is_number_integer() && !field->is_string() && !field->is_null()) {
      return Malformed(absl::StrCat("\"", name, "\" is neither a number nor a text"));
    }
  }
  CAIRN_ASSIGN_OR_RETURN(const Json* type, Field(object, "type"));
  if (!type->is_string()) return Malformed("\"type\" is not a text");
  return CountOf(object, "turn").status();
}

absl::StatusOr<Json> ParseObject(const std::string& line) {
  Json object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) return Malformed("not valid JSON");
  if (!object.is_object()) return Malformed("not a JSON object");
  return object;
}

absl::StatusOr<Request> ParseRequest(const Json& object, TraceFormat format) {
  Request request;
  CAIRN_ASSIGN_OR_RETURN(request.timestamp_s, Timestamp(object));
  CAIRN_ASSIGN_OR_RETURN(request.input_tokens, CountOf(object, "input_length"));
  CAIRN_ASSIGN_OR_RETURN(request.output_tokens, CountOf(object, "output_length"));
  CAIRN_ASSIGN_OR_RETURN(request.block_ids, BlockIds(object));
  if (format == TraceFormat::kBailian) {
    CAIRN_RETURN_IF_ERROR(CheckBailian(object));
  } else {
    if (object.contains("chat_id")) return Malformed("\"chat_id\", but the first line has none");
    request.timestamp_s /= 1000;
  }
  return request;
}

absl::Status AddLine(const std::string& line, Trace& trace) {
  CAIRN_ASSIGN_OR_RETURN(const Json object, ParseObject(line));
  if (trace.requests.empty()) {
    trace.format = object.contains("chat_id") ? TraceFormat::kBailian : TraceFormat::kMooncake;
  }
  CAIRN_ASSIGN_OR_RETURN(Request request, ParseRequest(object, trace.format));
  if (!trace.requests.empty() && request.timestamp_s < trace.requests.back().timestamp_s) {
    ++trace.timestamps_backwards;
  }
  trace.requests.push_back(std::move(request));
  return absl::OkStatus();
}

absl::Status CannotRead(const std::string& path, int error) {
  return absl::ErrnoToStatus(error == 0 ? EIO : error, absl::StrCat("cannot read trace ", path));
}

}  // namespace

const char* TraceFormatName(TraceFormat format) {
  switch (format) {
    case TraceFormat::kMooncake:
      return "mooncake";
    case TraceFormat::kBailian:
      return "bailian";
    case TraceFormat::kGenerated:
      return "generated";
  }
  return "?";
}

uint32_t DefaultBlockTokens(TraceFormat format) {
  return format == TraceFormat::kMooncake ? 512 : 16;
}

absl::StatusOr<Trace> ReadTrace(const std::string& path, uint64_t requests_max) {
  errno = 0;
  std::ifstream file(path);
  if (!file.is_open()) return CannotRead(path, errno);
  return ParseTrace(file, path, requests_max);
}

absl::StatusOr<Trace> ParseTrace(std::istream& lines, const std::string& name,
                                 uint64_t requests_max) {
  Trace trace;
  std::string line;
  uint64_t line_number = 0;
  while ((requests_max == 0 || trace.requests.size() < requests_max) && std::getline(lines, line)) {
    ++line_number;
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    const absl::Status added = AddLine(line, trace);
    if (!added.ok()) return Malformed(absl::StrCat(name, ":", line_number, ": ", added.message()));
  }
  if (lines.bad()) return CannotRead(name, errno);
  if (trace.requests.empty()) return Malformed(absl::StrCat(name, ": no requests in this file"));
  return trace;
}

}  // namespace cairn::offload
