// What an Open finds: the index is believed, in so far as it can be true; everything it does not
// name is free space. Time and memory follow the index, never the data.

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
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

// Bytes of L3 that the index gives to somebody: to a tensor, or to the table of a pack.
struct Claim {
  Extent extent;
  uint64_t sequence = 0;        // A table has that of the last member.
  Recovered* tensor = nullptr;  // Null: a table.
  bool dropped = false;

  uint64_t end() const { return extent.offset + extent.bytes; }
};

// In order of offset, tables once for all members.
std::vector<Claim> ClaimsOf(std::vector<Recovered>& found) {
  std::vector<Claim> claims;
  claims.reserve(found.size());
  absl::flat_hash_map<std::pair<uint64_t, uint64_t>, uint64_t> tables;
  for (Recovered& one : found) {
    if (one.dropped) continue;
    claims.push_back({one.extent(), one.record.sequence, &one});
    if (!one.record.packed()) continue;
    uint64_t& sequence = tables[{one.record.pack_offset, one.record.header_bytes}];
    sequence = std::max(sequence, one.record.sequence);
  }
  for (const auto& [table, sequence] : tables) {
    claims.push_back({{table.first, table.second}, sequence});
  }
  std::sort(claims.begin(), claims.end(),
            [](const Claim& a, const Claim& b) { return a.extent.offset < b.extent.offset; });
  return claims;
}

// Of two that claim the same bytes, the later write has them; a pack without its table is nobody's.
// Returns what is in use, in order of offset.
std::vector<Extent> SettleClaims(std::vector<Recovered>& found) {
  std::vector<Claim> claims = ClaimsOf(found);
  Claim* last = nullptr;
  absl::flat_hash_set<std::pair<uint64_t, uint64_t>> lost_tables;
  for (Claim& next : claims) {
    if (last == nullptr || next.extent.offset >= last->end()) {
      last = &next;
      continue;
    }
    Claim& loser = next.sequence < last->sequence ? next : *last;
    if (&loser == last) last = &next;
    loser.dropped = true;
    if (loser.tensor == nullptr) lost_tables.insert({loser.extent.offset, loser.extent.bytes});
  }
  std::vector<Extent> in_use;
  in_use.reserve(claims.size());
  absl::flat_hash_set<std::pair<uint64_t, uint64_t>> held_tables;
  for (Claim& claim : claims) {
    if (claim.tensor == nullptr) continue;
    Recovered& one = *claim.tensor;
    const std::pair<uint64_t, uint64_t> table = {one.record.pack_offset, one.record.header_bytes};
    one.dropped = claim.dropped || (one.record.packed() && lost_tables.contains(table));
    claim.dropped = one.dropped;
    if (!one.dropped && one.record.packed()) held_tables.insert(table);
  }
  for (const Claim& claim : claims) {
    const bool held = claim.tensor != nullptr
                          ? !claim.dropped
                          : held_tables.contains({claim.extent.offset, claim.extent.bytes});
    if (held) in_use.push_back(claim.extent);
  }
  return in_use;
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
  std::vector<Extent> in_use;  // In order of offset.
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
             one.dropped =
                 expired || shrunk_away || !known.contains(key.fingerprint_id) ||
                 !NvmeTier::Contains(files, one.extent()) ||
                 !NvmeTier::Contains(files, {record.header_offset(), record.header_bytes});
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
  findings.in_use = SettleClaims(findings.found);
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
  CAIRN_ASSIGN_OR_RETURN(l3, NvmeTier::Create(files.get(), io.get(), findings.in_use));
  MakeFlusher();
  MakeDirectory();

  // Old writes first: the order in which they would be evicted.
  std::sort(
      findings.found.begin(), findings.found.end(),
      [](const Recovered& a, const Recovered& b) { return a.record.sequence < b.record.sequence; });
  std::map<uint64_t, PackExtent*> packs;
  for (const Recovered& one : findings.found) {
    if (one.dropped) continue;
    std::unique_ptr<Entry> entry = ToEntry(one);
    if (one.record.packed()) {
      PackExtent*& pack = packs[one.record.pack_offset];
      if (pack == nullptr) {
        pack = new PackExtent{.table = {one.record.pack_offset, one.record.header_bytes}};
        if (one.record.retention == Retention::kKeep) directory->KeepPack(pack);
      }
      ++pack->members;
      entry->pack = pack;
    }
    directory->ListRecovered(std::move(entry));
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
      index.get(), files->data_file_bytes(),
      [this](uint64_t offset) { return flusher->Flush(offset / files->data_file_bytes()); });
  directory = std::make_unique<Directory>(
      options.stripe_count,
      Directory::Parts{l2.get(), l3.get(), &l2_eviction, &l3_eviction, index_writer.get(), [this] {
                         if (evictor != nullptr) evictor->RoomMade();
                       }});
  evictor = std::make_unique<Evictor>(
      Evictor::Parts{directory.get(), l2.get(), l3.get(), &stats, options.l2_dirty_share_max,
                     files->index_bytes_max(), [this] { Housekeep(); }});
  spill_context = {.directory = directory.get(),
                   .l3 = l3.get(),
                   .stats = &stats,
                   .tracker = &spill_tracker,
                   .store_uuid = files->uuid(),
                   .fingerprint = options.fingerprint};
  packer = std::make_unique<Packer>(&spill_context, evictor.get());
}

}  // namespace cairn
