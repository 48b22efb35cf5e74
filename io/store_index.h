#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/index.h"
#include "io/store_files.h"

namespace cairn {

// The index of a store, by its owner; made where there is none yet. kDataLoss, with what to do
// about it, when it is damaged, or gone from a store that was written to: an empty one in its place
// would give all tensors away.
absl::StatusOr<std::unique_ptr<Index>> OpenStoreIndex(const StoreFiles& files, uint64_t bytes_max);

// Whether anything was ever written behind the headers of the data files.
absl::StatusOr<bool> WasWritten(const StoreFiles& files);

// Where a new index is made while the old one is in its place; what a cut-off attempt left there is
// gone after the call. For the owner.
absl::StatusOr<std::string> VacantNewIndexPath(const StoreFiles& files);

// Puts the index from there, closed and synced, in the place of the old one, and removes that. A
// crash leaves the old or the new one, or, where the file system cannot exchange two directories,
// none: then OpenStoreIndex refuses, and a new one can be made.
absl::Status InstallNewIndex(const StoreFiles& files);

}  // namespace cairn
