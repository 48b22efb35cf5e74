// GetInto: tensors into the caller's memory. From L3 straight where the pieces are whole blocks;
// else by copy from L2, where a Get brings them first.

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "src/store_impl.h"

namespace cairn {
namespace {

bool DirectlyReadable(absl::Span<const Piece> pieces) {
  return std::all_of(pieces.begin(), pieces.end(), [](const Piece& piece) {
    return reinterpret_cast<uintptr_t>(piece.data) % kBlockBytes == 0 &&
           piece.size % kBlockBytes == 0;
  });
}

uint64_t ByteCount(absl::Span<const Piece> pieces) {
  uint64_t bytes = 0;
  for (const Piece& piece : pieces) bytes += piece.size;
  return bytes;
}

absl::Status SizeMismatch(const HashedKey& key, uint64_t tensor_bytes, uint64_t pieces_bytes) {
  return absl::InvalidArgumentError(absl::StrCat("tensor ", PrintableKey(key.key), " has ",
                                                 tensor_bytes, " bytes and the pieces take ",
                                                 pieces_bytes));
}

absl::Status ValidatePieces(absl::Span<const Piece> pieces) {
  for (const Piece& piece : pieces) {
    if (piece.data == nullptr || piece.size == 0) {
      return absl::InvalidArgumentError("a piece to read into is empty");
    }
  }
  return absl::OkStatus();
}

// A tensor of an asynchronous GetInto that needs a copy.
struct OwnedGet {
  std::string key;
  std::vector<Piece> pieces;
  uint64_t tag = 0;
  Gpu* gpu = nullptr;
};

}  // namespace

absl::StatusOr<Gpu*> StoreImpl::ValidateGetInto(const GetRequest& request,
                                                const GetOptions& options) const {
  CAIRN_RETURN_IF_ERROR(Wanted(options).status());
  CAIRN_RETURN_IF_ERROR(ValidateKey(request.key.bytes()));
  CAIRN_RETURN_IF_ERROR(ValidatePieces(request.pieces));
  if (IsHost(request.kind)) return nullptr;
  Memory memory = {request.kind, request.device};
  if (memory.device < 0) memory.device = options.gpu.value_or(memory.device);
  return OwnerOf(request.key.bytes(), memory, options.consumer);
}

absl::Status StoreImpl::CopyInto(const HashedKey& key, absl::Span<const Piece> pieces, Gpu* gpu,
                                 Deadline deadline) {
  // Within the GPU's memory where it is there already, else out of L2.
  TensorHandle handle = gpu == nullptr ? TensorHandle() : FindInL1(key, gpu);
  const bool in_l1 = handle.valid();
  if (!in_l1) {
    CAIRN_ASSIGN_OR_RETURN(handle, GetBefore(key, deadline));
  }
  const TensorView& view = handle.view();
  if (view.size != ByteCount(pieces)) return SizeMismatch(key, view.size, ByteCount(pieces));
  const std::byte* source = view.data;
  std::vector<CopyPiece> copies;
  for (const Piece& piece : pieces) {
    copies.push_back({piece.data, source, piece.size});
    source += piece.size;
  }
  if (gpu != nullptr) {
    const CopyDirection direction = in_l1 ? CopyDirection::kWithinDevice : CopyDirection::kToDevice;
    return gpu->l1->CopyAndWait(direction, copies, /*producer=*/std::nullopt);
  }
  for (const CopyPiece& copy : copies) std::memcpy(copy.target, copy.source, copy.bytes);
  return absl::OkStatus();
}

bool StoreImpl::StartGetInto(const HashedKey& key, absl::Span<const Piece> pieces, const Gpu* gpu,
                             DirectReadDone& done, IoBatch& batch) {
  if (gpu != nullptr || !DirectlyReadable(pieces)) return false;
  const Directory::Lookup lookup = core_->directory->AcquireForDirectRead(key, core_->NowUnixMs());
  if (lookup.entry == nullptr) return false;
  if (lookup.found != Directory::Found::kNeedsFill || lookup.bytes != ByteCount(pieces)) {
    core_->directory->Unpin(lookup.entry);
    return false;
  }
  auto finish = [this, entry = lookup.entry, bytes = lookup.bytes, start = SteadyNow(),
                 done = std::move(done)](absl::Status status) mutable {
    if (status.ok()) {
      CountGet(Level::kL3Nvme, entry->tensor_class(), bytes, start);
    } else {
      core_->stats.CountUnserved(status);
    }
    core_->directory->Unpin(entry);
    done(std::move(status));
  };
  StartDirectRead(core_->fill_context(), lookup.entry, pieces, std::move(finish), batch);
  SubmitFullBatch(batch);
  return true;
}

std::vector<absl::Status> StoreImpl::GetInto(absl::Span<const GetRequest> requests,
                                             const GetOptions& options) {
  const DemandScope scope(this);
  std::vector<absl::Status> statuses(requests.size(), scope.status());
  if (!scope.status().ok()) return statuses;
  const Deadline deadline = DeadlineAfter(options.timeout);
  // What the direct transfers end in; the caller sleeps here until the last has.
  struct Ended {
    Mutex mutex;
    CondVar all;
    size_t left ABSL_GUARDED_BY(mutex) = 0;
  } ended;
  IoBatch batch;
  std::vector<std::pair<size_t, Gpu*>> copies;
  for (size_t i = 0; i < requests.size(); ++i) {
    const GetRequest& request = requests[i];
    const absl::StatusOr<Gpu*> gpu = ValidateGetInto(request, options);
    statuses[i] = gpu.status();
    if (!gpu.ok()) continue;
    DirectReadDone done = [&ended, status = &statuses[i]](absl::Status result) {
      MutexLock lock(ended.mutex);
      *status = std::move(result);
      if (--ended.left == 0) ended.all.NotifyAll();
    };
    {
      MutexLock lock(ended.mutex);
      ++ended.left;
    }
    if (StartGetInto(Hashed(request.key.bytes()), request.pieces, *gpu, done, batch)) continue;
    copies.emplace_back(i, *gpu);
    MutexLock lock(ended.mutex);
    --ended.left;
  }
  SubmitBatch(batch);
  for (const auto& [i, gpu] : copies) {
    statuses[i] = CopyInto(Hashed(requests[i].key.bytes()), requests[i].pieces, gpu, deadline);
  }
  MutexLock lock(ended.mutex);
  while (ended.left > 0) ended.all.Wait(ended.mutex);
  return statuses;
}

absl::Status StoreImpl::GetInto(absl::Span<const GetRequest> requests, const GetOptions& options,
                                CompletionQueue& queue) {
  const DemandScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  std::vector<Gpu*> gpus;
  gpus.reserve(requests.size());
  for (const GetRequest& request : requests) {
    CAIRN_ASSIGN_OR_RETURN(Gpu* const gpu, ValidateGetInto(request, options));
    gpus.push_back(gpu);
  }
  CAIRN_RETURN_IF_ERROR(queue.Reserve(requests.size()));
  const Deadline deadline = DeadlineAfter(options.timeout);
  IoBatch batch;
  std::vector<OwnedGet> copies;
  for (size_t i = 0; i < requests.size(); ++i) {
    const GetRequest& request = requests[i];
    DirectReadDone done = [&queue, tag = request.tag](absl::Status status) {
      queue.Push({.tag = tag, .status = std::move(status), .handle = {}});
    };
    if (StartGetInto(Hashed(request.key.bytes()), request.pieces, gpus[i], done, batch)) continue;
    copies.push_back({std::string(request.key.bytes()),
                      {request.pieces.begin(), request.pieces.end()},
                      request.tag,
                      gpus[i]});
  }
  SubmitBatch(batch);
  if (copies.empty()) return absl::OkStatus();
  // Copying is the worker's: the host polls and must not be held up.
  std::vector<uint64_t> tags;
  tags.reserve(copies.size());
  for (const OwnedGet& get : copies) tags.push_back(get.tag);
  Worker::Task task = [this, copies = std::move(copies), deadline, &queue] {
    for (const OwnedGet& get : copies) {
      absl::Status status = CopyInto(Hashed(get.key), get.pieces, get.gpu, deadline);
      queue.Push({.tag = get.tag, .status = std::move(status), .handle = {}});
    }
  };
  if (core_->loads->TryPost(task)) return absl::OkStatus();
  // The transfers that were started go on: the rest ends here, each by itself.
  const absl::Status refused = absl::ResourceExhaustedError(
      absl::StrCat("more than ", core_->options.async_queue_max, " asynchronous calls wait"));
  for (const uint64_t tag : tags) {
    core_->stats.CountUnserved(refused);
    queue.Push({.tag = tag, .status = refused, .handle = {}});
  }
  return absl::OkStatus();
}

}  // namespace cairn
