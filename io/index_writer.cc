#include "io/index_writer.h"

#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/strings.h"
#include "src/base/wake_scope.h"

namespace cairn {

struct IndexWriter::Batch {
  struct Entry {
    IndexChange* change = nullptr;
    absl::Status status;
  };
  std::vector<Entry> entries;
  uint64_t flushes = 0;
  uint64_t commits = 0;
};

IndexWriter::IndexWriter(Index* index, uint64_t data_file_bytes, FlushData flush_data)
    : index_(index), data_file_bytes_(data_file_bytes), flush_data_(std::move(flush_data)) {
  CAIRN_CHECK(data_file_bytes_ > 0);
}

absl::Status IndexWriter::Start() {
  return thread_.Start("cairn-index", [this] { Run(); });
}

IndexWriter::~IndexWriter() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  work_->Wake();
}

void IndexWriter::Enqueue(IndexChange* change) {
  change->next_ = nullptr;
  bool was_empty = false;
  {
    MutexLock lock(mutex_);
    CAIRN_CHECK(!stop_);
    was_empty = tail_ == nullptr;
    (was_empty ? head_ : tail_->next_) = change;
    tail_ = change;
    ++enqueued_;
  }
  // Only an empty queue can have the writer asleep.
  if (was_empty) WakeScope::Wake(work_);
}

void IndexWriter::Drain() {
  MutexLock lock(mutex_);
  const uint64_t target = enqueued_;
  while (committed_ < target) drained_.Wait(mutex_);
}

uint64_t IndexWriter::commits() const {
  MutexLock lock(mutex_);
  return commits_;
}

uint64_t IndexWriter::flushes() const {
  MutexLock lock(mutex_);
  return flushes_;
}

void IndexWriter::Run() {
  for (;;) {
    IndexChange* change = nullptr;
    {
      MutexLock lock(mutex_);
      while (head_ == nullptr && !stop_) work_->come.Wait(mutex_);
      if (head_ == nullptr) return;
      change = std::exchange(head_, nullptr);
      tail_ = nullptr;
    }
    Batch batch;
    for (; change != nullptr; change = change->next_) batch.entries.push_back({.change = change});
    Commit(batch);
    {
      MutexLock lock(mutex_);
      flushes_ += batch.flushes;
      commits_ += batch.commits;
    }
    {
      const WakeScope wakes;
      for (Batch::Entry& entry : batch.entries) {
        entry.change->OnCommitted(std::move(entry.status));
      }
    }
    MutexLock lock(mutex_);
    committed_ += batch.entries.size();
    drained_.NotifyAll();
  }
}

void IndexWriter::Commit(Batch& batch) {
  std::map<uint64_t, absl::Status> flushed_files;
  std::vector<IndexEdit> edits;
  edits.reserve(batch.entries.size());
  bool sync = false;
  for (Batch::Entry& entry : batch.entries) {
    const IndexChange& change = *entry.change;
    // A removal has no bytes of its own to flush.
    if (change.flush && change.kind == IndexEdit::Kind::kPut) {
      const uint64_t file = change.record.offset / data_file_bytes_;
      const auto [flushed, first] = flushed_files.try_emplace(file);
      if (first) {
        flushed->second = flush_data_(change.record.offset);
        ++batch.flushes;
      }
      if (!flushed->second.ok()) {
        entry.status = absl::UnavailableError(
            absl::StrCat("flush of data file ", file, ": ", flushed->second.message()));
        continue;
      }
    }
    sync = sync || change.flush;
    edits.push_back(IndexEdit{.kind = change.kind,
                              .key = {.fingerprint_id = change.fingerprint_id, .key = change.key},
                              .record = change.record});
  }
  if (edits.empty()) return;
  const absl::Status committed = index_->Commit(edits, sync);
  ++batch.commits;
  if (committed.ok()) return;
  for (Batch::Entry& entry : batch.entries) {
    if (entry.status.ok()) entry.status = committed;
  }
}

}  // namespace cairn
