#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "io/async_io.h"
#include "src/base/mutex.h"
#include "tests/io_decorator.h"

namespace cairn {

// Nothing completes until the test says which, or ends early: what it leaves behind, a store or a
// thread, waits for its ops.
class ManualIo final : public IoDecorator, public ::testing::EmptyTestEventListener {
 public:
  explicit ManualIo(std::unique_ptr<AsyncIo> inner) : IoDecorator(std::move(inner)) {
    ::testing::UnitTest::GetInstance()->listeners().Append(this);
  }

  ~ManualIo() override {
    ::testing::UnitTest::GetInstance()->listeners().Release(this);
    Release();
    EndInner();
  }

  // Ops submitted and not yet completed, in order of submission.
  size_t pending() {
    MutexLock lock(mutex_);
    return waiting_.size();
  }
  // Until there are at least so many, or all are let go.
  void WaitForPending(size_t count) {
    MutexLock lock(mutex_);
    while (waiting_.size() < count && !released_) changed_.Wait(mutex_);
  }
  const IoOp& op(size_t index) {
    MutexLock lock(mutex_);
    return *waiting_.at(index)->original;
  }

  // Carries the op out. Returns after its OnDone, which runs on a thread of the inner engine.
  void Complete(size_t index) { CarryOut(Take(index)); }

  // Does nothing but OnDone, on this thread.
  void Complete(size_t index, absl::Status status) {
    Take(index)->OnDone(std::move(status));  // Destroys itself.
  }

  // Carries out all, in order, and what OnDone submits meanwhile.
  void CompleteAll() {
    while (pending() > 0) Complete(0);
  }

  // From here on ops complete by themselves, those that wait first. For the end of a test: a store
  // that closes waits for its ops.
  void Release() {
    std::deque<Forward*> forwards;
    {
      MutexLock lock(mutex_);
      released_ = true;
      forwards.swap(waiting_);
      changed_.NotifyAll();
    }
    for (IoOp* op : forwards) inner_->Submit({&op, 1});
  }

  void Submit(absl::Span<IoOp* const> ops) override {
    const uint8_t epoch = drain_.Enter(ops.size());
    std::vector<IoOp*> released;
    {
      MutexLock lock(mutex_);
      for (IoOp* op : ops) {
        Forward* const forward = new Forward(*this, op, epoch);
        released_ ? released.push_back(forward) : waiting_.push_back(forward);
      }
      changed_.NotifyAll();
    }
    inner_->Submit(released);
  }
  const char* name() const override { return "manual"; }

  // Of the test that is running, on any of its threads.
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.fatally_failed() || result.skipped()) Release();
  }

 private:
  // Stands for an op before the inner engine; destroys itself in OnDone.
  struct Forward final : IoOp {
    Forward(ManualIo& manual, IoOp* op, uint8_t op_epoch)
        : owner(manual), original(op), epoch(op_epoch) {
      kind = op->kind;
      priority = op->priority;
      file = op->file;
      offset = op->offset;
      pieces = op->pieces;
    }
    bool needed() const override { return original->needed(); }
    void OnDone(absl::Status status) override {
      original->OnDone(std::move(status));
      owner.drain_.Leave(epoch);
      if (done != nullptr) {
        MutexLock lock(owner.mutex_);
        *done = true;
        owner.changed_.NotifyAll();
      }
      delete this;
    }

    ManualIo& owner;
    IoOp* const original;
    const uint8_t epoch;
    bool* done = nullptr;  // What CarryOut waits for; guarded by mutex_.
  };

  Forward* Take(size_t index) {
    MutexLock lock(mutex_);
    Forward* const forward = waiting_.at(index);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(index));
    return forward;
  }

  void CarryOut(Forward* forward) {
    bool done = false;
    forward->done = &done;
    IoOp* const ops[] = {forward};
    inner_->Submit(ops);
    MutexLock lock(mutex_);
    while (!done) changed_.Wait(mutex_);
  }

  Mutex mutex_;
  CondVar changed_;
  std::deque<Forward*> waiting_ ABSL_GUARDED_BY(mutex_);
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace cairn
