#include "bench/peers/crew.h"

namespace cairn::peers {

Crew::Crew(size_t thread_count) {
  for (size_t i = 0; i < thread_count; ++i) threads_.emplace_back([this] { Work(); });
}

Crew::~Crew() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  work_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
}

absl::Status Crew::ForEach(size_t count, Task task) {
  MutexLock lock(mutex_);
  task_ = &task;
  count_ = count;
  next_ = 0;
  finished_ = 0;
  status_ = absl::OkStatus();
  work_.NotifyAll();
  while (finished_ < count_) done_.Wait(mutex_);
  count_ = 0;
  next_ = 0;
  return status_;
}

void Crew::Work() {
  mutex_.Lock();
  for (;;) {
    while (!stop_ && next_ >= count_) work_.Wait(mutex_);
    if (stop_) break;
    const Task* const task = task_;
    const size_t item = next_++;
    mutex_.Unlock();
    absl::Status status = (*task)(item);
    mutex_.Lock();
    if (status_.ok()) status_ = std::move(status);
    if (++finished_ == count_) done_.NotifyAll();
  }
  mutex_.Unlock();
}

}  // namespace cairn::peers
