#pragma once

#include <memory>

#include "src/eviction/policy.h"

namespace cairn {

// The policies, a file each, of one pool (class_pools.h), whose clock hears of requests first.
// The first makes them by name.
std::unique_ptr<EvictionPolicy> NewPolicyOfOnePool(EvictionKind kind,
                                                   EvictionPolicy::Describe describe,
                                                   ChainClock* clock);
std::unique_ptr<EvictionPolicy> NewLruPolicy(EvictionPolicy::Describe describe, ChainClock* clock);
std::unique_ptr<EvictionPolicy> NewClockPolicy(EvictionPolicy::Describe describe,
                                               ChainClock* clock);
std::unique_ptr<EvictionPolicy> NewArcPolicy(EvictionPolicy::Describe describe, ChainClock* clock);
std::unique_ptr<EvictionPolicy> NewS3FifoPolicy(EvictionPolicy::Describe describe,
                                                ChainClock* clock);
std::unique_ptr<EvictionPolicy> NewTunedPolicy(EvictionPolicy::Describe describe,
                                               ChainClock* clock);

}  // namespace cairn
