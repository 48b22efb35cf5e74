#pragma once

#include <memory>

#include "src/eviction/policy.h"

namespace cairn {

// The policies, a file each. NewEvictionPolicy makes them by name.
std::unique_ptr<EvictionPolicy> NewLruPolicy(EvictionPolicy::Describe describe);
std::unique_ptr<EvictionPolicy> NewClockPolicy(EvictionPolicy::Describe describe);
std::unique_ptr<EvictionPolicy> NewArcPolicy(EvictionPolicy::Describe describe);
std::unique_ptr<EvictionPolicy> NewS3FifoPolicy(EvictionPolicy::Describe describe);
std::unique_ptr<EvictionPolicy> NewTunedPolicy(EvictionPolicy::Describe describe);

}  // namespace cairn
