#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace cairn::peers {

struct PutItem {
  std::string_view key;
  absl::Span<const std::byte> bytes;
};
struct GetItem {
  std::string_view key;
  absl::Span<std::byte> target;  // As long as what was put.
};

// What every store must do here, and all that is measured. One thread calls; a store may use
// threads of its own. A batch is done when the call returns.
class PeerStore {
 public:
  virtual ~PeerStore() = default;

  // Acknowledged as the kind of the store says.
  virtual absl::Status Put(absl::Span<const PutItem> batch) = 0;
  // Everything put is on the device when it returns.
  virtual absl::Status Flush() = 0;
  virtual absl::Status Get(absl::Span<const GetItem> batch) = 0;
  virtual absl::Status Close() = 0;

 protected:
  PeerStore() = default;
};

struct PeerOptions {
  std::string directory;  // Empty or of an earlier Close; this store's alone.
  uint64_t bytes = 0;     // All that will be put.
  // Where all batches lie: huge pages where the system gives them.
  absl::Span<std::byte> memory;
};

struct PeerKind {
  std::string name;
  std::string what;     // How it is used, for the table.
  bool synced = false;  // A put is acknowledged when it survives the loss of power, not before.
  std::function<absl::StatusOr<std::unique_ptr<PeerStore>>(const PeerOptions&)> open;
};

// Of one library each.
std::vector<PeerKind> CairnKinds();
std::vector<PeerKind> RocksDbKinds();
std::vector<PeerKind> LevelDbKinds();
std::vector<PeerKind> LmdbKinds();
std::vector<PeerKind> FileKinds();

// All that this build has.
std::vector<PeerKind> PeerKinds();

// Threads that a peer may use to serve one batch where it gains by them.
inline constexpr size_t kPeerThreads = 4;

}  // namespace cairn::peers
