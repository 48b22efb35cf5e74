#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "io/record.h"

namespace cairn {

inline constexpr uint32_t kFormatVersion = 1;
inline constexpr uint64_t kBlockBytes = 4096;  // Of L3: every offset and size on it is a multiple.

// The files of a store: its superblock, its lock, its data files. Not what is in them.
//
//   PATH/superblock        4096 bytes: magic, format version, UUID, data_file_bytes
//   PATH/data/000000.data  preallocated, never extended, truncated or punched; block 0 is its header
//   PATH/index/            RocksDB
//
// An offset on L3 is file * data_file_bytes + offset in that file; block 0 of each file is never
// part of an extent, so that no extent crosses files. The last file may be shorter than the rest.
//
// Thread-compatible.
class StoreFiles {
 public:
  struct Options {
    std::string path;
    uint64_t bytes_max = 0;        // All of PATH, index included.
    uint64_t data_file_bytes = 0;  // For a new store; 0: chosen.
    absl::Duration lock_wait = absl::Seconds(2);
  };
  struct File {
    int fd = -1;
    uint64_t bytes = 0;
  };

  // Creates the directory and what is missing of the files, or opens them; gives back data files
  // that bytes_max no longer covers. Locks the store (flock on the first data file, the very
  // description that I/O uses: a killed owner's writes hold it until they are done).
  //   kFailedPrecondition: in use (by which process, where the system tells), another format
  //     version, or a directory that holds something else
  //   kResourceExhausted: the disk is too small (bytes needed and free); nothing is left behind
  //   kUnavailable: no permission, a missing parent, an I/O error; kDataLoss: a damaged superblock
  static absl::StatusOr<std::unique_ptr<StoreFiles>> Open(const Options& options);

  // For inspection: no lock, no write, no creation; files that are missing or whose header is
  // damaged are in `problems()`. kNotFound: no store there.
  static absl::StatusOr<std::unique_ptr<StoreFiles>> OpenReadOnly(const std::string& path);

  ~StoreFiles();
  StoreFiles(const StoreFiles&) = delete;
  StoreFiles& operator=(const StoreFiles&) = delete;

  // What of bytes_max is the index's, and what is left for data files.
  static uint64_t IndexBytesReserved(uint64_t bytes_max);

  const StoreUuid& uuid() const { return uuid_; }
  uint64_t data_file_bytes() const { return data_file_bytes_; }
  const std::vector<File>& files() const { return files_; }
  bool direct() const { return direct_; }    // O_DIRECT; false where the file system refuses it.
  bool created() const { return created_; }  // By this Open.
  std::string index_path() const;
  const std::vector<std::string>& problems() const { return problems_; }

  // One past the last byte of the last file, as an L3 offset.
  uint64_t offset_end() const;

  // Reads from L3, for inspection and tests: whole blocks, within one file, into 4096-aligned
  // memory. kDataLoss.
  absl::Status ReadBlocks(uint64_t offset, absl::Span<std::byte> target) const;

 private:
  StoreFiles() = default;

  std::string path_;
  StoreUuid uuid_ = {};
  uint64_t data_file_bytes_ = 0;
  std::vector<File> files_;
  bool direct_ = false;
  bool created_ = false;
  std::vector<std::string> problems_;
};

}  // namespace cairn
