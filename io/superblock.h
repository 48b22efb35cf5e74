#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "io/record.h"

namespace cairn {

inline constexpr uint32_t kFormatVersion = 1;
// Of a store whose data paths have weights: of its superblock, and of nothing else in it.
inline constexpr uint32_t kWeightedFormatVersion = 2;
inline constexpr uint32_t kDataWeightMax = 64;
inline constexpr uint64_t kBlockBytes = 4096;  // Of L3: every offset and size on it is a multiple.
static_assert(kBlockBytes == kRecordAlignment);
constexpr uint64_t RoundUpToBlock(uint64_t bytes) {
  return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}
inline constexpr uint64_t kDataFileBytesMin = uint64_t{1} << 20;

// PATH/superblock: what makes a directory a store.
struct Superblock {
  StoreUuid uuid = {};
  uint64_t data_file_bytes = 0;
  uint32_t file_count = 0;
  // Where the data files are, from the root; none: in PATH/data. Together with 4 bytes for each at
  // most kDataPathsBytesMax.
  std::vector<std::string> data_paths = {};
  // One for each of them, 1 to kDataWeightMax; none: all alike.
  std::vector<uint32_t> data_weights = {};
};
inline constexpr uint64_t kDataPathsBytesMax = 4040;

// Block 0 of each data file: whose it is and which.
struct DataFileHeader {
  StoreUuid uuid = {};
  uint64_t data_file_bytes = 0;
  uint64_t bytes = 0;  // Of this file.
  uint32_t number = 0;
};

// kBlockBytes long.
std::string EncodeSuperblock(const Superblock& superblock);
std::string EncodeDataFileHeader(const DataFileHeader& header);

// From the first kBlockBytes. kDataLoss: damaged, or something else; kFailedPrecondition: of
// another format version.
absl::StatusOr<Superblock> DecodeSuperblock(std::string_view bytes);
absl::StatusOr<DataFileHeader> DecodeDataFileHeader(std::string_view bytes);

// "2f1e...-....": the usual form.
std::string UuidText(const StoreUuid& uuid);

}  // namespace cairn
