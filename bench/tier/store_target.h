#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bench/tier/job.h"
#include "bench/tier/session.h"

namespace cairn::bench {

// tier=store, pinned and gpu: a store of tier-bench's own, by key. Tensors of jobs that read are
// there before the first one is asked for: on L3 alone for tier=store, else in L2.
absl::StatusOr<std::unique_ptr<Target>> OpenStoreTarget(absl::Span<const Job* const> jobs,
                                                        const TargetOptions& options);

// PATH of the store that tier=store and tier=pinned use under the directory.
std::string StorePath(const std::string& directory);

// Tensors of one key space have one size each, and content that follows from the key where the
// job compares it.
std::string KeyPrefix(const Job& job);
std::string KeyOf(const Job& job, uint64_t unit);

}  // namespace cairn::bench
