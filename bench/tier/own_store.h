#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bench/tier/job.h"
#include "io/store_files.h"

namespace cairn::bench {

// The stores that tier-bench makes for itself, DIRECTORY/tier-bench.nvme and
// DIRECTORY/tier-bench.store, and the mark beside each (PATH.mark) that says so: without its mark
// a store is somebody else's and is not touched.

struct OwnStoreMark {
  uint64_t l3_bytes = 0;
  bool prewritten = false;  // Every block of every data file was written once.
  bool content = false;     // And holds what ContentId says, still.
};
std::string MarkPath(const std::string& store_path);
// kNotFound: no mark.
absl::StatusOr<OwnStoreMark> ReadMark(const std::string& store_path);
absl::Status WriteMark(const std::string& store_path, const OwnStoreMark& mark);

// Whether the directory itself is a store.
bool IsStore(const std::string& directory);

// A store of at least `l3_bytes` at `path`, made (or made anew, when it is smaller or was cut off)
// with Store::Open and written once over its whole length. kFailedPrecondition: there is a store
// without a mark. Its mark is returned.
absl::StatusOr<OwnStoreMark> PrepareOwnStore(const std::string& path, uint64_t l3_bytes);

// The blocks of the data files hold what follows from where they are: 4096 bytes of FillBlock of
// this, so that a range can be compared whatever size wrote it.
inline uint64_t ContentId(uint64_t l3_offset) { return l3_offset / 4096; }
void FillContent(uint64_t l3_offset, absl::Span<std::byte> target);

// Writes the content to all blocks of all files but their headers.
absl::Status WriteContent(const StoreFiles& files);

}  // namespace cairn::bench
