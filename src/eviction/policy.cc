#include "src/eviction/policy.h"

#include "src/base/check.h"
#include "src/eviction/policies.h"

namespace cairn {

std::unique_ptr<EvictionPolicy> NewEvictionPolicy(EvictionKind kind,
                                                  EvictionPolicy::Describe describe) {
  switch (kind) {
    case EvictionKind::kTuned:
      return NewTunedPolicy(describe);
    case EvictionKind::kLru:
      return NewLruPolicy(describe);
    case EvictionKind::kClock:
      return NewClockPolicy(describe);
    case EvictionKind::kArc:
      return NewArcPolicy(describe);
    case EvictionKind::kS3Fifo:
      return NewS3FifoPolicy(describe);
  }
  CAIRN_CHECK(false);
  return nullptr;
}

}  // namespace cairn
