#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/options.h"
#include "io/store_layout.h"
#include "io/superblock.h"
#include "src/base/periodic.h"
#include "src/eviction/snapshot.h"
#include "src/tier_eviction.h"

namespace cairn {

// Keeps what L3's eviction policy knows in a file (io/FORMAT.md), so that it outlives the store:
// written by a thread of its own while the store is open, and at its end. What it says is taken as
// far as it is true of what is there; losing it costs hits for a while, and no data.
class EvictionFile {
 public:
  static constexpr const char* kName = kEvictionName;
  // One in so many bytes of the room of the index is for what is not of copies
  // (SnapshotPiece::kCopyBytes): half of it for the file, as the next is written beside it.
  static constexpr uint64_t kIndexShare = 16;
  // How often it is written: no more, and so seldom that it is so many bytes a second at most. What
  // a process that is killed had learned since is lost.
  static constexpr std::chrono::milliseconds kSaveEveryMin{10'000};
  static constexpr uint64_t kBytesPerSecondMax = uint64_t{256} << 10;

  struct Options {
    std::string directory;
    StoreUuid uuid = {};
    EvictionKind kind = EvictionKind::kTuned;
    uint64_t index_bytes_max = 0;
    std::chrono::milliseconds save_every = kSaveEveryMin;
    TierEviction* tier = nullptr;
    std::function<void(std::string_view)> log;
  };
  explicit EvictionFile(Options options);
  ~EvictionFile();

  // Calls back with its pieces in order. kNotFound when there is none; kDataLoss or
  // kFailedPrecondition when it is damaged, of another store or another policy: nothing is called.
  absl::Status Read(absl::FunctionRef<void(const SnapshotPiece&)> visit) const;

  // Begins writing it, now and then.
  absl::Status Start();
  // Ends that and writes it once more. Nothing to do after the first time.
  void Stop();

 private:
  std::chrono::milliseconds UntilNext() const;
  // Unless nothing has changed. A failure is said, once.
  void Save();
  absl::StatusOr<uint64_t> Write() const;
  std::string Head() const;

  // Constant.
  const Options options_;
  const std::string path_;

  // Of the saver, and of Stop after it.
  uint64_t saved_changes_ = 0;
  uint64_t saved_bytes_ = 0;
  std::string failure_logged_;

  Periodic saver_;
};

}  // namespace cairn
