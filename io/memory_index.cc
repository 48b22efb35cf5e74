#include "io/memory_index.h"

#include <utility>

namespace cairn {

absl::StatusOr<std::string> MemoryIndex::ReadRaw(std::string_view key) const {
  MutexLock lock(mutex_);
  const auto found = entries_.find(key);
  if (found == entries_.end()) return absl::NotFoundError("no such index entry");
  return found->second;
}

absl::Status MemoryIndex::WriteRaw(const std::vector<RawEdit>& edits, bool /*sync*/) {
  MutexLock lock(mutex_);
  for (const RawEdit& edit : edits) {
    if (edit.kind == IndexEdit::Kind::kPut) {
      entries_.insert_or_assign(edit.key, edit.value);
    } else {
      entries_.erase(edit.key);
    }
  }
  return absl::OkStatus();
}

absl::Status MemoryIndex::ScanRaw(
    std::string_view prefix, RawVisitor visitor,
    absl::FunctionRef<bool(std::string_view, const absl::Status&)> /*damaged*/) const {
  // A copy, so that a visitor may change the index, as with RocksDB's snapshots.
  std::map<std::string, std::string, std::less<>> entries;
  {
    MutexLock lock(mutex_);
    entries = entries_;
  }
  for (auto entry = entries.lower_bound(prefix); entry != entries.end(); ++entry) {
    if (std::string_view(entry->first).substr(0, prefix.size()) != prefix) break;
    if (!visitor(entry->first, entry->second)) break;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> MemoryIndex::LastRaw(std::string_view prefix) const {
  MutexLock lock(mutex_);
  std::string last;
  for (auto entry = entries_.lower_bound(prefix); entry != entries_.end(); ++entry) {
    if (std::string_view(entry->first).substr(0, prefix.size()) != prefix) break;
    last = entry->first;
  }
  if (last.empty()) return absl::NotFoundError("no index entry of this kind");
  return last;
}

std::unique_ptr<Index> NewMemoryIndex() { return std::make_unique<MemoryIndex>(); }

}  // namespace cairn
