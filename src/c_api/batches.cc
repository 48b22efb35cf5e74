// Batches on the caller's memory, chains of keys, and the queue where asynchronous calls end.

#include <algorithm>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/c_api/call.h"

namespace cairn::c_api {
namespace {

// The C requests as those of store.h, whose spans of pieces lie in lists of their own.
template <typename Request, typename RequestPiece>
struct Batch {
  std::vector<Request> requests;
  std::vector<std::vector<RequestPiece>> pieces;
};
using PutBatch = Batch<PutRequest, ConstPiece>;
using GetBatch = Batch<GetRequest, Piece>;

template <typename Given, typename Request, typename RequestPiece>
absl::Status ReadBatch(const Given* given, size_t count, Batch<Request, RequestPiece>* batch) {
  if (count > 0) CAIRN_RETURN_IF_ERROR(CheckRequired({{given, "requests"}}));
  batch->requests.reserve(count);
  batch->pieces.reserve(count);
  for (const Given& one : absl::MakeSpan(given, count)) {
    std::string_view key;
    CAIRN_RETURN_IF_ERROR(ReadKey(one.key, &key));
    if (one.piece_count > 0) CAIRN_RETURN_IF_ERROR(CheckRequired({{one.pieces, "pieces"}}));
    std::vector<RequestPiece>& pieces = batch->pieces.emplace_back();
    pieces.reserve(one.piece_count);
    for (const auto& piece : absl::MakeSpan(one.pieces, one.piece_count)) {
      pieces.push_back({static_cast<decltype(RequestPiece::data)>(piece.data), piece.size});
    }
    MemoryKind kind = MemoryKind::kHost;
    CAIRN_RETURN_IF_ERROR(ReadEnum("memory_kind", one.memory_kind, MemoryKind::kManaged, &kind));
    if constexpr (std::is_same_v<Request, PutRequest>) {
      batch->requests.push_back(
          {.key = key, .meta = ReadMeta(one.meta), .pieces = pieces, .tag = one.tag, .kind = kind});
    } else {
      batch->requests.push_back({.key = key, .pieces = pieces, .tag = one.tag, .kind = kind});
    }
  }
  return absl::OkStatus();
}

absl::Status ReadKeys(const cairn_key* given, size_t count, std::vector<TensorKey>* keys) {
  if (count > 0) CAIRN_RETURN_IF_ERROR(CheckRequired({{given, "keys"}}));
  keys->reserve(count);
  for (size_t i = 0; i < count; ++i) {
    std::string_view key;
    CAIRN_RETURN_IF_ERROR(ReadKey(given[i], &key));
    keys->emplace_back(key);
  }
  return absl::OkStatus();
}

// Where a prefetch goes.
absl::Status ReadLevel(const char* name, uint32_t given, Level* level) {
  if (given == 0) return absl::InvalidArgumentError(absl::StrCat(name, " is 0: level 1 or 2"));
  return ReadEnum(name, given, Level::kL2Pinned, level);
}

size_t Prefetch(cairn_store* store, const cairn_key* keys, size_t count,
                const PrefetchOptions& options) {
  size_t started = 0;
  Guarded(nullptr, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}}));
    std::vector<TensorKey> read_keys;
    CAIRN_RETURN_IF_ERROR(ReadKeys(keys, count, &read_keys));
    started = store->store->Prefetch(read_keys, options);
    return absl::OkStatus();
  });
  return started;
}

absl::Status WillNeed(cairn_store* store, const cairn_key* keys, size_t count,
                      WillNeedOptions options, int64_t due_us, uint64_t* token) {
  CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}}));
  CAIRN_RETURN_IF_ERROR(ReadTime("due_us", due_us, &options.due));
  std::vector<TensorKey> read_keys;
  CAIRN_RETURN_IF_ERROR(ReadKeys(keys, count, &read_keys));
  CAIRN_ASSIGN_OR_RETURN(const PrefetchToken taken, store->store->WillNeed(read_keys, options));
  if (token != nullptr) *token = taken;
  return absl::OkStatus();
}

// Status i to results[i]; returns the first that is not OK.
absl::Status WriteResults(const std::vector<absl::Status>& statuses, cairn_status* results) {
  absl::Status first;
  for (size_t i = 0; i < statuses.size(); ++i) {
    if (results != nullptr) Report(statuses[i], &results[i]);
    first.Update(statuses[i]);
  }
  return first;
}

// How many completions are moved at once from one form into the other.
constexpr size_t kDrainedAtOnce = 64;

// Moves completions out of the queue by `drain`, which takes a span and returns a count.
template <typename Drain>
size_t WriteCompletions(cairn_completion* done, size_t count, Drain drain) noexcept {
  size_t written = 0;
  Guarded(nullptr, [&] {
    while (written < count) {
      Completion some[kDrainedAtOnce];
      const size_t room = std::min(count - written, kDrainedAtOnce);
      const size_t drained = drain(absl::MakeSpan(some, room), written == 0);
      for (size_t i = 0; i < drained; ++i, ++written) {
        done[written].tag = some[i].tag;
        Report(some[i].status, &done[written].status);
        done[written].handle =
            some[i].handle.valid() ? NewHandle(std::move(some[i].handle)) : nullptr;
      }
      if (drained < room) break;
    }
    return absl::OkStatus();
  });
  return written;
}

}  // namespace
}  // namespace cairn::c_api

using cairn::c_api::CheckRequired;
using cairn::c_api::Guarded;
using cairn::c_api::ReadOptions;

int cairn_store_put_from(cairn_store* store, const cairn_put_request* requests, size_t count,
                         const cairn_put_options* options, cairn_queue* queue,
                         cairn_status* results, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}}));
    cairn::PutOptions read;
    CAIRN_RETURN_IF_ERROR(ReadOptions(options, &read));
    cairn::c_api::PutBatch batch;
    CAIRN_RETURN_IF_ERROR(cairn::c_api::ReadBatch(requests, count, &batch));
    if (queue != nullptr) return store->store->PutFrom(batch.requests, read, *queue->queue);
    return cairn::c_api::WriteResults(store->store->PutFrom(batch.requests, read), results);
  });
}

int cairn_store_get_into(cairn_store* store, const cairn_get_request* requests, size_t count,
                         const cairn_get_options* options, cairn_queue* queue,
                         cairn_status* results, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}}));
    cairn::GetOptions read;
    CAIRN_RETURN_IF_ERROR(ReadOptions(options, &read));
    cairn::c_api::GetBatch batch;
    CAIRN_RETURN_IF_ERROR(cairn::c_api::ReadBatch(requests, count, &batch));
    if (queue != nullptr) return store->store->GetInto(batch.requests, read, *queue->queue);
    return cairn::c_api::WriteResults(store->store->GetInto(batch.requests, read), results);
  });
}

int cairn_store_get_async(cairn_store* store, const cairn_key* keys, size_t count,
                          const cairn_get_options* options, cairn_queue* queue, uint64_t first_tag,
                          cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}, {queue, "queue"}}));
    cairn::GetOptions read;
    CAIRN_RETURN_IF_ERROR(ReadOptions(options, &read));
    std::vector<cairn::TensorKey> read_keys;
    CAIRN_RETURN_IF_ERROR(cairn::c_api::ReadKeys(keys, count, &read_keys));
    return store->store->GetAsync(read_keys, read, *queue->queue, first_tag);
  });
}

int cairn_store_count_leading(cairn_store* store, const cairn_key* keys, size_t count,
                              int64_t lease_us, cairn_leading_hits* hits, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}, {hits, "hits"}}));
    cairn::LeaseOptions lease;
    CAIRN_RETURN_IF_ERROR(cairn::c_api::ReadTime("lease_us", lease_us, &lease.duration));
    std::vector<cairn::TensorKey> read_keys;
    CAIRN_RETURN_IF_ERROR(cairn::c_api::ReadKeys(keys, count, &read_keys));
    CAIRN_ASSIGN_OR_RETURN(cairn::LeadingHits found, store->store->CountLeading(read_keys, lease));
    *hits = {.count = found.count,
             .count_l1 = found.count_l1,
             .count_l2 = found.count_l2,
             .count_l3 = found.count_l3,
             .bytes = found.bytes,
             .lease = nullptr};
    if (found.count > 0) {
      hits->lease =
          std::make_unique<cairn_lease>(cairn_lease{std::move(found.lease), found.arrival})
              .release();
    }
    return absl::OkStatus();
  });
}

int64_t cairn_lease_arrival_us(const cairn_lease* lease) {
  return lease == nullptr ? 0 : cairn::c_api::WriteTime(lease->arrival);
}

void cairn_lease_release(cairn_lease* lease) {
  Guarded(nullptr, [&] {
    delete lease;
    return absl::OkStatus();
  });
}

size_t cairn_store_prefetch(cairn_store* store, const cairn_key* keys, size_t count, uint32_t to) {
  cairn::PrefetchOptions options;
  const absl::Status level = cairn::c_api::ReadLevel("to", to, &options.to);
  return level.ok() ? cairn::c_api::Prefetch(store, keys, count, options) : 0;
}

size_t cairn_store_prefetch_to_gpu(cairn_store* store, const cairn_key* keys, size_t count,
                                   int32_t gpu) {
  return cairn::c_api::Prefetch(store, keys, count, {.to = cairn::Level::kL1Gpu, .gpu = gpu});
}

int cairn_store_will_need(cairn_store* store, const cairn_key* keys, size_t count, uint32_t to,
                          int64_t due_us, int32_t priority, uint64_t* token, cairn_status* status) {
  return Guarded(status, [&] {
    cairn::WillNeedOptions options = {.priority = priority};
    CAIRN_RETURN_IF_ERROR(cairn::c_api::ReadLevel("to", to, &options.to));
    return cairn::c_api::WillNeed(store, keys, count, options, due_us, token);
  });
}

int cairn_store_will_need_on_gpu(cairn_store* store, const cairn_key* keys, size_t count,
                                 int32_t gpu, int64_t due_us, int32_t priority, uint64_t* token,
                                 cairn_status* status) {
  return Guarded(status, [&] {
    return cairn::c_api::WillNeed(store, keys, count,
                                  {.to = cairn::Level::kL1Gpu, .gpu = gpu, .priority = priority},
                                  due_us, token);
  });
}

size_t cairn_store_cancel(cairn_store* store, uint64_t token) {
  size_t cancelled = 0;
  Guarded(nullptr, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}}));
    cancelled = store->store->Cancel(token);
    return absl::OkStatus();
  });
  return cancelled;
}

int cairn_queue_create(size_t capacity, cairn_queue** queue, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{static_cast<const void*>(queue), "queue"}}));
    CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<cairn::CompletionQueue> created,
                           cairn::CompletionQueue::Create(capacity));
    *queue = std::make_unique<cairn_queue>(cairn_queue{std::move(created)}).release();
    return absl::OkStatus();
  });
}

int cairn_queue_event_fd(const cairn_queue* queue) { return queue->queue->event_fd(); }

size_t cairn_queue_drain(cairn_queue* queue, cairn_completion* done, size_t count) {
  return cairn::c_api::WriteCompletions(
      done, count,
      [queue](absl::Span<cairn::Completion> some, bool) { return queue->queue->Drain(some); });
}

size_t cairn_queue_wait(cairn_queue* queue, cairn_completion* done, size_t count,
                        int64_t timeout_us) {
  const absl::Duration timeout = timeout_us == CAIRN_FOREVER
                                     ? absl::InfiniteDuration()
                                     : absl::Microseconds(std::max<int64_t>(timeout_us, 0));
  return cairn::c_api::WriteCompletions(
      done, count, [queue, timeout](absl::Span<cairn::Completion> some, bool first) {
        return first ? queue->queue->Wait(some, timeout) : queue->queue->Drain(some);
      });
}

size_t cairn_queue_outstanding(const cairn_queue* queue) { return queue->queue->outstanding(); }

void cairn_queue_destroy(cairn_queue* queue) {
  Guarded(nullptr, [&] {
    delete queue;
    return absl::OkStatus();
  });
}
