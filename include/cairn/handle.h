#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "cairn/export.h"
#include "cairn/tensor.h"

namespace cairn {

class StoreCore;
class StoreImpl;
struct Entry;
struct L1Copy;

// A pin on a tensor's bytes: while it lives they neither move nor change. Move-only, always
// ready: no member blocks but CopyTo. Not a cache entry: hold it briefly, for pinned bytes cannot
// be evicted. It may outlive its store; the memory then lives until the last handle is gone.
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
  // Where the bytes are that view() is of. In L1 of a GPU, which view().device names, they are its
  // memory, for its streams alone.
  Level level() const { return l1_ == nullptr ? Level::kL2Pinned : Level::kL1Gpu; }
  // Where this Get found the bytes: it brought them from there if that is not level().
  Level found_at() const { return found_at_; }

  // Copies the bytes to host memory of view().size bytes, wherever they are, and waits for the
  // copy: the one member that does. What a Get with a consumer stream may still have under way
  // comes first. kInvalidArgument for another size or an empty handle; kUnavailable when the device
  // refuses.
  absl::Status CopyTo(absl::Span<std::byte> target) const;

  // Unpins; the handle is then invalid. Nothing to do when it is already.
  void Release();

  // Unpins in the order of a stream of one of the store's GPUs: for bytes that a kernel, or a copy
  // of that stream, still reads. They stay as they are until it has done what it was given before
  // this call. The handle is then invalid; on a status other than OK (kInvalidArgument: no stream
  // of those GPUs; kResourceExhausted: no thread for it) it stays valid and pinned.
  //
  // In L1 of the stream's own GPU the room is given to others at once where it is needed: what is
  // copied there waits for the stream on the device, and nobody on the host does. In L2, and in L1
  // of another GPU, the pin goes when the stream has got there.
  //
  // The driver is told of many releases at once, later, by a thread of the store: one event for
  // all that were made on the stream until then, so a release may count as made somewhat later.
  // Therefore the stream must stay, and must not begin to capture a graph, until
  // Store::ForgetStream or Close has returned; what is released after Close is recorded here. A
  // stream that is another in each thread (cudaStreamPerThread) is recorded here, always.
  //
  // A stream that waits for the host must not wait for what a later call of the store's brings: the
  // copy that brings it may be behind this stream. So may be copies that Close waits for. When the
  // device refuses the event, all that it does is waited for by that thread; one that has failed
  // reads nothing any more, and the bytes are free.
  absl::Status ReleaseAfter(StreamRef stream);

 private:
  friend class StoreCore;
  friend class StoreImpl;
  TensorHandle(std::shared_ptr<StoreCore> core, Entry* entry, L1Copy* l1, const TensorView& view,
               Level found_at);

  std::shared_ptr<StoreCore> core_;
  Entry* entry_ = nullptr;
  L1Copy* l1_ = nullptr;  // Null: it is in L2.
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
