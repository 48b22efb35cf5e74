#include "src/eviction/policy.h"

#include "src/base/check.h"
#include "src/eviction/policies.h"

namespace cairn {

std::unique_ptr<EvictionPolicy> NewPolicyOfOnePool(EvictionKind kind,
                                                   EvictionPolicy::Describe describe,
                                                   ChainClock* clock) {
  switch (kind) {
    case EvictionKind::kTuned:
      return NewTunedPolicy(describe, clock);
    case EvictionKind::kLru:
      return NewLruPolicy(describe, clock);
    case EvictionKind::kClock:
      return NewClockPolicy(describe, clock);
    case EvictionKind::kArc:
      return NewArcPolicy(describe, clock);
    case EvictionKind::kS3Fifo:
      return NewS3FifoPolicy(describe, clock);
  }
  CAIRN_CHECK(false);
  return nullptr;
}

}  // namespace cairn
