#include "io/raw_index.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

bool KeepGoing(std::string_view, const absl::Status&) { return true; }

}  // namespace

absl::StatusOr<IndexRecord> RawIndex::Find(IndexKey key) const {
  const std::string raw_key = EncodeIndexKey(key);
  CAIRN_ASSIGN_OR_RETURN(const std::string value, ReadRaw(raw_key));
  return DecodeIndexRecord(raw_key, value);
}

absl::Status RawIndex::Commit(absl::Span<const IndexEdit> edits, bool sync) {
  std::vector<RawEdit> raw_edits;
  raw_edits.reserve(edits.size());
  for (const IndexEdit& edit : edits) {
    RawEdit& raw_edit = raw_edits.emplace_back();
    raw_edit.kind = edit.kind;
    raw_edit.key = EncodeIndexKey(edit.key);
    if (edit.kind == IndexEdit::Kind::kPut) {
      raw_edit.value = EncodeIndexRecord(raw_edit.key, edit.record);
    }
  }
  return WriteRaw(raw_edits, sync);
}

absl::Status RawIndex::ForEach(const Visitor& visitor) const {
  const auto visit = [&](std::string_view raw_key, std::string_view value) {
    if (raw_key == kNextFingerprintKey) {
      const absl::StatusOr<uint32_t> next = DecodeNextFingerprint(value);
      return next.ok() || visitor.damaged(raw_key, next.status());
    }
    if (!raw_key.empty() && raw_key[0] == 'F') {
      const absl::StatusOr<Fingerprint> fingerprint = DecodeFingerprint(raw_key, value);
      return fingerprint.ok() || visitor.damaged(raw_key, fingerprint.status());
    }
    const absl::StatusOr<IndexRecord> record = DecodeIndexRecord(raw_key, value);
    if (!record.ok()) return visitor.damaged(raw_key, record.status());
    return visitor.record(*DecodeIndexKey(raw_key), *record);
  };
  return ScanRaw("", visit, visitor.damaged);
}

absl::Status RawIndex::DeleteRaw(std::string_view raw_key) {
  return WriteRaw({RawEdit{.kind = IndexEdit::Kind::kDelete, .key = std::string(raw_key)}}, false);
}

absl::StatusOr<std::vector<Fingerprint>> RawIndex::Fingerprints() const {
  std::vector<Fingerprint> fingerprints;
  const auto visit = [&](std::string_view raw_key, std::string_view value) {
    // One that does not verify is ForEach's to report: the others stay readable.
    absl::StatusOr<Fingerprint> fingerprint = DecodeFingerprint(raw_key, value);
    if (fingerprint.ok()) fingerprints.push_back(*std::move(fingerprint));
    return true;
  };
  CAIRN_RETURN_IF_ERROR(ScanRaw("F", visit, KeepGoing));
  return fingerprints;
}

// Above every number that is or was in use, even when the entry that counts them is damaged.
absl::StatusOr<uint32_t> RawIndex::NextFingerprintId() const {
  uint32_t next = 1;
  const absl::StatusOr<std::string> stored = ReadRaw(kNextFingerprintKey);
  if (stored.ok()) {
    const absl::StatusOr<uint32_t> decoded = DecodeNextFingerprint(*stored);
    if (decoded.ok()) next = *decoded;
  } else if (!absl::IsNotFound(stored.status())) {
    return stored.status();
  }
  for (const char* const prefix : {"F", "T"}) {
    const absl::StatusOr<std::string> last = LastRaw(prefix);
    if (absl::IsNotFound(last.status())) continue;
    if (!last.ok()) return last.status();
    if (last->size() < 5) continue;
    uint32_t id = 0;
    for (size_t i = 1; i < 5; ++i) id = id << 8 | static_cast<uint8_t>((*last)[i]);
    if (id == std::numeric_limits<uint32_t>::max()) {
      return absl::ResourceExhaustedError("all fingerprint numbers of this index are used up");
    }
    next = std::max(next, id + 1);
  }
  return next;
}

absl::StatusOr<uint32_t> RawIndex::FingerprintId(std::string_view text) {
  if (text.size() > 255) {
    return absl::InvalidArgumentError(
        absl::StrCat("fingerprint of ", text.size(), " bytes, at most 255"));
  }
  MutexLock lock(fingerprint_mutex_);
  CAIRN_ASSIGN_OR_RETURN(const std::vector<Fingerprint> fingerprints, Fingerprints());
  for (const Fingerprint& fingerprint : fingerprints) {
    if (fingerprint.text == text) return fingerprint.id;
  }
  CAIRN_ASSIGN_OR_RETURN(const uint32_t id, NextFingerprintId());
  if (id == std::numeric_limits<uint32_t>::max()) {
    return absl::ResourceExhaustedError("all fingerprint numbers of this index are used up");
  }
  CAIRN_RETURN_IF_ERROR(WriteFingerprint({.id = id, .text = std::string(text)}, id + 1));
  return id;
}

absl::Status RawIndex::WriteFingerprint(const Fingerprint& fingerprint, uint32_t next) {
  std::vector<RawEdit> edits(2);
  edits[0].key = EncodeFingerprintKey(fingerprint.id);
  edits[0].value = EncodeFingerprint(edits[0].key, fingerprint.text);
  edits[1].key = std::string(kNextFingerprintKey);
  edits[1].value = EncodeNextFingerprint(next);
  return WriteRaw(edits, /*sync=*/true);
}

absl::Status RawIndex::RestoreFingerprint(const Fingerprint& fingerprint) {
  if (fingerprint.id == 0 || fingerprint.id == std::numeric_limits<uint32_t>::max() ||
      fingerprint.text.size() > 255) {
    return absl::InvalidArgumentError(absl::StrCat("no fingerprint has the number ", fingerprint.id,
                                                   " and ", fingerprint.text.size(),
                                                   " bytes of text"));
  }
  MutexLock lock(fingerprint_mutex_);
  CAIRN_ASSIGN_OR_RETURN(const std::vector<Fingerprint> fingerprints, Fingerprints());
  for (const Fingerprint& other : fingerprints) {
    if ((other.id == fingerprint.id) == (other.text == fingerprint.text)) continue;
    return absl::AlreadyExistsError(
        absl::StrCat("fingerprint ", other.id, " is \"", PrintableKey(other.text), "\" already"));
  }
  CAIRN_ASSIGN_OR_RETURN(const uint32_t next, NextFingerprintId());
  return WriteFingerprint(fingerprint, std::max(next, fingerprint.id + 1));
}

absl::Status RawIndex::DropFingerprint(uint32_t id) {
  MutexLock lock(fingerprint_mutex_);
  return WriteRaw({RawEdit{.kind = IndexEdit::Kind::kDelete, .key = EncodeFingerprintKey(id)}},
                  /*sync=*/true);
}

}  // namespace cairn
