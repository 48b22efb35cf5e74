#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/store_files.h"
#include "tools/inspect/read_buffer.h"

namespace cairn::inspect {

// The record headers that lie in the data files, whatever the index says: found by reading whole
// files, each once, when asked for the first time.
class RecordMap {
 public:
  struct Found {
    uint64_t offset = 0;
    uint64_t end = 0;
    uint64_t sequence = 0;
    uint32_t fingerprint_id = 0;
    std::string key;
  };

  explicit RecordMap(const StoreFiles* files) : files_(files) {}

  // Of one file, in order of offset.
  const std::vector<Found>& InFile(size_t file);

  // The record of a later write that lies, in whole or in part, in these bytes; nullptr: none.
  const Found* Later(uint64_t offset, uint64_t end, uint64_t sequence);

 private:
  void Scan(size_t file, std::vector<Found>& found);

  const StoreFiles* const files_;
  std::map<size_t, std::vector<Found>> files_scanned_;
  ReadBuffer buffer_;
};

}  // namespace cairn::inspect
