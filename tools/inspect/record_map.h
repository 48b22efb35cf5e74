#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/index.h"
#include "io/store_files.h"
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

  explicit RecordMap(const StoreFiles* files) : files_(files) {}

  // Of one file, in order of offset.
  const std::vector<Found>& InFile(size_t file);

  // The tensor of a later write that lies, in whole or in part, in these bytes; nullptr: none.
  const Found* Later(uint64_t offset, uint64_t end, uint64_t sequence);

 private:
  void Scan(size_t file, std::vector<Found>& found);
  // What the bytes of a header say, if one starts there; `offset` is where they are on L3.
  void Take(uint64_t offset, absl::Span<const std::byte> bytes, std::vector<Found>& found) const;

  const StoreFiles* const files_;
  std::map<size_t, std::vector<Found>> files_scanned_;
  ReadBuffer buffer_;
};

}  // namespace cairn::inspect
