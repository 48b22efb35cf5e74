#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/index.h"
#include "io/store_files.h"

namespace cairn::inspect {

// A store as it lies on disk, opened for reading only.
class StoreView {
 public:
  struct Entry {
    uint32_t fingerprint_id = 0;
    std::string key;
    IndexRecord record;

    IndexKey index_key() const { return {.fingerprint_id = fingerprint_id, .key = key}; }
  };
  struct DamagedEntry {
    std::string raw_key;
    absl::Status status;
  };

  // Fails when there is no store, or one whose superblock cannot be read. An index that cannot be
  // opened is index_status().
  static absl::StatusOr<StoreView> Open(const std::string& path);

  const StoreFiles& files() const { return *files_; }
  // kNotFound: there is none; kDataLoss: damaged.
  const absl::Status& index_status() const { return index_status_; }
  const std::vector<Fingerprint>& fingerprints() const { return fingerprints_; }
  // nullptr when the number has no text.
  const std::string* FingerprintText(uint32_t id) const;

  // Visits every entry; damaged ones are appended. Only when index_status() is OK.
  absl::Status ForEach(absl::FunctionRef<bool(Entry)> visit,
                       std::vector<DamagedEntry>& damaged) const;

  // What the index of this view says. Only when index_status() is OK.
  absl::StatusOr<IndexRecord> Find(IndexKey key) const { return index_->Find(key); }

  uint64_t IndexBytesOnDisk() const;

 private:
  StoreView() = default;

  std::unique_ptr<StoreFiles> files_;
  std::unique_ptr<Index> index_;
  absl::Status index_status_;
  std::vector<Fingerprint> fingerprints_;
};

// The key that PrintableKey printed so. Text that it would not print means itself.
std::string TypedKey(std::string_view text);

}  // namespace cairn::inspect
