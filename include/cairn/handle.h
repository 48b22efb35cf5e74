#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "cairn/export.h"
#include "cairn/tensor.h"

namespace cairn {

class StoreCore;
struct Entry;

// A pin on a tensor's bytes: while it lives they neither move nor change. Move-only, always
// ready: no member ever blocks. Not a cache entry: hold it briefly, for pinned bytes cannot be
// evicted. It may outlive its store; the memory then lives until the last handle is gone.
//
// Thread-compatible: one thread at a time.
class CAIRN_EXPORT TensorHandle {
 public:
  TensorHandle();
  TensorHandle(TensorHandle&& other) noexcept;
  TensorHandle& operator=(TensorHandle&& other) noexcept;
  TensorHandle(const TensorHandle&) = delete;
  TensorHandle& operator=(const TensorHandle&) = delete;
  ~TensorHandle();

  bool valid() const { return entry_ != nullptr; }
  // The three below only when valid().
  const TensorView& view() const { return view_; }
  Level level() const { return Level::kL2Pinned; }
  // Whether this Get found the bytes in L2, or brought them from L3.
  Level found_at() const { return found_at_; }

  // Unpins; the handle is then invalid. Nothing to do when it is already.
  void Release();

  // Unpins once the GPU stream gets here. kUnimplemented until L1 is built: the handle then stays
  // valid and pinned.
  absl::Status ReleaseAfter(StreamRef stream);

 private:
  friend class StoreCore;
  TensorHandle(std::shared_ptr<StoreCore> core, Entry* entry, const TensorView& view,
               Level found_at);

  std::shared_ptr<StoreCore> core_;
  Entry* entry_ = nullptr;
  TensorView view_;
  Level found_at_ = Level::kL2Pinned;
};

// The promise that the tensors CountLeading counted can still be read: none of them is evicted
// until the lease is released, destroyed, or expires. Erase and a replacing Put are not held up.
// Move-only; thread-compatible.
class CAIRN_EXPORT Lease {
 public:
  Lease();
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease();

  void Release();

 private:
  friend class StoreCore;
  Lease(std::shared_ptr<StoreCore> core, uint64_t id);

  std::shared_ptr<StoreCore> core_;
  uint64_t id_ = 0;
};

}  // namespace cairn
