#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "cairn/store.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "src/base/thread.h"
#include "src/store_core.h"
#include "src/waiters.h"

namespace cairn {

class AsyncGet;
class PrefetchedTensor;

// The verbs, one file each: put.cc, get.cc, get_async.cc, get_into.cc, put_from.cc; the small ones
// are in store.cc.
class StoreImpl final : public Store {
 public:
  explicit StoreImpl(std::shared_ptr<StoreCore> core) : core_(std::move(core)) {}
  ~StoreImpl() override;

  absl::Status Close() override;
  absl::Status Put(TensorKey key, const TensorView& view, const PutOptions& options) override;
  absl::StatusOr<TensorHandle> Get(TensorKey key, const GetOptions& options) override;
  absl::Status GetAsync(TensorKey key, const GetOptions& options, GetCallback done) override;
  absl::Status GetAsync(absl::Span<const TensorKey> keys, const GetOptions& options,
                        CompletionQueue& queue, uint64_t first_tag) override;
  std::vector<absl::Status> PutFrom(absl::Span<const PutRequest> requests,
                                    const PutOptions& options) override;
  absl::Status PutFrom(absl::Span<const PutRequest> requests, const PutOptions& options,
                       CompletionQueue& queue) override;
  std::vector<absl::Status> GetInto(absl::Span<const GetRequest> requests,
                                    const GetOptions& options) override;
  absl::Status GetInto(absl::Span<const GetRequest> requests, const GetOptions& options,
                       CompletionQueue& queue) override;
  absl::StatusOr<LeadingHits> CountLeading(absl::Span<const TensorKey> keys,
                                           const LeaseOptions& options) override;
  size_t Prefetch(absl::Span<const TensorKey> keys, const PrefetchOptions& options) override;
  absl::StatusOr<PrefetchToken> WillNeed(absl::Span<const TensorKey> keys,
                                         const WillNeedOptions& options) override;
  size_t Cancel(PrefetchToken token) override;
  absl::Status ForgetStream(StreamRef stream) override;
  absl::Status Evict(TensorKey key, Level keep) override;
  absl::Status Erase(TensorKey key) override;
  absl::StatusOr<uint64_t> ErasePrefix(std::string_view key_prefix) override;
  absl::StatusOr<uint64_t> PurgeFingerprint(std::string_view fingerprint) override;
  absl::Status Flush() override;
  absl::StatusOr<TensorInfo> Describe(TensorKey key) const override;
  absl::StatusOr<std::vector<JournalEntry>> Explain(TensorKey key) const override;
  absl::StatusOr<ScanPage> Scan(std::string_view key_prefix, std::string_view after,
                                size_t limit) const override;
  absl::StatusOr<PlacementAdvice> Advise(uint64_t bytes, TensorClass tensor_class) const override;
  StatsSnapshot Stats() const override;
  absl::Status CopyKvBlocks(StreamRef stream, const KvShape& shape, const KvTarget& target,
                            const KvSource& source) override;
  absl::Status RegisterMemory(absl::Span<std::byte> memory) override;
  absl::Status UnregisterMemory(absl::Span<std::byte> memory) override;

 private:
  // A call under way, which Close waits for. Not OK once the store is closed.
  class CallScope {
   public:
    explicit CallScope(const StoreImpl* store);
    ~CallScope();
    CallScope(const CallScope&) = delete;
    CallScope& operator=(const CallScope&) = delete;
    const absl::Status& status() const { return status_; }

   private:
    const StoreImpl* const store_;
    absl::Status status_;
  };

  // One that asks for tensors: then there may be room for what is needed next.
  class DemandScope {
   public:
    explicit DemandScope(StoreImpl* store) : call_(store), store_(store) {}
    ~DemandScope() { store_->BeginPrefetches(); }
    DemandScope(const DemandScope&) = delete;
    DemandScope& operator=(const DemandScope&) = delete;
    const absl::Status& status() const { return call_.status(); }

   private:
    const CallScope call_;
    StoreImpl* const store_;
  };

  // Whose memory of the caller's it is: the host's, or that of a GPU (-1: not said which).
  struct Memory {
    MemoryKind kind = MemoryKind::kHost;
    int device = -1;

    bool host() const { return IsHost(kind); }
  };

  // One tensor on its way in.
  struct PutInput {
    std::string_view key;
    TensorMeta meta;
    absl::Span<const ConstPiece> pieces;
    Memory memory;  // Of all pieces.
  };

  HashedKey Hashed(std::string_view key) const { return {core_->fingerprint_id, key}; }
  static absl::Status NotFound(const HashedKey& key);
  absl::Status Quarantined(const HashedKey& key) const;

  // put.cc
  absl::Status ValidatePut(const PutInput& input, const PutOptions& options, bool through_l2) const;
  Durability Resolve(Durability durability) const;
  std::unique_ptr<Entry> NewEntry(const PutInput& input, const PutOptions& options) const;
  // True when the key is there and need not be written; then `outcome` is the put's.
  bool KeptExisting(std::string_view key, const PutOptions& options, Deadline deadline,
                    absl::FunctionRef<void()> before_waiting, absl::Status* outcome);
  // The GPU whose memory it is, of which bytes can be moved in the order of the stream.
  absl::StatusOr<Gpu*> OwnerOf(std::string_view key, const Memory& memory,
                               std::optional<StreamRef> stream) const;
  absl::Status CopyFromGpu(const PutInput& input, std::optional<StreamRef> producer,
                           std::byte* target);
  // Gives the extents of an entry back that was never listed.
  void Unreserve(Entry& entry);
  absl::Status RefusePut(const PutInput& input, const absl::Status& why);
  // What a write of the entry is to admission.
  static AdmissionPolicy::Tensor WantedOnL3(const Entry& entry, Durability durability);
  void ListRefused(std::unique_ptr<Entry> entry);
  void ListAndSpill(std::unique_ptr<Entry> entry, std::vector<uint64_t> sums, bool flush);
  absl::Status PutThroughL2(const PutInput& input, const PutOptions& options);

  // put_from.cc: starts a write from the caller's memory; `waiter` hears how it ends, unless the
  // status is not OK. Without a deadline it waits for nothing: kResourceExhausted, uncounted, when
  // there is no room now.
  class PutBatch;
  absl::Status StartPutFrom(const PutInput& input, const PutOptions& options,
                            std::optional<Deadline> deadline, SpillWaiter* waiter, PutBatch& batch);
  // Of an asynchronous PutFrom: false, and nothing was done, when the put may have to wait.
  bool TryPutNow(const PutRequest& request, const PutOptions& options, CompletionQueue& queue,
                 PutBatch& batch);
  struct OwnedPut;
  void PutOwned(const OwnedPut& put, const PutOptions& options, Deadline deadline,
                CompletionQueue& queue, PutBatch& batch);

  // get.cc
  static absl::Status ValidateKey(std::string_view key);
  // In the L1 of which GPU it is wanted; null: in L2.
  absl::StatusOr<Gpu*> Wanted(const GetOptions& options) const;
  // In L2. Counts how it ends.
  absl::StatusOr<TensorHandle> GetBefore(const HashedKey& key, Deadline deadline);
  absl::StatusOr<TensorHandle> FindOrFill(const HashedKey& key, Deadline deadline);
  // False, and the target is free again, when the key no longer needs a fill.
  bool BeginFill(const HashedKey& key, Extent target, FillWaiter* waiter, IoBatch& batch);
  // Joined a fill under way, whose reads come first now if they were a prefetch's.
  void JoinedFill(const Directory::Lookup& lookup);
  void CountGet(Level found_at, TensorClass tensor_class, uint64_t bytes, Deadline start);

  // get_l1.cc. `bytes` that L1 could never take are kInvalidArgument.
  absl::StatusOr<TensorHandle> GetInL1(const HashedKey& key, Gpu* gpu,
                                       std::optional<StreamRef> consumer, Deadline deadline);
  // An invalid handle when it is not there now.
  TensorHandle FindInL1(const HashedKey& key, Gpu* gpu);
  absl::StatusOr<Extent> ReserveL1(Gpu* gpu, uint64_t bytes, bool may_wait, Deadline deadline);
  // Copies an entry, pinned in L2 by the caller, to `target` in L1 unless it is there already.
  // kPinned or kInFlight: it is pinned in L1 for the caller. kJoined: the waiter hears, which is
  // used in no other case.
  absl::StatusOr<Directory::Lookup> Lift(Entry* entry, Gpu* gpu, Extent target, FillWaiter* waiter,
                                         std::optional<StreamRef> consumer);
  absl::StatusOr<TensorHandle> HandleInL1(Pin pin, Directory::Found found, Level found_at,
                                          std::optional<StreamRef> consumer);

  // get_async.cc
  friend class AsyncGet;
  void RunGet(AsyncGet* get, bool may_wait, IoBatch& batch);
  // Not OK when too many that were late still wait: a device that hangs is not to fill the memory.
  absl::Status CheckLateGets() const;
  // Looks in L1: false when the tensor is to be looked for below.
  bool RunGetInL1(AsyncGet* get);
  // Takes over a pin on the entry in L2.
  void RunLift(AsyncGet* get, Entry* entry, bool may_wait);
  void SubmitBatch(IoBatch& batch);
  // Once there is enough to keep the engine busy, so that it starts while the rest of a long list
  // is still being looked up or summed.
  void SubmitFullBatch(IoBatch& batch);

  // predict.cc: the keys are named together, in order; one of them, or another, is asked for, or
  // put; and what is likely to come after it, `ahead` keys at most, is queued. By the calling
  // thread. Each does nothing when the options say so.
  void Named(absl::Span<const HashedKey> chain);
  void Asked(TensorKey key);
  void Predict(TensorKey last, size_t ahead);

  // advise.cc: empty where a tensor would stay, or why it would not.
  std::string WhyNotInL2(uint64_t bytes, TensorClass tensor_class) const;
  std::string WhyNotOnL3(uint64_t extent_bytes, TensorClass tensor_class) const;

  // prefetch.cc
  friend class PrefetchedTensor;
  // There, or on its way; then that is a use.
  bool InL1(const HashedKey& key, Gpu* gpu);
  // To L1 of the GPU, or, null, to L2. False when it is there, on its way, unknown, or there is no
  // room. On the account of `queue`.
  bool PrefetchOne(const HashedKey& key, Gpu* gpu, IoPriority priority, PrefetchQueue& queue,
                   IoBatch& batch);
  bool BeginPrefetch(const HashedKey& key, Extent target, PrefetchedTensor* waiter,
                     IoPriority priority, PrefetchQueue& queue, IoBatch& batch);
  // Those of WillNeed that have their turn, and guesses where none waits. On any thread; one at a
  // time does it, for all.
  void BeginPrefetches();
  bool BeginNextPrefetch(IoBatch& batch);

  // get_into.cc
  // The GPU whose memory the pieces are; null: the host's.
  absl::StatusOr<Gpu*> ValidateGetInto(const GetRequest& request, const GetOptions& options) const;
  absl::Status CopyInto(const HashedKey& key, absl::Span<const Piece> pieces, Gpu* gpu,
                        Deadline deadline);
  // Starts a transfer from L3 straight into the pieces, `done` then hears how it ends. False, and
  // `done` untouched, when the tensor is not only on L3 or does not lie so.
  bool StartGetInto(const HashedKey& key, absl::Span<const Piece> pieces, const Gpu* gpu,
                    DirectReadDone& done, IoBatch& batch);

  // Closing, on a thread of its own.
  void End() ABSL_LOCKS_EXCLUDED(close_mutex_);
  absl::Status CloseBefore(Deadline deadline) ABSL_LOCKS_EXCLUDED(close_mutex_);

  uint64_t RemoveAll(uint32_t fingerprint_id, std::string_view key_prefix, absl::Status* status);

  const std::shared_ptr<StoreCore> core_;

  // Calls under way, and whether the store takes more. Sequentially consistent: a call counts
  // itself and then looks at closed_, Close sets closed_ and then looks at the count.
  mutable std::atomic<uint64_t> calls_ = 0;
  std::atomic<bool> closed_ = false;
  std::atomic<uint64_t> async_gets_ = 0;
  std::atomic<uint64_t> prefetches_ = 0;
  std::atomic<uint32_t> prefetch_turns_ = 0;  // Asked of BeginPrefetches and not ended.

  Mutex close_mutex_;
  CondVar close_ended_;
  bool ended_ ABSL_GUARDED_BY(close_mutex_) = false;
  absl::Status close_status_ ABSL_GUARDED_BY(close_mutex_);  // Until a Close has told it.
  Thread closer_;
};

inline uint64_t MicrosecondsSince(Deadline start) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(SteadyNow() - start).count());
}

inline Deadline DeadlineAfter(absl::Duration timeout) {
  // A century stands for ever: adding more to the clock would overflow.
  const absl::Duration bounded =
      std::clamp(timeout, absl::ZeroDuration(), absl::Hours(24 * 365 * 100));
  return SteadyNow() + absl::ToChronoNanoseconds(bounded);
}

}  // namespace cairn
