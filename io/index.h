#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cairn/options.h"
#include "cairn/tensor.h"

namespace cairn {

// A key with the number its store gave its fingerprint (from 1 on).
struct IndexKey {
  uint32_t fingerprint_id = 0;
  std::string_view key;
};

// XXH3-64 of the key, seeded with the fingerprint's number. On disk (it seeds checksums).
uint64_t HashKey(IndexKey key);

inline constexpr uint8_t kRecomputeLevelMax = 15;
inline constexpr size_t kFingerprintBytesMax = 255;  // Of its text.

// Where a tensor is on L3 and how to know its bytes. FORMAT.md has the encoding.
struct IndexRecord {
  uint64_t sequence = 0;      // Of the write; grows over the life of the store.
  uint64_t offset = 0;        // Of the extent: file = offset / data_file_bytes.
  uint64_t pack_offset = 0;   // Of the table of the pack it is in; 0: it has a header of its own.
  uint32_t header_bytes = 0;  // Of that header, or of that table; a multiple of 4096.
  uint64_t payload_bytes = 0;
  uint64_t checksum = 0;  // TensorChecksum of the payload.
  TensorMeta meta;
  TensorClass tensor_class = TensorClass::kGeneral;
  Retention retention = Retention::kCache;
  uint8_t recompute_level = 0;  // What it takes to compute it again: src/eviction/worth.h.
  int64_t expires_unix_ms = 0;  // 0: never.

  bool packed() const { return pack_offset != 0; }
  // The extent is its own header, if it has one, and the payload, padded to 4096.
  uint64_t extent_bytes() const {
    return (packed() ? 0 : header_bytes) + (payload_bytes + 4095) / 4096 * 4096;
  }
  uint64_t header_offset() const { return packed() ? pack_offset : offset; }
  uint64_t payload_offset() const { return packed() ? offset : offset + header_bytes; }
};

struct IndexEdit {
  enum class Kind : uint8_t { kPut, kDelete };
  Kind kind = Kind::kPut;
  IndexKey key;
  IndexRecord record;  // kPut.
};

struct Fingerprint {
  uint32_t id = 0;
  std::string text;
};

// The durable map from keys to extents; the directory in memory is what a request asks.
// RocksDbIndex in a store, MemoryIndex in tests. Thread-safe.
class Index {
 public:
  virtual ~Index() = default;

  // kNotFound; kDataLoss when the stored record does not verify.
  virtual absl::StatusOr<IndexRecord> Find(IndexKey key) const = 0;

  // All edits or none, in order. With `sync` they survive the loss of power.
  // kUnavailable: nothing was changed that a reader sees; further commits may fail too.
  virtual absl::Status Commit(absl::Span<const IndexEdit> edits, bool sync) = 0;

  // Every record in order of fingerprint and key. A record that does not verify is handed to
  // `damaged` with its raw key. Ends early, with OK, when a visitor returns false.
  struct Visitor {
    absl::FunctionRef<bool(IndexKey, const IndexRecord&)> record;
    absl::FunctionRef<bool(std::string_view raw_key, const absl::Status&)> damaged;
  };
  virtual absl::Status ForEach(const Visitor& visitor) const = 0;

  // Removes an entry by its raw key, as `damaged` gave it.
  virtual absl::Status DeleteRaw(std::string_view raw_key) = 0;

  virtual absl::StatusOr<std::vector<Fingerprint>> Fingerprints() const = 0;
  // The number of the fingerprint; given and synced now if it has none.
  virtual absl::StatusOr<uint32_t> FingerprintId(std::string_view text) = 0;
  // Writes a fingerprint with the number it had, for a rebuilt index: the next number given is
  // above it. kAlreadyExists when the number has another text, or the text another number.
  virtual absl::Status RestoreFingerprint(const Fingerprint& fingerprint) = 0;
  // Forgets a fingerprint, synced. Its tensors must be gone.
  virtual absl::Status DropFingerprint(uint32_t id) = 0;

  virtual absl::Status Sync() = 0;

  // Opens an index anew that a failed write has broken, with all that was committed before; nothing
  // when it works. Why it could not be, and then it stays broken.
  virtual absl::Status Reopen() = 0;

 protected:
  Index() = default;
};

struct RocksDbIndexOptions {
  std::string path;
  // What the index and its logs may occupy on disk: sizes memtable, log and levels.
  uint64_t bytes_max = uint64_t{64} << 20;
  bool create = true;      // Where there is none. Otherwise kNotFound, and nothing is written.
  bool read_only = false;  // Writes nothing at all, not even a log; sees a live store's last flush
                           // and its log.
  bool salvage = true;     // read_only: what is left of a damaged one, too.
};
// kFailedPrecondition: locked by another process; kDataLoss: damaged, with what to do about it;
// kNotFound: read_only and nothing there.
absl::StatusOr<std::unique_ptr<Index>> OpenRocksDbIndex(const RocksDbIndexOptions& options);

// What to do about the index of a store that is lost: for the end of an error message.
std::string RebuildInstruction(const std::string& store_path);

// In memory, ordered, for tests.
std::unique_ptr<Index> NewMemoryIndex();

// What a tensor's entry takes of the index's bytes_max at most, on average over many: entry and
// removal, twice, as levels, logs and a merge under way hold what is no longer needed. Measured:
// all files together stay under 0.95 of the sum of this over the entries, while every entry is
// replaced at random six times (8 to 256 MiB, keys of 32 and 250 bytes).
uint64_t IndexFootprintBytes(size_t key_bytes, uint8_t rank);

// The encodings, for FORMAT.md's example, the tests and the fuzzers.
size_t IndexKeyBytes(size_t key_bytes);
size_t IndexRecordBytes(uint8_t rank);
std::string EncodeIndexKey(IndexKey key);
absl::StatusOr<IndexKey> DecodeIndexKey(std::string_view raw_key);
std::string EncodeIndexRecord(std::string_view raw_key, const IndexRecord& record);
// kDataLoss unless the checksum (over raw key and value) and every field verify.
absl::StatusOr<IndexRecord> DecodeIndexRecord(std::string_view raw_key, std::string_view value);

}  // namespace cairn
