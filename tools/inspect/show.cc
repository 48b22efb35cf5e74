#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tools/inspect/commands.h"
#include "tools/inspect/key_query.h"
#include "tools/inspect/tensor_check.h"

namespace cairn::inspect {
namespace {

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
          {"expires", record.expires_unix_ms == 0 ? "never" : UtcText(record.expires_unix_ms)},
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

void PrintTensor(const nlohmann::ordered_json& tensor, Output& output) {
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
  TensorCheck check(&view, /*plan=*/{}, [](uint64_t) {});
  int exit_code = kSound;
  const auto describe = [&](IndexKey key, const std::optional<IndexRecord>& record) {
    if (!record) return nlohmann::ordered_json();
    const StoreView::Entry entry = {
        .fingerprint_id = key.fingerprint_id, .key = std::string(key.key), .record = *record};
    const TensorCheck::Result result = check.Check(entry);
    if (!result.damage.empty()) exit_code = kDamaged;
    return Describe(view, entry, result);
  };
  const auto print = [&](const nlohmann::ordered_json& tensor) { PrintTensor(tensor, output); };
  CAIRN_RETURN_IF_ERROR(Answer({.describe = describe, .print = print}, view, options, output));
  return exit_code;
}

}  // namespace cairn::inspect
