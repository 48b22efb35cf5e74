#include "bench/tier/store_session.h"

#include <utility>

#include "bench/tier/store_target.h"
#include "tools/offload/block_content.h"

namespace cairn::bench {
namespace {

// Two jobs of different sizes have no content in common.
uint64_t ContentIdOf(const Job& job, uint64_t unit) {
  return offload::Scramble(job.slot_bytes()) + unit;
}

}  // namespace

KeySession::KeySession(SlotMemory memory, Store& store, const Job& job)
    : Session(std::move(memory)), store_(store), job_(job) {
  registered_ = store_.RegisterMemory(memory_.all()).ok();
}

KeySession::~KeySession() {
  if (registered_) store_.UnregisterMemory(memory_.all()).IgnoreError();
}

void KeySession::Fill(const Request& request) {
  offload::FillBlock(ContentIdOf(job_, request.unit), memory_.slot(request.slot, request.bytes));
}

std::optional<uint64_t> KeySession::FirstDifference(const Request& request) const {
  return offload::FirstDifference(ContentIdOf(job_, request.unit),
                                  memory_.slot(request.slot, request.bytes));
}

PutOptions KeySession::PutOptionsOf(const Request& request) const {
  PutOptions options;
  options.durability = request.flushed ? Durability::kFlushed : job_.durability;
  return options;
}

StoreSession::StoreSession(SlotMemory memory, Store& store, std::unique_ptr<CompletionQueue> queue,
                           const Job& job)
    : KeySession(std::move(memory), store, job),
      queue_(std::move(queue)),
      keys_(job.depth),
      pieces_(job.depth),
      const_pieces_(job.depth),
      completions_(job.depth) {}

void StoreSession::Begin(absl::Span<const Request> requests) {
  while (!requests.empty()) {
    // One call for as many as are alike.
    const Request& first = requests.front();
    size_t count = 1;
    while (count < requests.size() && requests[count].kind == first.kind &&
           requests[count].flushed == first.flushed) {
      ++count;
    }
    const absl::Span<const Request> alike = requests.first(count);
    for (const Request& request : alike) keys_[request.slot] = KeyOf(job_, request.unit);
    if (first.kind == Request::Kind::kRead) {
      BeginGets(alike);
    } else if (PutOptionsOf(first).durability == Durability::kInMemory) {
      for (const Request& request : alike) PutNow(request);
    } else {
      BeginPuts(alike);
    }
    requests.remove_prefix(count);
  }
}

void StoreSession::BeginGets(absl::Span<const Request> requests) {
  gets_.clear();
  for (const Request& request : requests) {
    pieces_[request.slot] = {.data = memory_.slot(request.slot), .size = request.bytes};
    gets_.push_back(
        {.key = keys_[request.slot], .pieces = {&pieces_[request.slot], 1}, .tag = request.slot});
  }
  const absl::Status status = store_.GetInto(gets_, {}, *queue_);
  if (!status.ok()) EndAll(requests, status);
}

void StoreSession::BeginPuts(absl::Span<const Request> requests) {
  puts_.clear();
  for (const Request& request : requests) {
    const_pieces_[request.slot] = {.data = memory_.slot(request.slot), .size = request.bytes};
    puts_.push_back({.key = keys_[request.slot],
                     .meta = TensorMeta::Bytes(request.bytes),
                     .pieces = {&const_pieces_[request.slot], 1},
                     .tag = request.slot});
  }
  const absl::Status status = store_.PutFrom(puts_, PutOptionsOf(requests.front()), *queue_);
  if (!status.ok()) EndAll(requests, status);
}

void StoreSession::PutNow(const Request& request) {
  const TensorView view = {.meta = TensorMeta::Bytes(request.bytes),
                           .data = memory_.slot(request.slot),
                           .size = request.bytes};
  ended_.push_back({.slot = request.slot,
                    .status = store_.Put(keys_[request.slot], view, PutOptionsOf(request))});
}

void StoreSession::EndAll(absl::Span<const Request> requests, const absl::Status& status) {
  for (const Request& request : requests) {
    ended_.push_back({.slot = request.slot, .status = status});
  }
}

void StoreSession::Reap(std::vector<Ended>& ended) {
  const bool wait = ended_.empty();
  for (Ended& end : ended_) ended.push_back(std::move(end));
  ended_.clear();
  const size_t count = wait ? queue_->Wait(absl::MakeSpan(completions_), absl::InfiniteDuration())
                            : queue_->Drain(absl::MakeSpan(completions_));
  for (size_t i = 0; i < count; ++i) {
    Completion& completion = completions_[i];
    ended.push_back({.slot = completion.tag, .status = std::move(completion.status)});
  }
}

PinnedSession::PinnedSession(SlotMemory memory, Store& store, const Job& job,
                             double memcpy_bytes_per_s)
    : KeySession(std::move(memory), store, job), memcpy_bytes_per_s_(memcpy_bytes_per_s) {}

void PinnedSession::Begin(absl::Span<const Request> requests) {
  for (const Request& request : requests) {
    const std::string key = KeyOf(job_, request.unit);
    std::byte* const data = memory_.slot(request.slot);
    if (request.kind == Request::Kind::kRead) {
      const Piece piece = {.data = data, .size = request.bytes};
      const GetRequest get = {.key = key, .pieces = {&piece, 1}};
      ended_.push_back(
          {.slot = request.slot, .status = std::move(store_.GetInto({&get, 1}, {}).front())});
    } else {
      const TensorView view = {
          .meta = TensorMeta::Bytes(request.bytes), .data = data, .size = request.bytes};
      ended_.push_back({.slot = request.slot,
                        .status = store_.Put(key, view, {.durability = Durability::kInMemory})});
    }
  }
}

void PinnedSession::Reap(std::vector<Ended>& ended) {
  for (Ended& end : ended_) ended.push_back(std::move(end));
  ended_.clear();
}

GpuSession::GpuSession(SlotMemory memory, Store& store, std::unique_ptr<CompletionQueue> queue,
                       const Job& job, double copy_bytes_per_s)
    : KeySession(std::move(memory), store, job),
      queue_(std::move(queue)),
      copy_bytes_per_s_(copy_bytes_per_s),
      completions_(job.depth) {}

void GpuSession::Begin(absl::Span<const Request> requests) {
  for (const Request& request : requests) {
    const std::string text = KeyOf(job_, request.unit);
    const TensorKey key = text;
    absl::Status status =
        store_.GetAsync({&key, 1}, {.want = Level::kL1Gpu}, *queue_, request.slot);
    if (!status.ok()) ended_.push_back({.slot = request.slot, .status = std::move(status)});
  }
}

void GpuSession::Reap(std::vector<Ended>& ended) {
  const bool wait = ended_.empty();
  for (Ended& end : ended_) ended.push_back(std::move(end));
  ended_.clear();
  const size_t count = wait ? queue_->Wait(absl::MakeSpan(completions_), absl::InfiniteDuration())
                            : queue_->Drain(absl::MakeSpan(completions_));
  for (size_t i = 0; i < count; ++i) {
    Completion& done = completions_[i];
    if (done.status.ok() && job_.verify) {
      done.status = done.handle.CopyTo(memory_.slot(done.tag, done.handle.view().size));
    }
    done.handle.Release();
    ended.push_back({.slot = done.tag, .status = std::move(done.status)});
  }
}

}  // namespace cairn::bench
