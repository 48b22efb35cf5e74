#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "cairn/journal.h"
#include "io/journal_file.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tools/inspect/commands.h"

namespace cairn::inspect {
namespace {

using Json = nlohmann::ordered_json;

std::string TimeText(int64_t unix_ms) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::FromUnixMillis(unix_ms),
                          absl::UTCTimeZone());
}

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
    history.push_back({{"time", TimeText(record.unix_ms)},
                       {"decision", DecisionName(record.decision)},
                       {"text", DecisionText(record.decision)},
                       {"bytes", record.bytes}});
  }
  return history;
}

void PrintText(const Json& tensor, Output& output) {
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
  CAIRN_RETURN_IF_ERROR(view.index_status());
  // Without one there is still the place to tell.
  std::vector<JournalRecord> journal;
  absl::StatusOr<std::vector<JournalRecord>> read = ReadJournal(options.path, view.files().uuid());
  if (read.ok()) {
    journal = *std::move(read);
  } else if (!absl::IsNotFound(read.status())) {
    return read.status();
  }
  const std::string key = TypedKey(options.key);
  Json tensors = Json::array();
  for (const Fingerprint& fingerprint : view.fingerprints()) {
    if (options.fingerprint && *options.fingerprint != fingerprint.text) continue;
    // Not TypedKey's, in case the key itself reads like an escape.
    for (const std::string& typed : {key, options.key}) {
      if (typed.empty()) continue;
      const IndexKey index_key = {.fingerprint_id = fingerprint.id, .key = typed};
      const absl::StatusOr<IndexRecord> record = view.Find(index_key);
      if (!record.ok() && !absl::IsNotFound(record.status())) return record.status();
      Json history = DescribeHistory(journal, HashKey(index_key));
      if (!record.ok() && history.empty()) continue;
      tensors.push_back({{"key", PrintableKey(typed)},
                         {"fingerprint", PrintableKey(fingerprint.text)},
                         {"l3", record.ok() ? DescribePlace(view, *record) : Json()},
                         {"history", std::move(history)}});
      break;
    }
  }
  if (tensors.empty()) {
    return absl::NotFoundError(
        absl::StrCat("nothing is known of the key ", PrintableKey(key), " in ", options.path));
  }
  if (options.json) {
    output.Json({{"store", options.path}, {"tensors", std::move(tensors)}});
    return kSound;
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (i > 0) output.Line("");
    PrintText(tensors[i], output);
  }
  return kSound;
}

}  // namespace cairn::inspect
