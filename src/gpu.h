#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "cairn/tensor.h"
#include "src/stats_recorder.h"
#include "src/tier_eviction.h"
#include "src/waiting_line.h"
#include "tiers/defragmenter.h"
#include "tiers/device.h"
#include "tiers/gpu_tier.h"

namespace cairn {

class StreamReleases;

// One of the store's GPUs: its device and, where the store has an L1, the memory there with its own
// room, order of eviction and moves. A tensor has a copy (L1Copy) in each that it was asked for on,
// and these know nothing of one another. Internally a Gpu* says which L1 is meant, and null L2.
struct Gpu {
  // `room_made`: as WaitingLine's `moved`.
  Gpu(std::unique_ptr<Device> its_device, std::function<void()> room_made);
  ~Gpu();

  int ordinal() const { return device->ordinal(); }

  // Constant once the store is open.
  const std::unique_ptr<Device> device;
  std::unique_ptr<GpuTier> l1;                 // Null, like the next two: l1_bytes_max is 0.
  std::unique_ptr<Defragmenter::Mover> mover;  // Of l1.
  std::unique_ptr<Defragmenter> defragmenter;
  // Of its streams, with an L1 or without. Ended before the directory, whose pins it holds.
  std::unique_ptr<StreamReleases> releases;

  // Of l1. Provide their own synchronization.
  TierEviction eviction = TierEviction::OfL1();
  WaitingLine line;  // Who waits for room.
  L1Recorder stats;
};

// In the order of StoreOptions::gpus; never empty.
using Gpus = std::vector<std::unique_ptr<Gpu>>;

// The GPU with this ordinal; without one that of the stream, and without either the first.
// kInvalidArgument, naming the ordinals: it is none of these, or the stream is another's.
absl::StatusOr<Gpu*> FindGpu(const Gpus& gpus, std::optional<int> ordinal,
                             std::optional<StreamRef> stream);

}  // namespace cairn
