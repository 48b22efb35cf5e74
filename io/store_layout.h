#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/superblock.h"

namespace cairn {

// How the bytes of a store are divided, and what a directory that may become one holds. No state.

inline constexpr const char* kSuperblockName = "superblock";
inline constexpr const char* kSuperblockNewName = "superblock.new";
inline constexpr const char* kDataName = "data";
inline constexpr const char* kIndexName = "index";
inline constexpr const char* kEvictionName = "eviction";

uint64_t IndexBytesReserved(uint64_t bytes_max);

// What of bytes_max is for data files.
uint64_t DataBytesWithin(uint64_t bytes_max, uint64_t index_bytes_max);

// For a new store that was not told: 256 MiB, less where two would not fit, up to 1 GiB in large
// ones. With several folders such that the files are whole periods (DataFolders), so that each
// folder gets just its share, or about that where there are hundreds; 16 MiB or more.
uint64_t ChooseDataFileBytes(uint64_t data_bytes, uint64_t period = 1);

// Sizes of the files that `data_bytes` have room for, all but the last `data_file_bytes` long.
std::vector<uint64_t> PlanFiles(uint64_t data_bytes, uint64_t data_file_bytes);

enum class DirectoryState : uint8_t {
  kVacant,  // Missing, empty, or what a creation that was cut off has left.
  kStore,   // With a superblock.
};
// kFailedPrecondition, naming it, when the directory holds something else.
absl::StatusOr<DirectoryState> ClassifyDirectory(const std::string& path);
// Removes what a creation that was cut off has left, in the data paths it was for, too. Of a
// directory that is vacant, by who has locked its superblock.new.
absl::Status RemoveLeftovers(const std::string& path);

// Names in a directory, sorted, without "." and "..".
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path);

absl::StatusOr<Superblock> ReadSuperblock(const std::string& path);

// kResourceExhausted, with both figures, unless `bytes` are free under the path.
absl::Status CheckSpace(const std::string& path, uint64_t bytes);
// kUnavailable unless the process may open that many more files.
absl::Status CheckOpenFiles(uint64_t file_count);

absl::StatusOr<StoreUuid> NewUuid();

}  // namespace cairn
