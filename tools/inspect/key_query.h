#pragma once

#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "nlohmann/json.hpp"
#include "tools/inspect/options.h"
#include "tools/inspect/output.h"
#include "tools/inspect/store_view.h"

namespace cairn::inspect {

// How a command about one key describes a tensor, and prints that where not all is to be JSON.
struct KeyQuery {
  // Of a key of which the index has no record: std::nullopt. Null: it is not the one meant.
  absl::FunctionRef<nlohmann::ordered_json(IndexKey, const std::optional<IndexRecord>&)> describe;
  absl::FunctionRef<void(const nlohmann::ordered_json& tensor)> print;
};

// Answers for options.key in every fingerprint, or in options.fingerprint. What was typed is read
// as printed, or else as it stands: a key may itself read like an escape. kNotFound: no tensor.
absl::Status Answer(const KeyQuery& query, const StoreView& view, const Options& options,
                    Output& output);

}  // namespace cairn::inspect
