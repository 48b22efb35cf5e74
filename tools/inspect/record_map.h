#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/index.h"
#include "io/store_files.h"
#include "tools/inspect/read_ahead.h"
#include "tools/inspect/read_buffer.h"

namespace cairn::inspect {

// The tensors whose headers lie in the data files, whatever the index says: found by reading whole
// files, each once, when asked for the first time.
class RecordMap {
 public:
  struct Found {
    uint32_t fingerprint_id = 0;
    std::string fingerprint;
    std::string key;
    IndexRecord record;

    uint64_t end() const { return record.offset + record.extent_bytes(); }
  };
  struct FileRecords {
    std::vector<Found> found;  // In order of the headers' offsets.
    // Where a header begins that does not verify: damaged, or in part used again since.
    std::vector<Run> damaged_headers;
    uint64_t unreadable_bytes = 0;
  };

  explicit RecordMap(const StoreFiles* files) : files_(files) {}

  const StoreFiles& files() const { return *files_; }
  const FileRecords& InFile(size_t file);

  // The tensor of a later write that lies, in whole or in part, in these bytes; nullptr: none.
  const Found* Later(uint64_t offset, uint64_t end, uint64_t sequence);

 private:
  void Scan(size_t file, FileRecords& records);
  // Looks for a header at each block of these bytes; `offset` is where they are on L3.
  void TakeAll(uint64_t offset, absl::Span<const std::byte> bytes, FileRecords& records);
  // False when a header begins here that does not verify.
  bool Take(uint64_t offset, absl::Span<const std::byte> bytes, FileRecords& records) const;

  const StoreFiles* const files_;
  std::map<size_t, FileRecords> files_scanned_;
  ReadBuffer buffer_;
};

}  // namespace cairn::inspect
