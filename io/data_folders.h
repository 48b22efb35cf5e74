#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/superblock.h"

namespace cairn {

// Where the data files of one store lie: in PATH/data; or, with data paths, in
// DATA_PATH/cairn-UUID.i with i = FolderOf(file). Files go to the folders turn about by weight, so
// that files behind one another are on different drives, and the first files of a store, however
// many, lie as the weights say within a file or two. The name ties a folder to its store and to its
// place in the list: a drive that is not mounted, or mounted in the place of another, is not taken
// for one whose files are lost.
class DataFolders {
 public:
  DataFolders() = default;
  // Data paths as AbsoluteDataPaths gives them; none: PATH/data. A weight for each, or none: all
  // alike.
  DataFolders(const std::string& path, const StoreUuid& uuid, std::vector<std::string> data_paths,
              std::vector<uint32_t> data_weights);

  const std::vector<std::string>& data_paths() const { return data_paths_; }
  const std::vector<uint32_t>& data_weights() const { return data_weights_; }
  const std::vector<std::string>& folders() const { return folders_; }
  uint32_t WeightOf(size_t folder) const {
    return data_weights_.empty() ? 1 : data_weights_[folder];
  }
  // The one place that says in which folder a file is: everybody asks here.
  size_t FolderOf(size_t file) const { return turns_[file % turns_.size()]; }
  // After so many files the folders come again in the same order.
  size_t period() const { return turns_.size(); }
  // So many files from number 0 on that each folder has one.
  size_t files_min() const;
  std::string FilePath(uint32_t number) const;

  // kFailedPrecondition, naming it, where a data path is not there. None is ever made: where a
  // drive is to be mounted, it would be on the disk below.
  absl::Status CheckDataPaths() const;
  absl::Status Make() const;
  // Those that are empty.
  void Remove() const;
  absl::Status Sync() const;

  // kFailedPrecondition, naming the first that is missing or in another's place. PATH/data is not
  // looked for: what lies in PATH with the superblock can be lost and cannot be elsewhere.
  absl::Status CheckPresent() const;
  // Where a data file lies that is not in its folder: in one of the others. Empty: nowhere.
  std::string Misplaced(uint32_t number) const;

  // Removes the files from this number on that are ours (ClassifyLeftover). Folders that are not
  // there have none.
  absl::Status RemoveFilesFrom(uint32_t number, const StoreUuid& uuid) const;

  // kResourceExhausted, naming the path and both figures, unless each file system has room for the
  // files of `data_bytes` from number `first` on, and PATH's for `other_bytes` more.
  absl::Status CheckSpace(uint32_t first, uint64_t data_bytes, uint64_t data_file_bytes,
                          uint64_t other_bytes) const;

 private:
  const std::string& ParentOf(size_t folder) const;

  std::string path_;
  std::vector<std::string> data_paths_;
  std::vector<uint32_t> data_weights_;
  std::vector<std::string> folders_;  // One or more.
  std::vector<uint32_t> turns_;       // Of the files: the folder of each in a period.
};

// As they are kept in the superblock: from the root, so that tools find them from anywhere.
// kInvalidArgument: an empty one, one given twice, or more than a superblock holds.
absl::StatusOr<std::vector<std::string>> AbsoluteDataPaths(absl::Span<const std::string> paths);

// What the weights say of one another: divided by what divides all. None where all are alike, so
// that a store that makes no use of weights is as one made without.
std::vector<uint32_t> InLowestTerms(std::vector<uint32_t> weights);

}  // namespace cairn
