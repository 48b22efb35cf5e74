#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "io/index.h"
#include "src/base/mutex.h"
#include "src/base/thread.h"
#include "src/base/wake_scope.h"

namespace cairn {

// One edit on its way to the index. Owned by the caller from Enqueue to OnCommitted.
class IndexChange {
 public:
  IndexEdit::Kind kind = IndexEdit::Kind::kPut;
  uint32_t fingerprint_id = 0;
  std::string key;
  IndexRecord record;
  // Flush the record's data file and sync the index before OnCommitted.
  bool flush = false;

  IndexChange() = default;
  IndexChange(const IndexChange&) = delete;
  IndexChange& operator=(const IndexChange&) = delete;
  virtual ~IndexChange() = default;

  // Once, on the writer's thread. Must not block; may destroy this.
  virtual void OnCommitted(absl::Status status) = 0;

 private:
  friend class IndexWriter;
  IndexChange* next_ = nullptr;
};

// The one writer of the index: commits edits in the order they were enqueued, all that have
// gathered meanwhile as one batch, so that one flush and one sync serve every edit that asks.
// Thread-safe.
class IndexWriter {
 public:
  // Flushes the device under the data file that holds this L3 offset.
  using FlushData = absl::AnyInvocable<absl::Status(uint64_t offset)>;

  // `index` must outlive this. `data_file_bytes` tells which offsets share a file.
  IndexWriter(Index* index, uint64_t data_file_bytes, FlushData flush_data);
  // Commits what was enqueued.
  ~IndexWriter();

  // Once: what was enqueued before it waits.
  absl::Status Start();

  void Enqueue(IndexChange* change) ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns when every edit enqueued before the call has had its OnCommitted. Not with a WakeScope
  // open in this thread: what it has enqueued may wait for the end of that.
  void Drain() ABSL_LOCKS_EXCLUDED(mutex_);

  uint64_t commits() const;
  uint64_t flushes() const;

 private:
  struct Batch;
  // Where the writer sleeps. Woken once for what a WakeScope enqueues, so that it makes one batch.
  struct Work final : Wakeable {
    void Wake() override { come.NotifyOne(); }
    CondVar come;
  };
  void Run();
  void Commit(Batch& batch);

  // Constant.
  Index* const index_;
  const uint64_t data_file_bytes_;
  const std::shared_ptr<Work> work_ = std::make_shared<Work>();
  // Only on the writer's thread.
  FlushData flush_data_;

  mutable Mutex mutex_;
  CondVar drained_;
  IndexChange* head_ ABSL_GUARDED_BY(mutex_) = nullptr;
  IndexChange* tail_ ABSL_GUARDED_BY(mutex_) = nullptr;
  uint64_t enqueued_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t committed_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t commits_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t flushes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;

  Thread thread_;
};

}  // namespace cairn
