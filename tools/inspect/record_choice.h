#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tools/inspect/record_map.h"
#include "tools/inspect/run_set.h"

namespace cairn::inspect {

// Which of the records that lie in the data files are what the store holds. Per key the latest
// write; an older one never stands in for it, whatever became of it.
struct RecordChoice {
  // Numbers in `found`.
  std::vector<size_t> chosen;      // In order of offset.
  std::vector<size_t> unverified;  // Would be chosen, and are known not to verify.
  // The others, by reason.
  uint64_t older_writes = 0;
  uint64_t place_used_again = 0;  // By a tensor of a later write.
  uint64_t expired = 0;
  uint64_t purged_fingerprint = 0;  // Its fingerprint has come back under another number.
  RunSet taken;                     // What the chosen ones take, tables of packs included.
};

// `unverified` has as many entries as `found`. What does not verify takes no place: numbers of
// writes are given before places, so the write in a place may be the one of the lower number.
RecordChoice ChooseRecords(const std::vector<RecordMap::Found>& found,
                           const std::vector<bool>& unverified, int64_t now_unix_ms);

// Every number of a fingerprint that was seen, with the text it had last.
std::map<uint32_t, std::string> FingerprintsSeen(const std::vector<RecordMap::Found>& found);

}  // namespace cairn::inspect
