#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "cairn/completion_queue.h"
#include "cairn/export.h"
#include "cairn/handle.h"
#include "cairn/journal.h"
#include "cairn/key.h"
#include "cairn/kv_layout.h"
#include "cairn/options.h"
#include "cairn/stats.h"
#include "cairn/tensor.h"

namespace cairn {

// One tensor of PutFrom: the pieces in order are its bytes, and add up to meta.byte_count().
struct PutRequest {
  TensorKey key;
  TensorMeta meta;
  absl::Span<const ConstPiece> pieces;
  uint64_t tag = 0;
  MemoryKind kind =
      MemoryKind::kHost;  // Of all pieces. The GPU's needs an L1, and goes through L2.
  // Ordinal of that GPU, one of StoreOptions::gpus. -1: the stream's in the options, else the
  // first.
  int device = -1;
};

// One tensor of GetInto: its bytes fill the pieces in order, which must add up to its size.
struct GetRequest {
  TensorKey key;
  absl::Span<const Piece> pieces;
  uint64_t tag = 0;
  // As in PutRequest; out of that GPU's L1 where the tensor is there. Where the device is not said
  // GetOptions::gpu may say it.
  MemoryKind kind = MemoryKind::kHost;
  int device = -1;
};

// What the store knows of a tensor.
struct TensorInfo {
  TensorMeta meta;
  TensorClass tensor_class = TensorClass::kGeneral;
  Retention retention = Retention::kCache;
  uint64_t bytes = 0;
  bool in_l1 = false;  // Of any GPU.
  bool in_l2 = false;
  bool in_l3 = false;        // Written and indexed.
  bool quarantined = false;  // Its copy on L3 failed verification: Get answers kDataLoss.
  absl::Time expires = absl::InfiniteFuture();
  // By Describe: how long until it would be in L2, were it asked for now. 0: it is, or in L1;
  // infinite: quarantined. LeadingHits says what it is made of.
  absl::Duration arrival = absl::ZeroDuration();
  // By Describe: the ordinals of the GPUs in whose L1 it is, in ascending order.
  std::vector<int> gpus;
};

struct ScanEntry {
  std::string key;
  TensorInfo info;
};

struct ScanPage {
  std::vector<ScanEntry> entries;  // In byte order of their keys.
  bool more = false;               // Go on with after = entries.back().key.
};

// How many of a chain of keys are there, and the promise that they stay.
struct LeadingHits {
  size_t count = 0;     // keys[0..count) are in the store; keys[count] is not.
  size_t count_l1 = 0;  // Of any GPU.
  size_t count_l2 = 0;  // Not in L1.
  size_t count_l3 = 0;  // Only on L3.
  uint64_t bytes = 0;
  // How long until all of them would be in L1 or L2, were they asked for now; 0: they are. An
  // estimate from what L3 does at this moment, for a host that can recompute meanwhile:
  //
  //   L3's latency + (bytes that L3 has to read for others + bytes of these) / L3's rate
  //
  // What is on its way to L2 already is in the bytes for others. Rate and latency are what the
  // store's own reads have seen of late, of all drives together (StatsSnapshot::
  // l3_read_bytes_per_second, l3_read_latency_us). Waiting for room in L2 is not in it, nor is the
  // copy to L1.
  absl::Duration arrival = absl::ZeroDuration();
  Lease lease;
};

// Where a tensor would be had from that is put now.
struct PlacementAdvice {
  std::optional<Level> level;  // L2 or L3. Empty: nowhere, it will have to be made again.
  std::string reason;          // In words and figures, for people.
  // From there, as LeadingHits::arrival; infinite: nowhere.
  absl::Duration arrival = absl::InfiniteDuration();
};

// A tensor store over GPU memory (L1, where StoreOptions::l1_bytes_max asks for it), host memory
// (L2) and NVMe (L3), used by one process. Every byte that comes back from L3 was verified against
// the checksum made when it was put, on its way to L1 too.
//
// Threading: every method may be called from any thread. A store must not be used in a forked
// child. Callbacks run on a thread of the store, one at a time: keep them short.
//
// What a status means, in every verb:
//   kNotFound            no such key (or it was evicted, or its time was up): recompute
//   kDataLoss            its bytes on L3 are damaged or unreadable; it stays so until put again:
//                        recompute
//   kResourceExhausted   no room, or a queue is full: retry later or do without
//   kDeadlineExceeded    not in time; the work goes on
//   kUnavailable         the disk or the GPU refused: see the message and Stats().degraded
//   kInvalidArgument     the caller's mistake; nothing was changed
//   kFailedPrecondition  the store is in use, of another format version or fingerprint, has a drive
//                        that is not there, or is closed
//   kUnimplemented       promised by this header and not built yet; the message names it
class CAIRN_EXPORT Store {
 public:
  using GetCallback = absl::AnyInvocable<void(absl::StatusOr<TensorHandle>) &&>;

  // Creates or opens the store at options.path and finds what an earlier process left there,
  // however it ended. Waits up to 2 s for a dying owner to let go of the files. kDataLoss: the
  // index is damaged or gone; nothing was changed, and the message says how to make it anew.
  // kResourceExhausted: the system has no memory, disk space or threads for it (about 20 threads).
  static absl::StatusOr<std::unique_ptr<Store>> Open(const StoreOptions& options);

  // Close(), its status logged when not OK; but waits for as long as the device takes, since the
  // kernel may still write into memory that would be freed.
  virtual ~Store() = default;

  // Finishes what is in flight, writes what is dirty, closes the files. Calls after it answer
  // kFailedPrecondition; handles stay readable. When the disk refuses, the status says what was
  // lost. A Close after one that ended so or with OK is OK and does nothing.
  //
  // kDeadlineExceeded after options.close_timeout: requests that the device has cannot be taken
  // back, so the store goes on closing behind the scenes and holds the files; another Close waits
  // once more. Until one has ended otherwise, the store, the memory and the queues of calls that
  // have not ended must stay. A host that cannot wait lets go of the store without destroying it
  // (std::unique_ptr::release) and ends its process, which leaves on disk what a kill would.
  virtual absl::Status Close() = 0;

  // Stores a copy of the view's bytes. OK when acknowledged as options.durability asks. On
  // kResourceExhausted and kInvalidArgument nothing has changed: an older tensor of this key is
  // still there. A put of kDeadlineExceeded is there, and its write goes on.
  virtual absl::Status Put(TensorKey key, const TensorView& view, const PutOptions& options) = 0;

  // Pins the tensor in L2, or in the L1 of a GPU if options.want says so, loading it from below
  // when it is not there; the verified bytes are in handle.view(). One load serves all who ask
  // meanwhile, one on each GPU.
  // kInvalidArgument for a tensor that L1 could never take; kResourceExhausted when all of L1 is
  // pinned.
  virtual absl::StatusOr<TensorHandle> Get(TensorKey key, const GetOptions& options) = 0;

  // Like Get without waiting: `done` is called once, never inside this call. A status other than
  // OK (kResourceExhausted: too many calls outstanding): nothing was started, and `done` is not
  // called. The timeout bounds the wait for room (kResourceExhausted) and for the load, which goes
  // on (kDeadlineExceeded). As long as async_queue_max who are late still wait, others are refused.
  virtual absl::Status GetAsync(TensorKey key, const GetOptions& options, GetCallback done) = 0;

  // Like Get for each key, ending in `queue`; completion i has tag first_tag + i. At the timeout
  // what is there has ended with OK and what is not ends as said above, each once; so a batch has
  // an end, and may be had in part. A status other than OK: nothing was started.
  virtual absl::Status GetAsync(absl::Span<const TensorKey> keys, const GetOptions& options,
                                CompletionQueue& queue, uint64_t first_tag) = 0;

  // Stores tensors straight from the caller's memory, without a copy in L2, when every piece is
  // aligned to 4096 bytes in address and size (the last piece in address only); others go through
  // L2. Status i is of request i. Acknowledged no earlier than kOnDevice.
  virtual std::vector<absl::Status> PutFrom(absl::Span<const PutRequest> requests,
                                            const PutOptions& options) = 0;
  // The same, ending in `queue`. The pieces' memory must stay untouched until then; keys and
  // lists of pieces are copied. The call itself sums what can be written at once (about 50 us a
  // MiB) and waits for nothing.
  virtual absl::Status PutFrom(absl::Span<const PutRequest> requests, const PutOptions& options,
                               CompletionQueue& queue) = 0;

  // Brings tensors into the caller's memory: from L2 by copy, from L3 straight (pieces aligned to
  // 4096 bytes in address and size) or through L2. On any status but OK the memory holds garbage
  // and must not be used. What comes straight from L3 ends when the device has, whatever the
  // timeout: until then the memory is the device's.
  virtual std::vector<absl::Status> GetInto(absl::Span<const GetRequest> requests,
                                            const GetOptions& options) = 0;
  virtual absl::Status GetInto(absl::Span<const GetRequest> requests, const GetOptions& options,
                               CompletionQueue& queue) = 0;

  // How many of the keys, from the first on, are there without a gap. They count as used and are
  // leased: readable until hits.lease ends, whatever else is put. Touches neither disk nor bytes.
  virtual absl::StatusOr<LeadingHits> CountLeading(absl::Span<const TensorKey> keys,
                                                   const LeaseOptions& options) = 0;

  // Starts loading what is only below options.to. Returns how many loads were started or queued;
  // the rest is there already, unknown, or dropped because the queue is full. Never blocks, fails
  // silently.
  virtual size_t Prefetch(absl::Span<const TensorKey> keys, const PrefetchOptions& options) = 0;

  // Says that the keys will be asked for, in this order, options.due from now. They are loaded
  // behind what is due earlier and as far ahead as StoreOptions::prefetch_ahead_bytes_max lets; a
  // Get that is earlier loads by itself. Never waits. kResourceExhausted: more than
  // prefetch_queue_max would wait; none was taken.
  virtual absl::StatusOr<PrefetchToken> WillNeed(absl::Span<const TensorKey> keys,
                                                 const WillNeedOptions& options) = 0;
  // Takes back what of a WillNeed has not begun, and says how many keys: for those no byte moves
  // any more. 0 when all have, or for a token of none.
  virtual size_t Cancel(PrefetchToken token) = 0;

  // Before a stream that TensorHandle::ReleaseAfter was given is destroyed, or begins to capture a
  // graph: behind it the store does not touch the stream, until it is given it once more. Blocks
  // for nothing, and may be called for any stream of the store's GPUs. kInvalidArgument: it is of
  // none of them; kUnavailable: the device refused, and the stream may go all the same.
  virtual absl::Status ForgetStream(StreamRef stream) = 0;

  // Drops the copies above `keep`: kL2Pinned those in L1, of all GPUs; kL3Nvme writes the tensor to
  // L3 if it must and frees its memory in L1 and L2. kNotFound; kResourceExhausted when a handle
  // pins it: of L1 nothing is dropped then.
  virtual absl::Status Evict(TensorKey key, Level keep) = 0;

  // Removes the tensor from every level. OK when it was not there. Handles on it stay readable.
  virtual absl::Status Erase(TensorKey key) = 0;

  // Erases every tensor whose key begins with the prefix, and says how many.
  virtual absl::StatusOr<uint64_t> ErasePrefix(std::string_view key_prefix) = 0;

  // Erases every tensor of a fingerprint in this directory, and says how many.
  virtual absl::StatusOr<uint64_t> PurgeFingerprint(std::string_view fingerprint) = 0;

  // Everything put since Open and before this call is on L3, flushed and in the synced index, but
  // for what was evicted or, of what the write budget had refused, finds no room there for 30 s,
  // when it returns OK. kUnavailable: a write or a flush failed. A data file whose flush fails is
  // given up until the next Open (Stats().degraded names it): every Flush says so as long as
  // tensors lie there, and so does every put of Durability::kFlushed that finds its tensor there. A
  // put anew goes to another file. What is there is read on, verified by its checksum as ever.
  virtual absl::Status Flush() = 0;

  virtual absl::StatusOr<TensorInfo> Describe(TensorKey key) const = 0;

  // The next `limit` tensors of this store's fingerprint whose keys begin with `key_prefix` and
  // come after `after` ("": from the start). Looks at every key in memory: for tools, not for the
  // path of a request.
  virtual absl::StatusOr<ScanPage> Scan(std::string_view key_prefix, std::string_view after,
                                        size_t limit) const = 0;

  // What was decided for the key's tensors and why, oldest first, as far back as the journal goes
  // (StoreOptions::journal_records_max). Empty: nothing that it knows of.
  virtual absl::StatusOr<std::vector<JournalEntry>> Explain(TensorKey key) const = 0;

  // Where a tensor of this size and class would be a while from now, were it put now for the first
  // time, with the class alone for its PutOptions; and why. L2 as long as there is free room for
  // it; L3 where that will take it, by its writes, the write budget and what is kept there; nowhere
  // when it is neither, for L2 will let it go when others come, or when a put would refuse it. A
  // class's share counts in both. An answer for this moment, which reserves and remembers nothing.
  // kInvalidArgument: 0 bytes, or no such class.
  virtual absl::StatusOr<PlacementAdvice> Advise(uint64_t bytes,
                                                 TensorClass tensor_class) const = 0;

  virtual StatsSnapshot Stats() const = 0;

  // As cairn::CopyKvBlocks, between the host's memory and that of the stream's GPU or within the
  // latter, in strided copies of the GPU's own: as many as the shape has layers, or blocks where
  // these are fewer; in pieces where a pitch is shorter than a piece (a source that repeats itself)
  // or over 2^31 - 1.
  // They are behind what the stream was given before, and have been done when it has; until then
  // both ends must stay: of a handle, TensorHandle::ReleaseAfter(stream). One stored block at a
  // time is a shape of one block, its handle's view the source. Returns when the driver was given
  // them; host memory that is not pinned (MemoryKind::kHost) may make it wait.
  //
  // kInvalidArgument, with nothing begun: as cairn::CopyKvBlocks; both ends in the host's memory; a
  // stream of none of the store's GPUs. kUnavailable: the device refused, and what it was given of
  // these copies has ended; the target is garbage.
  virtual absl::Status CopyKvBlocks(StreamRef stream, const KvShape& shape, const KvTarget& target,
                                    const KvSource& source) = 0;

  // Makes the caller's memory a registered end of transfers (an io_uring fixed buffer), which
  // saves CPU time; never needed for correctness. Both ends aligned to 4096 bytes. Must be
  // unregistered before it is freed, and only when no call is using it. kUnavailable where the
  // kernel refuses (the message names RLIMIT_MEMLOCK when that is why): calls then use the
  // memory unregistered.
  virtual absl::Status RegisterMemory(absl::Span<std::byte> memory) = 0;
  virtual absl::Status UnregisterMemory(absl::Span<std::byte> memory) = 0;

 protected:
  Store() = default;
};

}  // namespace cairn
