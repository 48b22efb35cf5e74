#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "src/eviction/policy.h"

namespace cairn {

// What an eviction policy knows, taken down and given to a new one of the same kind, in pieces: the
// order and the uses of its copies, what it remembers of those that have left, and what it has
// found out. So a store that is opened again evicts as if it had never stopped.

// A run of one queue or ghost list, the coldest or oldest first, or the findings.
struct SnapshotPiece {
  static constexpr size_t kKeysMax = 1024;
  static constexpr uint64_t kCopyBytes = 9;  // Of each copy, on disk.
  // Beside each entry of the index: for the file, and for the next while that is written.
  static constexpr uint64_t kIndexedCopyBytes = 2 * kCopyBytes;

  // Do not change the values, they are on disk.
  enum class Kind : uint8_t { kFindings = 1, kGhosts = 2, kCopies = 3 };
  Kind kind = Kind::kFindings;
  uint8_t number = 0;           // Of the queue or ghost list, from 0 on.
  std::vector<uint64_t> words;  // Hashes of keys, or the findings.
  std::vector<uint8_t> uses;    // Of each copy: its uses, and what it was worth, 4 * (worth + 1).
};

// Takes it down. The policy may be used between two pieces: a copy whose place changes meanwhile is
// met twice, and its second place counts, or not at all, like one that comes. One at a time.
class SnapshotReader {
 public:
  // Findings and ghosts, the newest, in `words_max` words (at least 32).
  SnapshotReader(EvictionPolicy* policy, uint64_t words_max);

  // The next piece; false at the end.
  bool Next(SnapshotPiece* piece);

 private:
  bool NextGhosts(SnapshotPiece* piece);
  bool NextCopies(SnapshotPiece* piece);

  EvictionPolicy* const policy_;
  const EvictionPolicy::Parts parts_;
  uint64_t words_left_;
  bool findings_read_ = false;
  // The list and the queue in hand, or behind the last; and how much of it is left to be read, so
  // that it ends, however fast the warm end grows.
  size_t ghosts_ = 0;
  size_t queue_ = 0;
  bool walking_ = false;
  uint64_t left_ = 0;
};

// Gives a piece to a policy that nobody has used yet, in the order in which they were taken.
// `nodes` has, for each word of a piece of copies, the copy of that key, tracked already or not;
// null where there is none any more: the key becomes a ghost.
void Restore(EvictionPolicy* policy, const SnapshotPiece& piece,
             absl::Span<EvictionNode* const> nodes);

// A piece as bytes with their checksum, behind the others (io/FORMAT.md).
void AppendPiece(const SnapshotPiece& piece, std::string& bytes);
// After the last, how many there were.
void AppendEnd(uint32_t pieces, std::string& bytes);
// All pieces in order. kDataLoss, and `visit` is not called, unless every byte is as it was
// written.
absl::Status DecodePieces(std::string_view bytes,
                          absl::FunctionRef<void(const SnapshotPiece&)> visit);

}  // namespace cairn
