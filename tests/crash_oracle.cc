#include "tests/crash_oracle.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "io/index.h"
#include "tests/crash_content.h"

namespace cairn {
namespace {

// Of all that the index names: each tensor's extent, and the table of each pack once.
absl::StatusOr<uint64_t> BytesNamedByIndex(const std::string& store_path) {
  const absl::StatusOr<std::unique_ptr<Index>> index =
      OpenRocksDbIndex({.path = store_path + "/index", .read_only = true});
  if (!index.ok()) return index.status();
  uint64_t bytes = 0;
  std::map<uint64_t, uint64_t> table_bytes;
  const auto add = [&](IndexKey, const IndexRecord& record) {
    bytes += record.extent_bytes();
    if (record.packed()) table_bytes[record.pack_offset] = record.header_bytes;
    return true;
  };
  const auto skip = [](std::string_view, const absl::Status&) { return true; };
  const absl::Status status = (*index)->ForEach({.record = add, .damaged = skip});
  if (!status.ok()) return status;
  for (const auto& [offset, size] : table_bytes) bytes += size;
  return bytes;
}

}  // namespace

CrashOracle::CrashOracle(Cut cut) : cut_(cut), allowed_(kCrashKeys, Allowed{std::nullopt}) {}

void CrashOracle::Account(std::string_view said) {
  std::istringstream lines(std::string(said.substr(0, said.rfind('\n') + 1)));
  char what = 0;
  int key = 0;
  while (lines >> what >> key) {
    uint64_t version = 0;
    int durability = 0;
    if (what == 'p' || what == 'P') lines >> version;
    if (what == 'P') lines >> durability;
    const Durability promised =
        cut_ == Cut::kProcess ? Durability::kOnDevice : Durability::kFlushed;
    Allowed& allowed = allowed_.at(static_cast<size_t>(key));
    if (what == 'p') allowed.emplace_back(version);
    if (what == 'e') allowed.emplace_back(std::nullopt);
    if (what == 'P' && static_cast<Durability>(durability) >= promised) allowed = {version};
    // No erase waits for the device's cache.
    if (what == 'E' && cut_ == Cut::kProcess) allowed = {std::nullopt};
    if (what == 'A') allowed = {std::nullopt};
  }
}

std::vector<std::string> CrashOracle::Check(Store& store, const std::string& store_path) {
  std::vector<std::string> violations;
  tensors_found_ = 0;
  tensors_lost_ = 0;
  for (int key = 0; key < kCrashKeys; ++key) CheckKey(store, key, violations);
  const StatsSnapshot stats = store.Stats();
  const absl::StatusOr<uint64_t> named = BytesNamedByIndex(store_path);
  if (!named.ok()) violations.push_back(named.status().ToString());
  if (named.ok() && *named != stats.l3.bytes_used) {
    violations.push_back(absl::StrCat("space is lost: ", stats.l3.bytes_used,
                                      " bytes in use, of what the index names ", *named));
  }
  if (cut_ == Cut::kProcess && stats.recovery_dropped + stats.checksum_failures != 0) {
    violations.push_back(absl::StrCat("dropped at recovery: ", stats.recovery_dropped,
                                      ", checksum failures: ", stats.checksum_failures));
  }
  return violations;
}

void CrashOracle::CheckKey(Store& store, int key, std::vector<std::string>& violations) {
  Allowed& allowed = allowed_[static_cast<size_t>(key)];
  const std::string name = CrashKeyName(key);
  const absl::StatusOr<TensorHandle> handle = store.Get(name, {});
  std::optional<uint64_t> found;
  if (handle.ok()) {
    ++tensors_found_;
    uint64_t version = 0;
    std::memcpy(&version, handle->view().data, sizeof(version));
    found = version;
    std::vector<std::byte> expected(kCrashTensorBytesMax + 8);
    FillCrashContent(key, version, expected.data());
    if (handle->view().size != CrashTensorBytes(key, version) ||
        std::memcmp(handle->view().data, expected.data(), handle->view().size) != 0) {
      violations.push_back(absl::StrCat(name, " has wrong bytes, version ", version));
    }
  } else if (absl::IsDataLoss(handle.status()) && cut_ == Cut::kPower) {
    // What a later put or erase without a flush may leave of a tensor that was flushed.
    if (allowed.size() > 1 || allowed.front() == std::nullopt) {
      ++tensors_lost_;
      allowed = {std::nullopt};
      return;
    }
    violations.push_back(absl::StrCat(name, " was flushed: ", handle.status().ToString()));
  } else if (!absl::IsNotFound(handle.status())) {
    violations.push_back(absl::StrCat(name, ": ", handle.status().ToString()));
  }
  if (std::find(allowed.begin(), allowed.end(), found) == allowed.end()) {
    std::string line = absl::StrCat(name, " holds ", found.has_value() ? absl::StrCat(*found) : "-",
                                    " and may hold");
    for (const std::optional<uint64_t>& version : allowed) {
      absl::StrAppend(&line, " ", version.has_value() ? absl::StrCat(*version) : "-");
    }
    violations.push_back(line);
  }
  allowed = {found};
}

std::string CrashOracle::Found() const {
  std::string said;
  for (int key = 0; key < kCrashKeys; ++key) {
    const std::optional<uint64_t> version = allowed_[static_cast<size_t>(key)].front();
    absl::StrAppend(&said, version.has_value()
                               ? absl::StrCat("P ", key, " ", *version, " ",
                                              static_cast<int>(Durability::kFlushed), "\n")
                               : absl::StrCat("A ", key, "\n"));
  }
  return said;
}

}  // namespace cairn
