#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cairn/journal.h"
#include "io/journal_file.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tools/inspect/commands.h"
#include "tools/inspect/key_query.h"

namespace cairn::inspect {
namespace {

using Json = nlohmann::ordered_json;

Json DescribePlace(const StoreView& view, const IndexRecord& record) {
  const uint64_t file_bytes = view.files().data_file_bytes();
  return {{"data_file_path", view.files().data_file_path(record.offset / file_bytes)},
          {"offset_in_file", record.offset % file_bytes},
          {"bytes", record.payload_bytes}};
}

Json DescribeHistory(const std::vector<JournalRecord>& journal, uint64_t key_hash) {
  Json history = Json::array();
  for (const JournalRecord& record : journal) {
    if (record.key_hash != key_hash) continue;
    history.push_back({{"time", UtcText(record.unix_ms)},
                       {"decision", DecisionName(record.decision)},
                       {"text", DecisionText(record.decision)},
                       {"bytes", record.bytes}});
  }
  return history;
}

void PrintDecisions(const Json& tensor, Output& output) {
  output.Line(absl::StrFormat("%-15s %s", "key", tensor["key"].get<std::string>()));
  output.Line(absl::StrFormat("%-15s %s", "fingerprint", tensor["fingerprint"].get<std::string>()));
  const Json& place = tensor["l3"];
  output.Line(absl::StrFormat(
      "%-15s %s", "on L3",
      place.is_null() ? "no"
                      : absl::StrCat(place["data_file_path"].get<std::string>(), ", offset ",
                                     place["offset_in_file"].get<uint64_t>(), ", ",
                                     place["bytes"].get<uint64_t>(), " bytes")));
  for (const Json& entry : tensor["history"]) {
    output.Line(absl::StrFormat("%s  %s (%d bytes)", entry["time"].get<std::string>(),
                                entry["text"].get<std::string>(), entry["bytes"].get<uint64_t>()));
  }
  if (tensor["history"].empty()) output.Line("The journal does not know it, or not any more.");
}

}  // namespace

absl::StatusOr<int> ExplainTensor(const StoreView& view, const Options& options, Output& output) {
  // Without one there is still the place to tell.
  std::vector<JournalRecord> journal;
  absl::StatusOr<std::vector<JournalRecord>> read = ReadJournal(options.path, view.files().uuid());
  if (read.ok()) {
    journal = *std::move(read);
  } else if (!absl::IsNotFound(read.status())) {
    return read.status();
  }
  const auto describe = [&](IndexKey key, const std::optional<IndexRecord>& record) {
    Json history = DescribeHistory(journal, HashKey(key));
    if (!record && history.empty()) return Json();
    return Json{{"key", PrintableKey(key.key)},
                {"fingerprint", PrintableKey(*view.FingerprintText(key.fingerprint_id))},
                {"l3", record ? DescribePlace(view, *record) : Json()},
                {"history", std::move(history)}};
  };
  const auto print = [&](const Json& tensor) { PrintDecisions(tensor, output); };
  CAIRN_RETURN_IF_ERROR(Answer({.describe = describe, .print = print}, view, options, output));
  return kSound;
}

}  // namespace cairn::inspect
