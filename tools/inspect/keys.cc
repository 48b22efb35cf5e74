#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tools/inspect/commands.h"

namespace cairn::inspect {

absl::StatusOr<int> ListKeys(const StoreView& view, const Options& options, Output& output) {
  CAIRN_RETURN_IF_ERROR(view.index_status());
  const std::string prefix = TypedKey(options.prefix);
  nlohmann::ordered_json keys = nlohmann::ordered_json::array();
  const auto visit = [&](const StoreView::Entry& entry) {
    if (!entry.key.starts_with(prefix)) return true;
    const std::string* const text = view.FingerprintText(entry.fingerprint_id);
    if (options.fingerprint && (text == nullptr || *text != *options.fingerprint)) return true;
    if (!options.json) {
      output.Line(PrintableKey(entry.key));
      return output.wanted();
    }
    keys.push_back({{"key", PrintableKey(entry.key)},
                    {"fingerprint", text == nullptr ? "" : PrintableKey(*text)},
                    {"meta", entry.record.meta.ToString()},
                    {"bytes", entry.record.payload_bytes}});
    return true;
  };
  std::vector<StoreView::DamagedEntry> damaged;
  CAIRN_RETURN_IF_ERROR(view.ForEach(visit, damaged));
  if (options.json) {
    output.Json({{"store", options.path},
                 {"keys", std::move(keys)},
                 {"damaged_index_entries", damaged.size()}});
  }
  if (damaged.empty()) return kSound;
  PrintError(absl::StrCat(damaged.size(), " index entries are damaged (verify names them)"));
  return kDamaged;
}

}  // namespace cairn::inspect
