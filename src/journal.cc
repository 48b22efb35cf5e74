#include "src/journal.h"

#include <cstddef>
#include <utility>

namespace cairn {

Journal::Journal(size_t records_max, std::function<int64_t()> now_unix_ms)
    : records_max_of_part_(records_max / kParts),
      now_unix_ms_(std::move(now_unix_ms)),
      parts_(std::make_unique<Part[]>(kParts)) {
  for (size_t i = 0; i < kParts; ++i) {
    MutexLock lock(parts_[i].mutex);
    parts_[i].records.reserve(records_max_of_part_);
  }
}

void Journal::Add(Part& part, const JournalRecord& record) {
  if (part.records.size() < records_max_of_part_) {
    part.records.push_back(record);
  } else if (records_max_of_part_ > 0) {
    part.records[part.next] = record;
    part.next = part.next + 1 == part.records.size() ? 0 : part.next + 1;
  }
}

void Journal::Note(uint64_t key_hash, Decision decision, uint64_t bytes) {
  const JournalRecord record = {key_hash, now_unix_ms_(), bytes, decision};
  Part& part = PartOf(key_hash);
  MutexLock lock(part.mutex);
  ++part.counts[static_cast<size_t>(decision)];
  Add(part, record);
}

std::vector<JournalRecord> Journal::Of(uint64_t key_hash) const {
  std::vector<JournalRecord> found;
  const Part& part = PartOf(key_hash);
  MutexLock lock(part.mutex);
  for (size_t i = 0; i < part.records.size(); ++i) {
    const JournalRecord& record = part.records[(part.next + i) % part.records.size()];
    if (record.key_hash == key_hash) found.push_back(record);
  }
  return found;
}

std::vector<JournalRecord> Journal::All() const {
  std::vector<JournalRecord> all;
  for (size_t i = 0; i < kParts; ++i) {
    const Part& part = parts_[i];
    MutexLock lock(part.mutex);
    const auto oldest = part.records.begin() + static_cast<std::ptrdiff_t>(part.next);
    all.insert(all.end(), oldest, part.records.end());
    all.insert(all.end(), part.records.begin(), oldest);
  }
  return all;
}

void Journal::Restore(absl::Span<const JournalRecord> records) {
  for (const JournalRecord& record : records) {
    Part& part = PartOf(record.key_hash);
    MutexLock lock(part.mutex);
    Add(part, record);
  }
}

Journal::Counts Journal::counts() const {
  Counts sums = {};
  for (size_t i = 0; i < kParts; ++i) {
    MutexLock lock(parts_[i].mutex);
    for (size_t j = 0; j < kDecisions; ++j) sums[j] += parts_[i].counts[j];
  }
  return sums;
}

}  // namespace cairn
