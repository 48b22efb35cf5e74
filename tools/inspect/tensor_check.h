#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/pack.h"
#include "io/record.h"
#include "tools/inspect/read_ahead.h"
#include "tools/inspect/store_view.h"

namespace cairn::inspect {

// One thing that is not as it should be.
struct Damage {
  std::string what;  // "index", "file", "header", "payload" or "overlap".
  std::string detail;
  uint64_t offset = 0;  // On L3; of the chunk where that is known.
  uint64_t bytes = 0;   // From there on, in whole blocks; 0: they could not be read.
};

// Reads a payload and appends the checksum of each of its chunks; `read_bytes` hears of every read.
absl::Status SumChunks(ReadAhead& reader, const IndexRecord& record, uint64_t seed,
                       const std::function<void(uint64_t)>& read_bytes,
                       std::vector<uint64_t>& sums);

// The reads that SumChunks does, for ReadAhead to know them before.
void AddPayloadRuns(const IndexRecord& record, std::vector<Run>& runs);

// Reads one tensor from L3 and holds it against its index entry and its record header.
class TensorCheck {
 public:
  struct Result {
    std::vector<Damage> damage;
    bool payload_sound = false;
    std::string header;  // "ok", or what is wrong with it.
  };

  // `plan`: what will be checked, in that order; `read_bytes` hears of every read.
  TensorCheck(const StoreView* view, const std::vector<const IndexRecord*>& plan,
              std::function<void(uint64_t bytes)> read_bytes);

  Result Check(const StoreView::Entry& entry);

 private:
  absl::StatusOr<RecordHeader> ReadHeader(const StoreView::Entry& entry);
  absl::StatusOr<RecordHeader> ReadPackTable(const StoreView::Entry& entry);
  void LocateDamage(const StoreView::Entry& entry, uint64_t seed, const std::vector<uint64_t>& sums,
                    const absl::StatusOr<RecordHeader>& header, std::vector<Damage>& damage) const;

  const StoreView* const view_;
  const std::function<void(uint64_t)> read_bytes_;
  ReadAhead reader_;
  // The pack table that was read last.
  uint64_t pack_offset_ = 0;
  std::vector<std::byte> pack_bytes_;
  absl::StatusOr<PackTable> pack_ = absl::NotFoundError("none read");
};

// What forbids reading an entry's extent at all; empty: nothing.
std::string ExtentProblem(const StoreFiles& files, const IndexRecord& record);

}  // namespace cairn::inspect
