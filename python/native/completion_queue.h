#pragma once

// Where submitted calls end. Keeps what they borrow until their completion is drained.

#include <nanobind/nanobind.h>

#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "native/tensors.h"

namespace cairn::python {

class PyCompletionQueue {
 public:
  explicit PyCompletionQueue(size_t capacity);
  ~PyCompletionQueue();
  PyCompletionQueue(const PyCompletionQueue&) = delete;
  PyCompletionQueue& operator=(const PyCompletionQueue&) = delete;

  CompletionQueue& queue();
  int Fileno();
  nb::list Drain(size_t count_max);
  nb::list Wait(std::optional<double> timeout, size_t count_max);
  size_t outstanding();

  // Names `owners.size()` calls to come, call i of the tag first_tag + i; returns the id of the
  // first, which they must be submitted under. Forget takes them back.
  uint64_t Remember(std::vector<std::vector<Borrowed>> owners, uint64_t first_tag);
  void Forget(uint64_t first_id, size_t count);

 private:
  struct Pending {
    uint64_t tag;
    std::vector<Borrowed> owners;
  };
  nb::list ToList(absl::Span<Completion> done);

  std::unique_ptr<CompletionQueue> queue_;
  const uint64_t fork_generation_;
  // Under the GIL.
  std::unordered_map<uint64_t, Pending> pending_;
  uint64_t next_id_ = 0;
};

void BindCompletionQueue(nb::module_& module);

}  // namespace cairn::python
