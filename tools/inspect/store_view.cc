#include "tools/inspect/store_view.h"

#include <sys/stat.h>

#include <cctype>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn::inspect {

absl::StatusOr<StoreView> StoreView::Open(const std::string& path) {
  StoreView view;
  CAIRN_ASSIGN_OR_RETURN(view.files_, StoreFiles::OpenReadOnly(path));
  absl::StatusOr<std::unique_ptr<Index>> index =
      OpenRocksDbIndex({.path = view.files_->index_path(), .read_only = true});
  view.index_status_ = index.status();
  if (!index.ok()) return view;
  view.index_ = *std::move(index);
  absl::StatusOr<std::vector<Fingerprint>> fingerprints = view.index_->Fingerprints();
  if (fingerprints.ok()) {
    view.fingerprints_ = *std::move(fingerprints);
  } else {
    view.index_status_ = fingerprints.status();
  }
  return view;
}

const std::string* StoreView::FingerprintText(uint32_t id) const {
  for (const Fingerprint& fingerprint : fingerprints_) {
    if (fingerprint.id == id) return &fingerprint.text;
  }
  return nullptr;
}

absl::Status StoreView::ForEach(absl::FunctionRef<bool(Entry)> visit,
                                std::vector<DamagedEntry>& damaged) const {
  const auto record = [&](IndexKey key, const IndexRecord& found) {
    return visit(
        {.fingerprint_id = key.fingerprint_id, .key = std::string(key.key), .record = found});
  };
  const auto note = [&](std::string_view raw_key, const absl::Status& status) {
    damaged.push_back({.raw_key = std::string(raw_key), .status = status});
    return true;
  };
  return index_->ForEach({.record = record, .damaged = note});
}

uint64_t StoreView::IndexBytesOnDisk() const {
  uint64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(files_->index_path(), error), end;
       !error && entry != end; entry.increment(error)) {
    struct stat file;
    // What the file system has given, which may be more than a file's length.
    if (lstat(entry->path().c_str(), &file) == 0) {
      bytes += static_cast<uint64_t>(file.st_blocks) * 512;
    }
  }
  return bytes;
}

std::string TypedKey(std::string_view text) {
  std::string key;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && text[i + 1] == 'x' &&
        std::isxdigit(static_cast<unsigned char>(text[i + 2])) != 0 &&
        std::isxdigit(static_cast<unsigned char>(text[i + 3])) != 0) {
      uint32_t byte = 0;
      if (absl::SimpleHexAtoi(ToAbsl(text.substr(i + 2, 2)), &byte)) {
        key.push_back(static_cast<char>(byte));
        i += 3;
        continue;
      }
    }
    key.push_back(text[i]);
  }
  return key;
}

}  // namespace cairn::inspect
