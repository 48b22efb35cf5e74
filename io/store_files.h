#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "io/data_folders.h"
#include "io/superblock.h"

namespace cairn {

// The files of a store: its superblock, its lock, its data files. Not what is in them.
//
//   PATH/superblock        4096 bytes: magic, format version, UUID, data_file_bytes, file count,
//                          data paths and their weights
//   PATH/data/000000.data  preallocated, never extended, truncated or punched; block 0 is its
//                          header. With data paths elsewhere (DataFolders). A few blocks may be
//                          allocated behind its end (DataFileTailBytes)
//   PATH/index/            RocksDB
//
// An offset on L3 is file * data_file_bytes + offset in that file; block 0 of each file is never
// part of an extent, so that no extent crosses files. The last file may be shorter than the rest,
// and stays so when files are added behind it.
//
// Thread-compatible.
class StoreFiles {
 public:
  struct Options {
    std::string path;
    // Where data files lie; empty: in PATH/data, or where an existing store has them.
    std::vector<std::string> data_paths = {};
    // One for each of them, 1 to kDataWeightMax; empty: all alike, or as an existing store has
    // them.
    std::vector<uint32_t> data_weights = {};
    uint64_t bytes_max = 0;        // All of it, index included.
    uint64_t index_bytes_max = 0;  // Of it the index's; 0: IndexBytesReserved.
    uint64_t data_file_bytes = 0;  // For a new store; 0: chosen.
    bool prewrite = false;         // New data files are written with zeros once.
    absl::Duration lock_wait = absl::Seconds(2);
  };
  // fd -1 and 0 bytes: the file is missing, truncated, damaged or not of this store (problems()
  // says which), and what was in it is lost. It is never written to.
  struct File {
    int fd = -1;
    uint64_t bytes = 0;
  };

  // Creates the store, or opens it and adds the data files that a larger bytes_max has room for;
  // a smaller one changes nothing until ShrinkTo. Locks the store (flock on every data file, the
  // very descriptions that I/O uses: a killed owner's writes hold them until they are done).
  //   kFailedPrecondition: in use (by which process, where the system tells), another format
  //     version, a directory that holds something else, a data path that is not there or not the
  //     one that it must be, or has another weight (nothing is changed then)
  //   kResourceExhausted: the disk is too small (bytes needed and free); nothing is left behind
  //   kUnavailable: no permission, a missing parent, an I/O error; kDataLoss: a damaged superblock,
  //     or no data file left; kInvalidArgument: bytes_max too small for a store, bad data paths
  // Data paths that moved are taken over where all folders of the store are found in them.
  static absl::StatusOr<std::unique_ptr<StoreFiles>> Open(const Options& options);

  // For inspection: no lock, no write, no creation; files that are missing or whose header is
  // damaged are in `problems()`. kNotFound: no store there.
  static absl::StatusOr<std::unique_ptr<StoreFiles>> OpenReadOnly(const std::string& path);

  ~StoreFiles();
  StoreFiles(const StoreFiles&) = delete;
  StoreFiles& operator=(const StoreFiles&) = delete;

  // What of bytes_max is the index's, if nothing else was said.
  static uint64_t IndexBytesReserved(uint64_t bytes_max);

  // Gives data files back, from the end, until bytes_max covers the rest: forget what is in them
  // first (at and past OffsetEndWithin), and have no I/O on them. kInvalidArgument, and nothing is
  // changed, when not even the first file fits.
  absl::Status ShrinkTo(uint64_t bytes_max);
  // What offset_end() is after ShrinkTo(bytes_max); 0 when that is refused.
  uint64_t OffsetEndWithin(uint64_t bytes_max) const;

  const StoreUuid& uuid() const { return uuid_; }
  uint64_t data_file_bytes() const { return data_file_bytes_; }
  const std::vector<File>& files() const { return files_; }
  bool direct() const { return direct_; }    // O_DIRECT; false where the file system refuses it.
  bool created() const { return created_; }  // By this Open.
  std::string index_path() const;
  std::string data_file_path(size_t number) const {
    return folders_.FilePath(static_cast<uint32_t>(number));
  }
  // What the data files lie in, and which of it each does. One or more.
  const std::vector<std::string>& folders() const { return folders_.folders(); }
  size_t FolderOf(size_t number) const { return folders_.FolderOf(number); }
  uint32_t WeightOf(size_t folder) const { return folders_.WeightOf(folder); }  // 1: all alike.
  uint32_t format_version() const {
    return folders_.data_weights().empty() ? kFormatVersion : kWeightedFormatVersion;
  }
  // As in Options, less what data files take beyond their bytes.
  uint64_t index_bytes_max() const;
  const std::vector<std::string>& problems() const { return problems_; }

  // One past the last byte of the last file, as an L3 offset.
  uint64_t offset_end() const;

  // The first place at or behind `offset`, in its file, where something may have been written since
  // the file was made; the end of the file when there is none. A hint of the file system.
  uint64_t NextWritten(uint64_t offset) const;
  // Whether the file system knows of a block in these bytes of one file that was never written.
  bool HasNeverWritten(uint64_t offset, uint64_t bytes) const;

  // Reads from L3, for inspection and tests: whole blocks, within one file, into 4096-aligned
  // memory. kDataLoss.
  absl::Status ReadBlocks(uint64_t offset, absl::Span<std::byte> target) const;

 private:
  using Deadline = std::chrono::steady_clock::time_point;

  explicit StoreFiles(std::string path) : path_(std::move(path)) {}

  // The directory has changed under us: look again. Never leaves Open.
  static absl::Status Changed();
  absl::Status CreateOrOpen(const Options& options, Deadline deadline);
  absl::Status Create(const Options& options, Deadline deadline);
  absl::Status CreateFiles(const Options& options, Deadline deadline);
  absl::Status CreateFilesOrNone(const Options& options, Deadline deadline);
  absl::Status CheckWeights(const Superblock& superblock) const;
  absl::Status PlaceFolders(const Superblock& superblock, bool read_only);
  absl::Status OpenExisting(const Superblock& superblock, bool read_only);
  absl::Status Lock(const Superblock& superblock, Deadline deadline);
  absl::Status Grow(uint64_t bytes_max, Deadline deadline);
  absl::Status AddFiles(const std::vector<uint64_t>& file_bytes, Deadline deadline);
  absl::Status WriteNewSuperblock(uint32_t file_count) const;
  absl::Status InstallNewSuperblock() const;
  absl::Status WriteSuperblock(uint32_t file_count) const;
  void DropFiles(size_t first);
  void ChooseDirect();
  size_t FilesWithin(uint64_t bytes_max) const;
  uint64_t IndexBytesOf(uint64_t bytes_max) const {
    return options_.index_bytes_max != 0 ? options_.index_bytes_max : IndexBytesReserved(bytes_max);
  }
  uint64_t DataBytesOf(uint64_t bytes_max) const;
  uint64_t OffsetEndOf(size_t file_count) const;
  uint64_t BudgetOf(size_t file) const;

  std::string superblock_path() const;
  std::string superblock_new_path() const;

  // Constant after Open, but for ShrinkTo.
  const std::string path_;
  Options options_;  // Of Open.
  StoreUuid uuid_ = {};
  DataFolders folders_;
  uint64_t data_file_bytes_ = 0;
  std::vector<File> files_;
  bool direct_ = false;
  bool created_ = false;
  std::vector<std::string> problems_;
};

}  // namespace cairn
