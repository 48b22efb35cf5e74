// What an Open finds: the index is believed, in so far as it can be true; everything it does not
// name is free space. Time and memory follow the index, never the data.

#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "src/store_core.h"

namespace cairn {
namespace {

// Writes that a crash cut off used sequences the index never saw; a store opened again must not
// use them for other bytes, or a stale extent could verify.
constexpr uint64_t kSequenceGap = uint64_t{1} << 20;

struct Recovered {
  uint32_t fingerprint_id;
  std::string key;
  IndexRecord record;
  bool dropped = false;

  Extent extent() const { return {record.offset, record.extent_bytes()}; }
};

// Of two entries that claim the same bytes, the later write has them.
void DropOverlapping(std::vector<Recovered>& found) {
  std::sort(found.begin(), found.end(), [](const Recovered& a, const Recovered& b) {
    return a.record.offset < b.record.offset;
  });
  Recovered* last = nullptr;
  for (Recovered& next : found) {
    if (next.dropped) continue;
    if (last == nullptr || next.record.offset >= last->extent().offset + last->extent().bytes) {
      last = &next;
      continue;
    }
    if (next.record.sequence < last->record.sequence) {
      next.dropped = true;
    } else {
      last->dropped = true;
      last = &next;
    }
  }
}

std::unique_ptr<Entry> ToEntry(const Recovered& found) {
  auto entry = std::make_unique<Entry>();
  const IndexRecord& record = found.record;
  entry->key = found.key;
  entry->fingerprint_id = found.fingerprint_id;
  entry->header_bytes = record.header_bytes;
  entry->hash = HashKey({found.fingerprint_id, found.key});
  entry->sequence = record.sequence;
  entry->bytes = record.payload_bytes;
  entry->checksum = record.checksum;
  entry->meta = record.meta;
  entry->tensor_class = record.tensor_class;
  entry->retention = record.retention;
  entry->expires_unix_ms = record.expires_unix_ms;
  entry->l3_extent = found.extent();
  entry->l3 = CopyState::kResident;
  return entry;
}

// What the index says, believed or marked as dropped.
struct Findings {
  std::vector<Recovered> found;
  std::vector<std::string> damaged;  // Raw keys.
  uint64_t last_sequence = 0;
  bool ttl_used = false;
};

absl::StatusOr<Findings> ReadIndex(const Index& index, const StoreFiles& files, uint64_t offset_end,
                                   int64_t now_unix_ms) {
  Findings findings;
  CAIRN_ASSIGN_OR_RETURN(const std::vector<Fingerprint> fingerprints, index.Fingerprints());
  absl::flat_hash_set<uint32_t> known;
  for (const Fingerprint& fingerprint : fingerprints) known.insert(fingerprint.id);
  absl::Status refused;
  CAIRN_RETURN_IF_ERROR(index.ForEach(
      {.record =
           [&](IndexKey key, const IndexRecord& record) {
             Recovered one = {key.fingerprint_id, std::string(key.key), record};
             const bool expired =
                 record.expires_unix_ms != 0 && record.expires_unix_ms <= now_unix_ms;
             const bool shrunk_away = record.offset >= offset_end;
             if (shrunk_away && !expired && record.retention == Retention::kKeep) {
               refused = absl::FailedPreconditionError(absl::StrCat(
                   "tensor ", PrintableKey(key.key),
                   " is to be kept, and lies in a part of L3 that l3_bytes_max no longer covers"));
               return false;
             }
             // A number without its fingerprint: nobody could ever ask for it.
             one.dropped = expired || shrunk_away || !known.contains(key.fingerprint_id) ||
                           !NvmeTier::Contains(files, one.extent());
             findings.last_sequence = std::max(findings.last_sequence, record.sequence);
             findings.ttl_used |= record.expires_unix_ms != 0;
             findings.found.push_back(std::move(one));
             return true;
           },
       .damaged =
           [&](std::string_view raw_key, const absl::Status&) {
             findings.damaged.emplace_back(raw_key);
             return true;
           }}));
  CAIRN_RETURN_IF_ERROR(refused);
  DropOverlapping(findings.found);
  return findings;
}

// Before anything else is written: the index must not name what will be used anew.
absl::Status ForgetDropped(Index& index, const Findings& findings) {
  for (const std::string& raw_key : findings.damaged) {
    CAIRN_RETURN_IF_ERROR(index.DeleteRaw(raw_key));
  }
  std::vector<IndexEdit> edits;
  for (const Recovered& one : findings.found) {
    if (!one.dropped) continue;
    edits.push_back(
        {.kind = IndexEdit::Kind::kDelete, .key = {one.fingerprint_id, one.key}, .record = {}});
  }
  return edits.empty() ? absl::OkStatus() : index.Commit(edits, /*sync=*/true);
}

}  // namespace

absl::Status StoreCore::Recover() {
  const uint64_t offset_end = files->OffsetEndWithin(options.l3_bytes_max);
  CAIRN_ASSIGN_OR_RETURN(Findings findings, ReadIndex(*index, *files, offset_end, NowUnixMs()));
  CAIRN_RETURN_IF_ERROR(ForgetDropped(*index, findings));
  if (offset_end < files->offset_end()) {
    CAIRN_RETURN_IF_ERROR(files->ShrinkTo(options.l3_bytes_max));
  }
  // Sorted by offset by ReadIndex.
  std::vector<Extent> in_use;
  for (const Recovered& one : findings.found) {
    if (!one.dropped) in_use.push_back(one.extent());
  }
  CAIRN_ASSIGN_OR_RETURN(l3, NvmeTier::Create(files.get(), io.get(), in_use));
  MakeDirectory();

  // Old writes first: the order in which they would be evicted.
  std::sort(
      findings.found.begin(), findings.found.end(),
      [](const Recovered& a, const Recovered& b) { return a.record.sequence < b.record.sequence; });
  for (const Recovered& one : findings.found) {
    if (one.dropped) continue;
    directory->ListRecovered(ToEntry(one));
    ++recovered_tensors;
  }
  recovery_dropped = findings.found.size() - recovered_tensors + findings.damaged.size();
  if (recovery_dropped > 0) {
    Log(absl::StrCat(options.path, ": ", recovery_dropped,
                     " index entries were expired, damaged or could not be true, and are dropped"));
  }
  ttl_used = findings.ttl_used;
  next_sequence = findings.last_sequence + 1 + (files->created() ? 0 : kSequenceGap);
  return absl::OkStatus();
}

void StoreCore::MakeDirectory() {
  index_writer = std::make_unique<IndexWriter>(
      index.get(), files->data_file_bytes(), [this](uint64_t offset) -> absl::Status {
        const int fd = files->files()[offset / files->data_file_bytes()].fd;
        if (fdatasync(fd) == 0) return absl::OkStatus();
        return absl::UnavailableError(
            absl::StrCat("flushing the device under ", options.path, " failed"));
      });
  directory = std::make_unique<Directory>(
      options.stripe_count,
      Directory::Parts{l2.get(), l3.get(), &l2_eviction, &l3_eviction, index_writer.get(), [this] {
                         if (evictor != nullptr) evictor->RoomMade();
                       }});
  evictor = std::make_unique<Evictor>(Evictor::Parts{directory.get(), l2.get(), l3.get(), &stats,
                                                     options.l2_dirty_share_max,
                                                     [this] { Housekeep(); }});
  spill_context = {.directory = directory.get(),
                   .l3 = l3.get(),
                   .stats = &stats,
                   .tracker = &spill_tracker,
                   .store_uuid = files->uuid(),
                   .fingerprint = options.fingerprint};
}

}  // namespace cairn
