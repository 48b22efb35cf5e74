#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cairn/journal.h"
#include "io/superblock.h"

namespace cairn {

// PATH/journal: what a store decided last for its tensors (FORMAT.md, "Journal").

struct JournalRecord {
  uint64_t key_hash = 0;  // HashKey, of the fingerprint's number and the key.
  int64_t unix_ms = 0;
  uint64_t bytes = 0;
  Decision decision = Decision::kPut;
};

inline constexpr const char* kJournalName = "journal";
inline constexpr size_t kJournalRecordBytes = 24;
// Of a file with so many records.
size_t JournalFileBytes(size_t records);

// Of an index of so many bytes a 64th is for the file, and as much for the next beside it.
size_t JournalRecordsWithin(uint64_t index_bytes_max);

// In place of the one that is there. It is not flushed: no promise rests on it.
absl::Status WriteJournal(const std::string& directory, const StoreUuid& uuid,
                          absl::Span<const JournalRecord> records);
// In the order of the file: those of one key, oldest first. kNotFound; kDataLoss where it does not
// verify; kFailedPrecondition where it is of another store or version.
absl::StatusOr<std::vector<JournalRecord>> ReadJournal(const std::string& directory,
                                                       const StoreUuid& uuid);

}  // namespace cairn
