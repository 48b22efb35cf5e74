#pragma once

#include <cstddef>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "src/base/mutex.h"

namespace cairn::peers {

// Client threads that serve one batch together: each takes the next item as soon as it is free.
class Crew {
 public:
  explicit Crew(size_t thread_count);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // task(i) for each i below `count`, and the first failure. One call at a time.
  absl::Status ForEach(size_t count, absl::FunctionRef<absl::Status(size_t)> task)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Task = absl::FunctionRef<absl::Status(size_t)>;

  void Work() ABSL_LOCKS_EXCLUDED(mutex_);

  Mutex mutex_;
  CondVar work_;
  CondVar done_;
  const Task* task_ ABSL_GUARDED_BY(mutex_) = nullptr;
  size_t count_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t finished_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace cairn::peers
