#include "tools/inspect/key_query.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn::inspect {
namespace {

using Json = nlohmann::ordered_json;

// Null: none.
absl::StatusOr<Json> Ask(const KeyQuery& query, const StoreView& view, IndexKey key) {
  if (key.key.empty()) return Json();
  const absl::StatusOr<IndexRecord> found = view.Find(key);
  if (!found.ok() && !absl::IsNotFound(found.status())) return found.status();
  return query.describe(key, found.ok() ? std::optional(*found) : std::nullopt);
}

}  // namespace

absl::Status Answer(const KeyQuery& query, const StoreView& view, const Options& options,
                    Output& output) {
  CAIRN_RETURN_IF_ERROR(view.index_status());
  const std::string key = TypedKey(options.key);
  Json tensors = Json::array();
  for (const Fingerprint& fingerprint : view.fingerprints()) {
    if (options.fingerprint && *options.fingerprint != fingerprint.text) continue;
    CAIRN_ASSIGN_OR_RETURN(Json tensor, Ask(query, view, {fingerprint.id, key}));
    if (tensor.is_null()) {
      CAIRN_ASSIGN_OR_RETURN(tensor, Ask(query, view, {fingerprint.id, options.key}));
    }
    if (!tensor.is_null()) tensors.push_back(std::move(tensor));
  }
  if (tensors.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no tensor of the key ", PrintableKey(key), " is known in ", options.path));
  }
  if (options.json) {
    output.Json({{"store", options.path}, {"tensors", std::move(tensors)}});
    return absl::OkStatus();
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (i > 0) output.Line("");
    query.print(tensors[i]);
  }
  return absl::OkStatus();
}

}  // namespace cairn::inspect
