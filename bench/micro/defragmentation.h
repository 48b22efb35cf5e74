#pragma once

#include <cstdint>

namespace cairn::micro {

struct DefragmentationOptions {
  uint64_t arena_bytes = uint64_t{16} << 30;   // Of the first table: offsets alone.
  uint64_t memory_bytes = uint64_t{1} << 30;   // Of the second: real memory, with readers.
  uint64_t window_bytes = uint64_t{64} << 20;  // That is to be free in one piece.
  int reader_milliseconds = 2000;              // Quiet, and as long while windows are emptied.
};

// Prints two tables. An arena is filled with the mixed VLM sizes, churned, and freed at random down
// to 80, 70, 60 and 45 %: what must be moved for a window in one piece. And what readers, who
// compare all they read, see of it while windows are emptied. False when one read another's bytes.
bool PrintDefragmentation(const DefragmentationOptions& options);

}  // namespace cairn::micro
