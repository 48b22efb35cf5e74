#pragma once

#include "absl/status/status.h"
#include "cairn/kv_layout.h"
#include "cairn/tensor.h"
#include "tiers/device.h"

namespace cairn {

// Store::CopyKvBlocks.
absl::Status CopyKvBlocksOnDevice(Device& device, StreamRef stream, const KvShape& shape,
                                  const KvTarget& target, const KvSource& source);

// What CopyKvBlocks refuses.
absl::Status ValidateKvCopy(const KvShape& shape, const KvPitch& target_pitch,
                            const KvPitch& source_pitch);

}  // namespace cairn
