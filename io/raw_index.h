#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/index.h"
#include "src/base/mutex.h"

namespace cairn {

// An Index over any ordered map of bytes to bytes: all encodings and checks are here, so that two
// maps cannot differ in them. Thread-safe when the map is.
//
// Three kinds of entries live side by side, told apart by their first byte: fingerprints ('F'),
// the next fingerprint number ('N') and tensors ('T').
class RawIndex : public Index {
 public:
  struct RawEdit {
    IndexEdit::Kind kind = IndexEdit::Kind::kPut;
    std::string key;
    std::string value;  // kPut.
  };
  using RawVisitor = absl::FunctionRef<bool(std::string_view key, std::string_view value)>;

  // kNotFound.
  virtual absl::StatusOr<std::string> ReadRaw(std::string_view key) const = 0;
  // All or none, in order.
  virtual absl::Status WriteRaw(const std::vector<RawEdit>& edits, bool sync) = 0;
  // Every entry of this prefix in byte order, until the visitor returns false. What cannot be
  // read is handed to `damaged` with the last key before it, where reading can go on.
  virtual absl::Status ScanRaw(
      std::string_view prefix, RawVisitor visitor,
      absl::FunctionRef<bool(std::string_view key, const absl::Status&)> damaged) const = 0;
  // The last key of this prefix, kNotFound when there is none.
  virtual absl::StatusOr<std::string> LastRaw(std::string_view prefix) const = 0;

  absl::StatusOr<IndexRecord> Find(IndexKey key) const final;
  absl::Status Commit(absl::Span<const IndexEdit> edits, bool sync) final;
  absl::Status ForEach(const Visitor& visitor) const final;
  absl::Status DeleteRaw(std::string_view raw_key) final;
  absl::StatusOr<std::vector<Fingerprint>> Fingerprints() const final;
  absl::StatusOr<uint32_t> FingerprintId(std::string_view text) final
      ABSL_LOCKS_EXCLUDED(fingerprint_mutex_);
  absl::Status RestoreFingerprint(const Fingerprint& fingerprint) final
      ABSL_LOCKS_EXCLUDED(fingerprint_mutex_);
  absl::Status DropFingerprint(uint32_t id) final ABSL_LOCKS_EXCLUDED(fingerprint_mutex_);

 private:
  absl::Status WriteFingerprint(const Fingerprint& fingerprint, uint32_t next)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(fingerprint_mutex_);
  absl::StatusOr<uint32_t> NextFingerprintId() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(fingerprint_mutex_);

  // One giver of numbers at a time. The only lock that is held over I/O: nothing but the few
  // calls that change fingerprints (at Open and at a purge) takes it.
  Mutex fingerprint_mutex_;
};

std::string EncodeFingerprintKey(uint32_t id);
std::string EncodeFingerprint(std::string_view raw_key, std::string_view text);
// kDataLoss unless both verify.
absl::StatusOr<Fingerprint> DecodeFingerprint(std::string_view raw_key, std::string_view value);

// The entry that holds the next number, which is never given twice: a number is part of what
// checksums are made of.
inline constexpr std::string_view kNextFingerprintKey = "N";
std::string EncodeNextFingerprint(uint32_t id);
absl::StatusOr<uint32_t> DecodeNextFingerprint(std::string_view value);

}  // namespace cairn
