#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/index.h"
#include "src/base/mutex.h"

namespace cairn {

// Fails commits when told to, as RocksDB does after one failed write to its log.
class BrokenIndex final : public Index {
 public:
  // `reopens`: it is mended by being opened anew.
  BrokenIndex(std::unique_ptr<Index> inner, std::atomic<bool>* broken, bool reopens = false)
      : inner_(std::move(inner)), broken_(broken), reopens_(reopens) {}
  absl::StatusOr<IndexRecord> Find(IndexKey key) const override { return inner_->Find(key); }
  absl::Status Commit(absl::Span<const IndexEdit> edits, bool sync) override {
    ++commits_begun_;
    const MutexLock gate(gate_);
    if (broken_->load()) return absl::UnavailableError("the index log is full");
    if (sync) ++synced_commits_;
    return inner_->Commit(edits, sync);
  }
  int synced_commits() const { return synced_commits_.load(); }
  int commits_begun() const { return commits_begun_.load(); }
  // While a test holds it, commits wait.
  Mutex& gate() { return gate_; }
  absl::Status ForEach(const Visitor& visitor) const override { return inner_->ForEach(visitor); }
  absl::Status DeleteRaw(std::string_view key) override { return inner_->DeleteRaw(key); }
  absl::StatusOr<std::vector<Fingerprint>> Fingerprints() const override {
    return inner_->Fingerprints();
  }
  absl::StatusOr<uint32_t> FingerprintId(std::string_view text) override {
    return inner_->FingerprintId(text);
  }
  absl::Status RestoreFingerprint(const Fingerprint& fingerprint) override {
    return inner_->RestoreFingerprint(fingerprint);
  }
  absl::Status DropFingerprint(uint32_t id) override { return inner_->DropFingerprint(id); }
  absl::Status Sync() override { return inner_->Sync(); }
  absl::Status Reopen() override {
    if (reopens_) broken_->store(false);
    return broken_->load() ? absl::UnavailableError("the index log is full") : inner_->Reopen();
  }

 private:
  const std::unique_ptr<Index> inner_;
  std::atomic<bool>* const broken_;
  const bool reopens_;
  std::atomic<int> commits_begun_ = 0;
  std::atomic<int> synced_commits_ = 0;
  Mutex gate_;
};

}  // namespace cairn
