#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "cairn/journal.h"
#include "io/journal_file.h"
#include "src/base/mutex.h"

namespace cairn {

// What was decided last, for whoever asks why a tensor is where it is; and how often each was
// decided. Bounded: of each of its parts, which the keys are spread over, the oldest makes room.
// Its lock is a leaf, taken below a directory stripe's. Thread-safe.
class Journal {
 public:
  using Counts = std::array<uint64_t, kDecisions>;

  // Without records only counts.
  Journal(size_t records_max, std::function<int64_t()> now_unix_ms);

  void Note(uint64_t key_hash, Decision decision, uint64_t bytes);

  // Oldest first.
  std::vector<JournalRecord> Of(uint64_t key_hash) const;
  // Those of one key in their order.
  std::vector<JournalRecord> All() const;
  // What All said when the store was open before. Counts nothing. Before the first Note.
  void Restore(absl::Span<const JournalRecord> records);

  Counts counts() const;
  size_t records_max() const { return records_max_of_part_ * kParts; }

 private:
  static constexpr size_t kParts = 64;
  static constexpr uint32_t kPartShift = 64 - 6;
  struct alignas(64) Part {
    mutable Mutex mutex;
    // A ring from when it is full on: the next takes the place of the oldest.
    std::vector<JournalRecord> records ABSL_GUARDED_BY(mutex);
    size_t next ABSL_GUARDED_BY(mutex) = 0;
    Counts counts ABSL_GUARDED_BY(mutex) = {};
  };
  Part& PartOf(uint64_t key_hash) const { return parts_[key_hash >> kPartShift]; }
  void Add(Part& part, const JournalRecord& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(part.mutex);

  // Constant.
  const size_t records_max_of_part_;
  const std::function<int64_t()> now_unix_ms_;
  const std::unique_ptr<Part[]> parts_;
};

}  // namespace cairn
