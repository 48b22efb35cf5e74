#pragma once

#include <cstdint>
#include <memory>

namespace cairn {

// A copy's place in the order of eviction, embedded in what it belongs to. The policy's own while
// tracked.
struct EvictionNode {
  EvictionNode* colder = nullptr;
  EvictionNode* warmer = nullptr;

  bool tracked() const { return colder != nullptr; }
};

// Which copy leaves a tier next. Bookkeeping only: no lock, no memory of its own per copy, no
// knowledge of what may leave (the caller asks again when it may not). The simulator of the tests
// and the store run the same code.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  // A copy came into the tier.
  virtual void Track(EvictionNode* node) = 0;
  // It was used. Nothing to do when it is not tracked.
  virtual void Touch(EvictionNode* node) = 0;
  // It left. Nothing to do when it is not tracked.
  virtual void Forget(EvictionNode* node) = 0;
  // The next to leave, no longer tracked; null when nothing is.
  virtual EvictionNode* Pick() = 0;

  virtual uint64_t size() const = 0;
};

// Least recently used.
std::unique_ptr<EvictionPolicy> NewLruPolicy();

}  // namespace cairn
