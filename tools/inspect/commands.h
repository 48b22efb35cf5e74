#pragma once

#include "absl/status/statusor.h"
#include "tools/inspect/options.h"
#include "tools/inspect/output.h"
#include "tools/inspect/store_view.h"

namespace cairn::inspect {

// Each prints what it finds and returns the exit status; a status that is not OK means that it
// could not read.
absl::StatusOr<int> Summarize(const StoreView& view, const Options& options, Output& output);
absl::StatusOr<int> ListKeys(const StoreView& view, const Options& options, Output& output);
absl::StatusOr<int> ShowTensor(const StoreView& view, const Options& options, Output& output);
absl::StatusOr<int> ExplainTensor(const StoreView& view, const Options& options, Output& output);
absl::StatusOr<int> Verify(const StoreView& view, const Options& options, Output& output);
// The one that writes, and needs the store for itself.
absl::StatusOr<int> RebuildIndex(const Options& options, Output& output);

// Needs no store: the directory may be missing.
absl::StatusOr<int> ShowMachine(const Options& options, Output& output);

}  // namespace cairn::inspect
