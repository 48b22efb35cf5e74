// PutFrom: tensors straight from the caller's memory to L3. They come into the directory when
// they are written; what the device cannot take as it lies goes through L2.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "io/checksum.h"
#include "src/base/check.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "src/store_impl.h"

namespace cairn {
namespace {

bool DirectlyWritable(absl::Span<const ConstPiece> pieces, bool in_host_memory) {
  if (!in_host_memory) return false;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (reinterpret_cast<uintptr_t>(pieces[i].data) % kBlockBytes != 0) return false;
    if (i + 1 < pieces.size() && pieces[i].size % kBlockBytes != 0) return false;
  }
  return true;
}

std::vector<uint64_t> SumPieces(absl::Span<const ConstPiece> pieces, uint64_t bytes,
                                uint64_t seed) {
  std::vector<uint64_t> sums;
  sums.reserve(ChecksumChunkCount(bytes));
  ChunkHasher hasher;
  hasher.Reset(seed);
  uint64_t in_chunk = 0;
  for (const ConstPiece& piece : pieces) {
    for (uint64_t offset = 0; offset < piece.size;) {
      const uint64_t take = std::min(kChecksumChunkBytes - in_chunk, piece.size - offset);
      hasher.Update(piece.data + offset, take);
      offset += take;
      in_chunk += take;
      if (in_chunk < kChecksumChunkBytes) continue;
      sums.push_back(hasher.Finish());
      hasher.Reset(seed);
      in_chunk = 0;
    }
  }
  if (in_chunk > 0) sums.push_back(hasher.Finish());
  return sums;
}

// A tensor of an asynchronous PutFrom: what must outlive the caller's own lists.
struct OwnedPut {
  std::string key;
  TensorMeta meta;
  std::vector<ConstPiece> pieces;
  uint64_t tag = 0;
  bool in_host_memory = true;
};

class QueueWaiter final : public SpillWaiter {
 public:
  QueueWaiter(CompletionQueue* queue, uint64_t tag) : queue_(queue), tag_(tag) {}
  void OnSpilled(absl::Status status) override {
    queue_->Push({.tag = tag_, .status = std::move(status), .handle = {}});
    delete this;
  }

 private:
  CompletionQueue* const queue_;
  const uint64_t tag_;
};

PutOptions AtLeastOnDevice(PutOptions options) {
  if (options.durability != Durability::kFlushed) options.durability = Durability::kOnDevice;
  return options;
}

}  // namespace

// What a PutFrom has gathered and not started yet. Nothing that others may need is held while it
// waits for anything: Release comes first.
class StoreImpl::PutBatch {
 public:
  explicit PutBatch(StoreImpl* store) : store_(store), packer_(store->core_->packer.get()) {}
  ~PutBatch() { Release(); }

  Packer& packer() {
    if (!corked_) packer_->Cork();
    corked_ = true;
    return *packer_;
  }
  IoBatch& ops() { return ops_; }
  void Release() {
    store_->SubmitBatch(ops_);
    if (std::exchange(corked_, false)) packer_->Uncork();
  }

 private:
  StoreImpl* const store_;
  Packer* const packer_;
  IoBatch ops_;
  bool corked_ = false;
};

absl::Status StoreImpl::StartPutFrom(const PutInput& input, const PutOptions& options,
                                     Deadline deadline, SpillWaiter* waiter, PutBatch& batch) {
  CAIRN_RETURN_IF_ERROR(ValidatePut(input, options, /*through_l2=*/false));
  StatsRecorder::Add(core_->stats.puts);
  Packer::Tensor tensor = {.entry = NewEntry(input, options),
                           .pieces = {input.pieces.begin(), input.pieces.end()},
                           .list_when_written = true,
                           .flush = options.durability == Durability::kFlushed};
  Entry& entry = *tensor.entry;
  const uint64_t seed = ChecksumSeed(entry.hash(), entry.sequence());
  std::vector<uint64_t> sums = SumPieces(input.pieces, entry.bytes(), seed);
  entry.checksum = TensorChecksum(seed, sums);
  entry.MakeHot().spill_waiters = waiter;
  const bool packed = Packer::Takes(entry.bytes());
  const auto find_room = [&](Packer& packer, Deadline until) -> absl::Status {
    CAIRN_RETURN_IF_ERROR(core_->evictor->WaitForIndexRoom(entry, until));
    if (packed) return packer.Add(tensor, until);
    CAIRN_ASSIGN_OR_RETURN(const Extent l3_extent,
                           core_->evictor->ReserveL3(entry.Record().extent_bytes(), until));
    entry.set_l3_extent(l3_extent);
    return absl::OkStatus();
  };
  absl::Status room = find_room(batch.packer(), Deadline::min());
  if (absl::IsResourceExhausted(room)) {
    // What waits in the batch may be what holds the room.
    batch.Release();
    room = find_room(*core_->packer, deadline);
  }
  if (!room.ok()) return RefusePut(input.key, room);
  if (packed) return absl::OkStatus();
  // The spill owns it until it is listed.
  Entry* const owned = tensor.entry.release();
  StartSpill(
      core_->spill_context,
      {.entry = owned, .pieces = std::move(tensor.pieces), .list = true, .flush = tensor.flush},
      std::move(sums), batch.ops());
  SubmitFullBatch(batch.ops());
  return absl::OkStatus();
}

std::vector<absl::Status> StoreImpl::PutFrom(absl::Span<const PutRequest> requests,
                                             const PutOptions& put_options) {
  const CallScope scope(this);
  std::vector<absl::Status> statuses(requests.size(), scope.status());
  if (!scope.status().ok()) return statuses;
  const PutOptions options = AtLeastOnDevice(put_options);
  const Deadline deadline = DeadlineAfter(options.timeout);
  PutBatch batch(this);
  const auto release = [&batch] { batch.Release(); };
  std::vector<std::pair<size_t, SpillWait>> started;
  for (size_t i = 0; i < requests.size(); ++i) {
    const PutInput input = {requests[i].key.bytes(), requests[i].meta, requests[i].pieces,
                            IsHost(requests[i].kind)};
    if (KeptExisting(input.key, options, deadline, release, &statuses[i])) continue;
    if (!DirectlyWritable(input.pieces, input.in_host_memory)) {
      batch.Release();
      statuses[i] = PutThroughL2(input, options);
      continue;
    }
    SpillWait wait;
    SpillWaiter* waiter = wait.NewWaiter();
    statuses[i] = StartPutFrom(input, options, deadline, waiter, batch);
    if (statuses[i].ok()) {
      started.emplace_back(i, std::move(wait));
    } else {
      SpillWait::Discard(waiter);
    }
  }
  batch.Release();
  // Without a deadline: until it ends the device reads the caller's memory.
  for (auto& [i, wait] : started) statuses[i] = wait.Wait(Deadline::max());
  return statuses;
}

absl::Status StoreImpl::PutFrom(absl::Span<const PutRequest> requests,
                                const PutOptions& put_options, CompletionQueue& queue) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  CAIRN_RETURN_IF_ERROR(queue.Reserve(requests.size()));
  std::vector<OwnedPut> owned;
  owned.reserve(requests.size());
  for (const PutRequest& request : requests) {
    owned.push_back({std::string(request.key.bytes()),
                     request.meta,
                     {request.pieces.begin(), request.pieces.end()},
                     request.tag,
                     IsHost(request.kind)});
  }
  Worker::Task task = [this, owned = std::move(owned), options = AtLeastOnDevice(put_options),
                       &queue] {
    const Deadline deadline = DeadlineAfter(options.timeout);
    PutBatch batch(this);
    const auto release = [&batch] { batch.Release(); };
    for (const OwnedPut& put : owned) {
      const PutInput input = {put.key, put.meta, put.pieces, put.in_host_memory};
      absl::Status status;
      if (!KeptExisting(input.key, options, deadline, release, &status)) {
        if (DirectlyWritable(input.pieces, input.in_host_memory)) {
          auto* waiter = new QueueWaiter(&queue, put.tag);
          status = StartPutFrom(input, options, deadline, waiter, batch);
          if (status.ok()) continue;
          delete waiter;
        } else {
          batch.Release();
          status = PutThroughL2(input, options);
        }
      }
      queue.Push({.tag = put.tag, .status = std::move(status), .handle = {}});
    }
  };
  if (core_->stores->TryPost(task)) return absl::OkStatus();
  queue.Unreserve(requests.size());
  return absl::ResourceExhaustedError(
      absl::StrCat("more than ", core_->options.async_queue_max, " asynchronous calls wait"));
}

}  // namespace cairn
