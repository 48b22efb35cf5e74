#include "native/completion_queue.h"

#include <nanobind/stl/optional.h>

#include <algorithm>

#include "native/errors.h"

namespace cairn::python {
namespace {

constexpr size_t kDrainedAtOnce = 256;

}  // namespace

PyCompletionQueue::PyCompletionQueue(size_t capacity) : fork_generation_(ForkGeneration()) {
  absl::StatusOr<std::unique_ptr<CompletionQueue>> queue = CompletionQueue::Create(capacity);
  RaiseIfError(queue.status());
  queue_ = *std::move(queue);
}

PyCompletionQueue::~PyCompletionQueue() {
  if (fork_generation_ != ForkGeneration()) queue_.release();  // The parent's.
}

CompletionQueue& PyCompletionQueue::queue() {
  RaiseIfForked(fork_generation_);
  return *queue_;
}

int PyCompletionQueue::Fileno() { return queue().event_fd(); }

size_t PyCompletionQueue::outstanding() { return queue().outstanding(); }

uint64_t PyCompletionQueue::Remember(std::vector<std::vector<Borrowed>> owners,
                                     uint64_t first_tag) {
  const uint64_t first_id = next_id_;
  next_id_ += owners.size();
  for (size_t i = 0; i < owners.size(); ++i) {
    pending_.emplace(first_id + i, Pending{first_tag + i, std::move(owners[i])});
  }
  return first_id;
}

void PyCompletionQueue::Forget(uint64_t first_id, size_t count) {
  for (size_t i = 0; i < count; ++i) pending_.erase(first_id + i);
}

nb::list PyCompletionQueue::ToList(absl::Span<Completion> done) {
  nb::list list;
  if (done.empty()) return list;
  const nb::object type = nb::module_::import_("cairn.completion").attr("Completion");
  for (Completion& one : done) {
    const auto pending = pending_.find(one.tag);
    nb::object handle = nb::none();
    if (one.handle.valid()) handle = NewTensorHandle(std::move(one.handle));
    list.append(type(pending->second.tag, ToException(one.status), handle));
    pending_.erase(pending);
  }
  return list;
}

nb::list PyCompletionQueue::Drain(size_t count_max) {
  Completion done[kDrainedAtOnce];
  const size_t count = queue().Drain(absl::MakeSpan(done, std::min(count_max, kDrainedAtOnce)));
  return ToList(absl::MakeSpan(done, count));
}

nb::list PyCompletionQueue::Wait(std::optional<double> timeout, size_t count_max) {
  const absl::Duration duration = Seconds("timeout", timeout);
  CompletionQueue& queue = this->queue();
  Completion done[kDrainedAtOnce];
  size_t count = 0;
  {
    const nb::gil_scoped_release released;
    count = queue.Wait(absl::MakeSpan(done, std::min(count_max, kDrainedAtOnce)), duration);
  }
  return ToList(absl::MakeSpan(done, count));
}

void BindCompletionQueue(nb::module_& module) {
  nb::class_<PyCompletionQueue>(
      module, "CompletionQueue",
      "Where submitted calls end, for hosts that poll: a descriptor to sleep on, and completions\n"
      "drained in batches. More than `capacity` outstanding calls are refused with\n"
      "ResourceExhaustedError, which starts nothing. It keeps what the calls borrow until they "
      "are\n"
      "drained: a tensor must not be touched before that.")
      .def(nb::init<size_t>(), nb::arg("capacity") = 4096)
      .def("fileno", &PyCompletionQueue::Fileno,
           "Readable while completions wait to be drained. Poll it; never read or close it.")
      .def("drain", &PyCompletionQueue::Drain, nb::arg("count_max") = kDrainedAtOnce,
           nb::sig("def drain(self, count_max: int = 256) -> list[cairn.completion.Completion]"),
           "Up to count_max (256 at most) completions, oldest first. Never blocks.")
      .def("wait", &PyCompletionQueue::Wait, nb::arg("timeout") = nb::none(),
           nb::arg("count_max") = kDrainedAtOnce,
           nb::sig("def wait(self, timeout: float | None = None, count_max: int = 256)"
                   " -> list[cairn.completion.Completion]"),
           "Like drain, but sleeps until there is one or `timeout` seconds have passed.")
      .def_prop_ro("outstanding", &PyCompletionQueue::outstanding,
                   "Calls submitted and not yet drained.");
}

}  // namespace cairn::python
