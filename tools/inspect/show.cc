#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tools/inspect/commands.h"
#include "tools/inspect/tensor_check.h"

namespace cairn::inspect {
namespace {

std::string ExpiryText(int64_t unix_ms) {
  if (unix_ms == 0) return "never";
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::FromUnixMillis(unix_ms),
                          absl::UTCTimeZone());
}

nlohmann::ordered_json Describe(const StoreView& view, const StoreView::Entry& entry,
                                const TensorCheck::Result& result) {
  const IndexRecord& record = entry.record;
  const std::string* const text = view.FingerprintText(entry.fingerprint_id);
  const uint64_t file_bytes = view.files().data_file_bytes();
  nlohmann::ordered_json damage = nlohmann::ordered_json::array();
  for (const Damage& found : result.damage) {
    damage.push_back({{"what", found.what}, {"detail", found.detail}, {"offset", found.offset}});
  }
  return {{"key", PrintableKey(entry.key)},
          {"fingerprint", text == nullptr ? "" : PrintableKey(*text)},
          {"meta", record.meta.ToString()},
          {"bytes", record.payload_bytes},
          {"class", TensorClassName(record.tensor_class)},
          {"retention", record.retention == Retention::kKeep ? "keep" : "cache"},
          {"expires", ExpiryText(record.expires_unix_ms)},
          {"sequence", record.sequence},
          {"data_file", record.offset / file_bytes},
          {"data_file_path", view.files().data_file_path(record.offset / file_bytes)},
          {"offset_in_file", record.offset % file_bytes},
          {"offset", record.offset},
          {"extent_bytes", record.extent_bytes()},
          {"header_bytes", record.header_bytes},
          {"packed", record.packed()},
          {"checksum", absl::StrFormat("%016x", record.checksum)},
          {"header", result.header},
          {"payload", result.payload_sound ? "verified" : "damaged"},
          {"damaged", damage}};
}

void PrintText(const nlohmann::ordered_json& tensor, Output& output) {
  for (const auto& [name, value] : tensor.items()) {
    if (value.is_array()) {
      for (const nlohmann::ordered_json& damage : value) {
        output.Line(absl::StrCat("damaged         ", damage["what"].get<std::string>(), ": ",
                                 damage["detail"].get<std::string>(), " (offset ",
                                 damage["offset"].get<uint64_t>(), ")"));
      }
      continue;
    }
    const std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
    output.Line(absl::StrFormat("%-15s %s", name, shown));
  }
}

}  // namespace

absl::StatusOr<int> ShowTensor(const StoreView& view, const Options& options, Output& output) {
  CAIRN_RETURN_IF_ERROR(view.index_status());
  const std::string key = TypedKey(options.key);
  TensorCheck check(&view, /*plan=*/{}, [](uint64_t) {});
  nlohmann::ordered_json tensors = nlohmann::ordered_json::array();
  int exit_code = kSound;
  for (const Fingerprint& fingerprint : view.fingerprints()) {
    if (options.fingerprint && *options.fingerprint != fingerprint.text) continue;
    // Not TypedKey's, in case the key itself reads like an escape.
    for (const std::string& typed : {key, options.key}) {
      if (typed.empty()) continue;
      const absl::StatusOr<IndexRecord> record =
          view.Find({.fingerprint_id = fingerprint.id, .key = typed});
      if (absl::IsNotFound(record.status())) continue;
      if (!record.ok()) return record.status();
      const StoreView::Entry entry = {
          .fingerprint_id = fingerprint.id, .key = typed, .record = *record};
      const TensorCheck::Result result = check.Check(entry);
      if (!result.damage.empty()) exit_code = kDamaged;
      tensors.push_back(Describe(view, entry, result));
      break;
    }
  }
  if (tensors.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no tensor of the key ", PrintableKey(key), " in ", options.path));
  }
  if (options.json) {
    output.Json({{"store", options.path}, {"tensors", std::move(tensors)}});
    return exit_code;
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (i > 0) output.Line("");
    PrintText(tensors[i], output);
  }
  return exit_code;
}

}  // namespace cairn::inspect
