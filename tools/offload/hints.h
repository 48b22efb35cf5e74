#pragma once

#include <cstddef>
#include <vector>

#include "absl/types/span.h"
#include "cairn/store.h"
#include "src/base/mutex.h"
#include "tools/offload/trace.h"

namespace cairn::offload {

// Tells the store of the requests that wait, as a host's queue knows them, so that it loads what
// they need while others are served. Thread-safe.
class Hints {
 public:
  // `ahead`: of how many requests that wait at most; 0: of none.
  Hints(Store& store, absl::Span<const Request> requests, size_t ahead)
      : store_(store), requests_(requests), ahead_(ahead), tokens_(requests.size()) {}

  // Requests [0, arrived) have come, and those before `next` are taken.
  void Announce(size_t next, size_t arrived) ABSL_LOCKS_EXCLUDED(mutex_);
  // What was announced of it and did not begin is needed no more.
  void Served(size_t request) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void AnnounceOne(size_t request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Store& store_;
  const absl::Span<const Request> requests_;
  const size_t ahead_;
  Mutex mutex_;
  size_t announced_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<PrefetchToken> tokens_ ABSL_GUARDED_BY(mutex_);  // By request; 0: none.
};

}  // namespace cairn::offload
