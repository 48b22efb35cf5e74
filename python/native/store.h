#pragma once

// The verbs of cairn::Store for Python: each borrows its arguments, lets go of the GIL, calls, and
// raises what the status says.

#include <nanobind/nanobind.h>

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "cairn/kv_layout.h"
#include "native/completion_queue.h"
#include "native/tensors.h"

namespace cairn::python {

class PyStore {
 public:
  explicit PyStore(const StoreOptions& options);
  ~PyStore();
  PyStore(const PyStore&) = delete;
  PyStore& operator=(const PyStore&) = delete;

  void Close();
  // False too in a forked child, where closing is the parent's.
  bool IsOpen() const;

  void Put(nb::handle key, nb::handle tensor, const PutOptions& options);
  nb::object Get(nb::handle key, const GetOptions& options);
  void PutFrom(nb::handle keys, nb::handle tensors, const PutOptions& options);
  void GetInto(nb::handle keys, nb::handle tensors, const GetOptions& options);
  void SubmitGet(nb::object queue, nb::handle keys, const GetOptions& options, uint64_t first_tag);
  void SubmitPutFrom(nb::object queue, nb::handle keys, nb::handle tensors,
                     const PutOptions& options, uint64_t first_tag);
  void SubmitGetInto(nb::object queue, nb::handle keys, nb::handle tensors,
                     const GetOptions& options, uint64_t first_tag);

  LeadingHits CountLeading(nb::handle keys, std::optional<double> duration);
  size_t Prefetch(nb::handle keys, Level to, std::optional<int> gpu);
  PrefetchToken WillNeed(nb::handle keys, Level to, std::optional<double> due, int32_t priority,
                         std::optional<int> gpu);
  size_t Cancel(PrefetchToken token);
  void Evict(nb::handle key, Level keep);
  void Erase(nb::handle key);
  uint64_t ErasePrefix(nb::handle key_prefix);
  uint64_t PurgeFingerprint(std::string_view fingerprint);
  void Flush();
  TensorInfo Describe(nb::handle key);
  nb::list Explain(nb::handle key);
  PlacementAdvice Advise(uint64_t nbytes, TensorClass tensor_class);
  nb::tuple ScanPage(nb::handle key_prefix, nb::handle after, size_t limit);
  nb::object Stats();
  void ForgetStream(uint64_t stream, int gpu);
  void CopyKvBlocks(nb::handle target, nb::handle source, const KvShape& shape,
                    const KvPitch& target_pitch, const KvPitch& source_pitch, StreamRef stream);
  void RegisterMemory(nb::handle tensor);
  void UnregisterMemory(nb::handle tensor);

 private:
  // Of the batch verbs: the caller's requests and what keeps their memory.
  template <typename Request>
  struct Batch {
    std::vector<Request> requests;
    std::vector<std::vector<Borrowed>> owners;
    // What the requests' spans point to.
    std::vector<std::vector<Piece>> pieces;
    std::vector<std::vector<ConstPiece>> const_pieces;
  };
  Batch<PutRequest> PutBatch(nb::handle keys, nb::handle tensors);
  Batch<GetRequest> GetBatch(nb::handle keys, nb::handle tensors);
  void CheckDType(std::string_view key, DType dtype);

  // The store, for a verb. Raises where the store is closed or of another process: before the GIL
  // is let go, so that a thread that goes on while the interpreter ends does not wait for it.
  Store& open();
  // A queue must outlive the calls that end in it.
  PyCompletionQueue& Attach(const nb::object& queue);

  std::vector<nb::object> queues_;
  std::unique_ptr<Store> store_;
  const uint64_t fork_generation_;
  bool gpu_there_ = false;
  std::atomic<bool> closed_ = false;
};

void BindStore(nb::module_& module);

}  // namespace cairn::python
