#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "cairn/export.h"
#include "cairn/handle.h"

namespace cairn {

// The end of one asynchronous call.
struct Completion {
  uint64_t tag = 0;     // As the caller gave it.
  absl::Status status;  // Per tensor: the codes of the verb, see store.h.
  TensorHandle handle;  // Valid for a GetAsync that succeeded.
};

// Where asynchronous calls end, for hosts that poll: an eventfd to sleep on (epoll, asyncio) and
// completions drained in batches.
//
//   auto queue = cairn::CompletionQueue::Create(4096);
//   store->GetInto(requests, {}, **queue);
//   cairn::Completion done[64];
//   size_t count = (*queue)->Drain(absl::MakeSpan(done));
//
// Bounded: a call that would let more than `capacity` completions be outstanding is refused with
// kResourceExhausted and starts nothing. Thread-safe. Must outlive the calls that name it: drain
// what was submitted (outstanding() == 0) or close the store before destroying it.
class CAIRN_EXPORT CompletionQueue {
 public:
  // kInvalidArgument for a capacity of 0; kResourceExhausted when no eventfd can be had.
  static absl::StatusOr<std::unique_ptr<CompletionQueue>> Create(size_t capacity);
  ~CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  // Readable while completions wait to be drained. Owned by the queue: poll it, never read or
  // close it.
  int event_fd() const;

  // Moves up to done.size() completions out, oldest first. Never blocks.
  size_t Drain(absl::Span<Completion> done);

  // Like Drain, but sleeps until at least one completion is there or `timeout` has passed.
  size_t Wait(absl::Span<Completion> done, absl::Duration timeout);

  // Calls submitted and not yet drained.
  size_t outstanding() const;

  // For the store. Reserves room for `count` completions, or says kResourceExhausted.
  absl::Status Reserve(size_t count);
  // For the store. Gives room back that no call will use.
  void Unreserve(size_t count);
  // For the store. Ends one call reserved before.
  void Push(Completion completion);

 private:
  struct State;
  explicit CompletionQueue(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace cairn
