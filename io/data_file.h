#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/file.h"
#include "io/superblock.h"

namespace cairn {

// PATH/data/000012.data
std::string DataFilePath(const std::string& data_path, uint32_t number);

// The number in a data file's name, or -1: some other name.
int64_t DataFileNumber(const std::string& name);

struct DataFile {
  FileDescriptor fd;
  uint64_t bytes = 0;
};

// Opens the file and checks that it is the one the header describes (`expected.bytes` aside).
// kNotFound; kDataLoss: damaged, truncated or not of this store; other codes: could not look.
absl::StatusOr<DataFile> OpenDataFile(const std::string& path, const DataFileHeader& expected,
                                      bool read_only);

// What a file of so many bytes takes on disk beyond them, at most: ext4 keeps a file of a few long
// extents in its inode, and one of more in a block besides. Where first writes split and join such
// extents, that block comes and goes with them, and goes with the file's extents locked until it is
// freed: without a journal and with `discard`, that is until the drive has discarded it, for which
// reads and writes of the file wait. So a file of 64 MiB or more gets on ext4 a few blocks behind
// its end, each apart, never written: with them it always has more extents than an inode holds.
uint64_t DataFileTailBytes(uint64_t file_bytes);

// Makes the file out of an empty one: all its blocks, written with zeros if `prewrite`, then its
// header, then synced.
absl::Status FormatDataFile(int fd, const std::string& path, const DataFileHeader& header,
                            bool prewrite);

// What a file with the name of a data file is when no superblock speaks for it.
enum class Leftover : uint8_t {
  kBlank,    // Empty or zeros, or a header and nothing behind it: a creation that was cut off.
  kFilled,   // A header with the UUID asked for, whatever is behind it.
  kForeign,  // Anything else: not ours to touch.
};
absl::StatusOr<Leftover> ClassifyLeftover(const std::string& path, const StoreUuid& uuid);

}  // namespace cairn
