#pragma once

#include <cstdint>
#include <string>

#include "tools/inspect/read_buffer.h"
#include "tools/inspect/record_map.h"
#include "tools/inspect/run_set.h"

namespace cairn::inspect {

// Tells bytes that never reached the disk from bytes that were damaged there: what was in a place
// before a write is still to be seen then. A power cut leaves that where the index had the entry
// and the device not yet the bytes. So does a device that loses what it said it had.
class UnwrittenEvidence {
 public:
  explicit UnwrittenEvidence(RecordMap* map) : map_(map) {}

  // What shows that a write of this sequence has not written all of these bytes; empty: nothing.
  // Bytes of an older tensor whose header is gone show nothing.
  std::string Of(const Run& run, uint64_t sequence);

 private:
  bool AllZeros(const Run& run);
  // Whether a chunk of the tensor lies in part in these bytes and verifies.
  bool StillThere(const RecordMap::Found& found, const Run& run);

  RecordMap* const map_;
  ReadBuffer buffer_;
};

}  // namespace cairn::inspect
