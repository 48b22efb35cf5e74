#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tiers/device.h"
#include "tiers/pinned_tier.h"

namespace cairn::micro {

// What a directory is for, with as little around it as can be: keys that name tensors in L2, each
// of which stays where it is as long as somebody has a pin on it. Thread-safe.
class TensorMap {
 public:
  virtual ~TensorMap() = default;

  // Finds the key, which is there, and pins its tensor. Hashing the key is part of it.
  virtual void* Pin(const std::string& key) = 0;
  virtual void Unpin(void* pinned) = 0;
  // The key, which may be new, names a tensor in `extent` from here on. What it named before is
  // given back to L2 when its last pin is gone.
  virtual void Replace(const std::string& key, Extent extent) = 0;
};

inline constexpr uint64_t kTensorBytes = 4096;

// A map and the L2 of its own that its tensors lie in: bookkeeping, no byte of which is touched.
struct MapKind {
  std::string name;
  // Null: not in this build.
  std::function<std::unique_ptr<TensorMap>(PinnedTier* l2)> create;
};

// The store's own first, then what it is compared with, that of the first comparison first.
std::vector<MapKind> MapKinds();

// src/directory.h as a store has it. `as_get`: a look-up counts as a use, as that of a Get does,
// which both tiers' policies hear of; else it only pins, as that of a prefetch does.
std::unique_ptr<TensorMap> NewDirectoryMap(PinnedTier* l2, bool as_get);

// The entry of the maps it is compared with: counted by an atomic, so that an unpin takes no lock.
struct CountedTensor {
  explicit CountedTensor(Extent where) : extent(where) {}
  const Extent extent;
  std::atomic<uint32_t> holders = 1;  // The map is one.
};

inline void* Hold(CountedTensor* tensor) {
  tensor->holders.fetch_add(1, std::memory_order_relaxed);
  return tensor;
}
inline void LetGo(CountedTensor* tensor, PinnedTier* l2) {
  if (tensor->holders.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  l2->Release(tensor->extent);
  delete tensor;
}

}  // namespace cairn::micro
