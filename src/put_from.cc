// PutFrom: tensors straight from the caller's memory to L3. They come into the directory when
// they are written; what the device cannot take as it lies goes through L2.

#include <memory>
#include <optional>
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

// A tensor of an asynchronous PutFrom that waits: what must outlive the caller's own lists.
struct StoreImpl::OwnedPut {
  std::string key;
  TensorMeta meta;
  std::vector<ConstPiece> pieces;
  uint64_t tag = 0;
  Memory memory;
};

// What a PutFrom has gathered and not ended yet. Nothing that others may need is held while it
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
  // Starts the write of a tensor that is summed later, while the device has its payload. The
  // pieces stay until then.
  void Start(std::unique_ptr<Entry> entry, absl::Span<const ConstPiece> pieces, bool flush) {
    Entry* const started = entry.release();  // The spill's, until it is listed.
    Spill* const spill = StartSpill(
        store_->core_->spill_context,
        {.entry = started, .pieces = {pieces.begin(), pieces.end()}, .list = true, .flush = flush},
        ops_);
    unsummed_.push_back({spill, started, pieces});
    unsummed_bytes_ += started->bytes();
    if (unsummed_bytes_ >= kUnsummedBytesMax) Sum();
  }
  void Release() {
    Sum();
    if (std::exchange(corked_, false)) packer_->Uncork();
  }

 private:
  struct Unsummed {
    Spill* spill;
    Entry* entry;
    absl::Span<const ConstPiece> pieces;
  };
  // What keeps a device busy. More would make the first of a long batch wait for the last.
  static constexpr uint64_t kUnsummedBytesMax = uint64_t{8} << 20;

  void Sum() {
    store_->SubmitBatch(ops_);
    for (const Unsummed& put : unsummed_) {
      const uint64_t seed = ChecksumSeed(put.entry->hash(), put.entry->sequence());
      std::vector<uint64_t> sums = ChunkChecksums(seed, put.pieces);
      put.entry->checksum = TensorChecksum(seed, sums);
      FinishSpill(put.spill, std::move(sums), ops_);
      store_->SubmitFullBatch(ops_);
    }
    store_->SubmitBatch(ops_);
    unsummed_.clear();
    unsummed_bytes_ = 0;
  }

  StoreImpl* const store_;
  Packer* const packer_;
  IoBatch ops_;
  std::vector<Unsummed> unsummed_;
  uint64_t unsummed_bytes_ = 0;
  bool corked_ = false;
};

absl::Status StoreImpl::StartPutFrom(const PutInput& input, const PutOptions& options,
                                     std::optional<Deadline> deadline, SpillWaiter* waiter,
                                     PutBatch& batch) {
  CAIRN_RETURN_IF_ERROR(ValidatePut(input, options, /*through_l2=*/false));
  Packer::Tensor tensor = {.entry = NewEntry(input, options),
                           .pieces = {input.pieces.begin(), input.pieces.end()},
                           .list_when_written = true,
                           .flush = options.durability == Durability::kFlushed};
  Entry& entry = *tensor.entry;
  const bool packed = Packer::Takes(entry.bytes());
  const AdmissionPolicy::Tensor wanted = WantedOnL3(entry, options.durability);
  if (packed) {
    const uint64_t seed = ChecksumSeed(entry.hash(), entry.sequence());
    entry.checksum = TensorChecksum(seed, ChunkChecksums(seed, input.pieces));
  }
  entry.MakeHot().spill_waiters = waiter;
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
    if (!deadline.has_value()) return room;
    // What waits in the batch may be what holds the room.
    batch.Release();
    room = find_room(*core_->packer, *deadline);
  }
  StatsRecorder::Add(core_->stats.puts);
  if (!room.ok()) return RefusePut(input, room);
  core_->admission->Decide(wanted);
  if (packed) return absl::OkStatus();
  batch.Start(std::move(tensor.entry), input.pieces, tensor.flush);
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
    const PutInput input = {requests[i].key.bytes(),
                            requests[i].meta,
                            requests[i].pieces,
                            {requests[i].kind, requests[i].device}};
    if (KeptExisting(input.key, options, deadline, release, &statuses[i])) continue;
    if (!DirectlyWritable(input.pieces, input.memory.host())) {
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

bool StoreImpl::TryPutNow(const PutRequest& request, const PutOptions& options,
                          CompletionQueue& queue, PutBatch& batch) {
  if (options.if_exists != IfExists::kReplace) return false;
  if (!DirectlyWritable(request.pieces, IsHost(request.kind))) return false;
  auto* waiter = new QueueWaiter(&queue, request.tag);
  absl::Status status = StartPutFrom({request.key.bytes(), request.meta, request.pieces, {}},
                                     options, /*deadline=*/std::nullopt, waiter, batch);
  if (status.ok()) return true;
  delete waiter;
  if (absl::IsResourceExhausted(status)) return false;
  queue.Push({.tag = request.tag, .status = std::move(status), .handle = {}});
  return true;
}

void StoreImpl::PutOwned(const OwnedPut& put, const PutOptions& options, Deadline deadline,
                         CompletionQueue& queue, PutBatch& batch) {
  const PutInput input = {put.key, put.meta, put.pieces, put.memory};
  absl::Status status;
  const auto release = [&batch] { batch.Release(); };
  if (!KeptExisting(input.key, options, deadline, release, &status)) {
    if (DirectlyWritable(input.pieces, input.memory.host())) {
      auto* waiter = new QueueWaiter(&queue, put.tag);
      status = StartPutFrom(input, options, deadline, waiter, batch);
      if (status.ok()) return;
      delete waiter;
    } else {
      batch.Release();
      status = PutThroughL2(input, options);
    }
  }
  queue.Push({.tag = put.tag, .status = std::move(status), .handle = {}});
}

absl::Status StoreImpl::PutFrom(absl::Span<const PutRequest> requests,
                                const PutOptions& put_options, CompletionQueue& queue) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  CAIRN_RETURN_IF_ERROR(queue.Reserve(requests.size()));
  const PutOptions options = AtLeastOnDevice(put_options);
  // As many as find room at once start here; not when earlier ones wait for theirs, which these
  // must not overtake.
  const size_t request_count = requests.size();
  if (core_->stores->idle()) {
    PutBatch batch(this);
    while (!requests.empty() && TryPutNow(requests.front(), options, queue, batch)) {
      requests.remove_prefix(1);
    }
  }
  if (requests.empty()) return absl::OkStatus();
  std::vector<OwnedPut> owned;
  owned.reserve(requests.size());
  for (const PutRequest& request : requests) {
    owned.push_back({std::string(request.key.bytes()),
                     request.meta,
                     {request.pieces.begin(), request.pieces.end()},
                     request.tag,
                     {request.kind, request.device}});
  }
  Worker::Task task = [this, owned = std::move(owned), options, &queue] {
    const Deadline deadline = DeadlineAfter(options.timeout);
    PutBatch batch(this);
    for (const OwnedPut& put : owned) PutOwned(put, options, deadline, queue, batch);
  };
  if (core_->stores->TryPost(task)) return absl::OkStatus();
  absl::Status refused = absl::ResourceExhaustedError(
      absl::StrCat("more than ", core_->options.async_queue_max, " asynchronous calls wait"));
  if (requests.size() == request_count) {
    queue.Unreserve(request_count);
    return refused;
  }
  for (const PutRequest& request : requests) {
    queue.Push({.tag = request.tag, .status = refused, .handle = {}});
  }
  return absl::OkStatus();
}

}  // namespace cairn
