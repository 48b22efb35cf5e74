// What an Open finds: the index is believed, in so far as it can be true; everything it does not
// name is free space. Time and memory follow the index, never the data.

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "io/file.h"
#include "src/base/check.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "src/store_core.h"

namespace cairn {
namespace {

// Writes that a crash cut off used sequences the index never saw; a store opened again must not
// use them for other bytes, or a stale extent could verify.
constexpr uint64_t kSequenceGap = uint64_t{1} << 20;

// The keys whose successors are known: as many as L3 has tensors of a quarter of a MiB. What is
// smaller is seldom worth a guess, and a line that is full forgets its oldest.
constexpr uint64_t kBytesOfPredictedKey = uint64_t{256} << 10;
constexpr uint64_t kPredictedKeysMin = uint64_t{16} << 10;
constexpr uint64_t kPredictedKeysMax = uint64_t{4} << 20;
// That wait: those of some readers. More are made again when their chain is read on.
constexpr size_t kPredictionsMax = 1024;

// Bytes of L3 that the index gives to somebody: to a tensor, or to the table of a pack.
struct Claim {
  uint64_t offset = 0;
  uint64_t sequence = 0;       // A table has that of its last member.
  Entry* entry = nullptr;      // Null: a table.
  PackExtent* pack = nullptr;  // Of a table.
  uint32_t blocks = 0;
  bool dropped = false;

  uint64_t end() const { return offset + blocks * kBlockBytes; }
};

// What the index says. Owns what it has found until Take.
class Findings {
 public:
  Findings() = default;
  ~Findings() {
    TellMembers();
    for (const Claim& claim : claims_) Release(claim);
  }
  Findings(const Findings&) = delete;
  Findings& operator=(const Findings&) = delete;

  // A tensor that the index names; `believed`: it can be true by itself.
  void Add(IndexKey key, const IndexRecord& record, bool believed) {
    last_sequence = std::max(last_sequence, record.sequence);
    ttl_used |= record.expires_unix_ms != 0;
    if (!believed) {
      dropped_.push_back({key.fingerprint_id, std::string(key.key)});
      return;
    }
    std::unique_ptr<Entry> entry = Entry::Create(key, record);
    if (record.packed()) entry->pack = Join(record);
    claims_.push_back({.offset = record.offset,
                       .sequence = record.sequence,
                       .entry = entry.release(),
                       .blocks = Blocks(record.extent_bytes())});
  }
  void AddDamaged(std::string_view raw_key) { damaged_.emplace_back(raw_key); }

  // Of two that claim the same bytes, the later write has them; a pack without its table is
  // nobody's. Returns what is in use, in order of offset.
  std::vector<Extent> Settle();
  // Has the index forget what is dropped, before anything else is written: it must not name what
  // will be used anew.
  absl::Status ForgetDropped(Index& index) const;
  // The tensors in order of sequence, which are the caller's from here on.
  std::vector<Entry*> Take();
  uint64_t dropped() const { return dropped_.size() + damaged_.size(); }

  uint64_t last_sequence = 0;
  bool ttl_used = false;

 private:
  // A table by its offset and size, which members that are damaged may not agree on.
  using Table = std::pair<uint64_t, uint32_t>;
  struct Pack {
    PackExtent* extent = nullptr;
    uint64_t sequence = 0;
    // Counted here, as each member would wait for the extent's memory.
    uint32_t members = 0;
  };
  struct Key {
    uint32_t fingerprint_id;
    std::string key;
  };

  static uint32_t Blocks(uint64_t bytes) { return static_cast<uint32_t>(bytes / kBlockBytes); }
  PackExtent* Join(const IndexRecord& record) {
    Pack& pack = packs_[{record.pack_offset, record.header_bytes}];
    if (pack.extent == nullptr) {
      pack.extent = new PackExtent{.table = {record.pack_offset, record.header_bytes}};
    }
    pack.sequence = std::max(pack.sequence, record.sequence);
    ++pack.members;
    return pack.extent;
  }
  void TellMembers() {
    for (const auto& [table, pack] : packs_) pack.extent->members = pack.members;
  }
  static void Leave(PackExtent* pack) {
    if (pack != nullptr && --pack->members == 0) delete pack;
  }
  static void Release(const Claim& claim) {
    if (claim.entry == nullptr) return;
    Leave(claim.entry->pack);
    delete claim.entry;
  }
  void Drop(const Claim& claim) {
    dropped_.push_back({claim.entry->fingerprint_id(), std::string(claim.entry->key())});
    Release(claim);
  }

  std::vector<Claim> claims_;
  absl::flat_hash_map<Table, Pack> packs_;
  std::vector<Key> dropped_;
  std::vector<std::string> damaged_;  // Raw keys.
};

std::vector<Extent> Findings::Settle() {
  TellMembers();
  for (const auto& [table, pack] : packs_) {
    claims_.push_back({.offset = table.first,
                       .sequence = pack.sequence,
                       .pack = pack.extent,
                       .blocks = Blocks(table.second)});
  }
  packs_ = {};
  std::sort(claims_.begin(), claims_.end(),
            [](const Claim& a, const Claim& b) { return a.offset < b.offset; });
  Claim* last = nullptr;
  absl::flat_hash_set<const PackExtent*> lost;
  for (Claim& next : claims_) {
    if (last == nullptr || next.offset >= last->end()) {
      last = &next;
      continue;
    }
    Claim& loser = next.sequence < last->sequence ? next : *last;
    if (&loser == last) last = &next;
    loser.dropped = true;
    if (loser.entry == nullptr) lost.insert(loser.pack);
  }
  // A member keeps its table's claim, and so the pack alive, until all of them are seen.
  for (Claim& claim : claims_) {
    if (claim.entry == nullptr) {
      ++claim.pack->members;
    } else if (!lost.empty() && lost.contains(claim.entry->pack)) {
      claim.dropped = true;
    }
  }
  for (const Claim& claim : claims_) {
    if (claim.entry != nullptr && claim.dropped) Drop(claim);
  }
  std::vector<Extent> in_use;
  in_use.reserve(claims_.size());
  for (Claim& claim : claims_) {
    if (claim.entry == nullptr && claim.pack->members == 1) claim.dropped = true;
    if (!claim.dropped) in_use.push_back({claim.offset, claim.blocks * kBlockBytes});
    if (claim.entry == nullptr) Leave(claim.pack);
  }
  std::erase_if(claims_,
                [](const Claim& claim) { return claim.entry == nullptr || claim.dropped; });
  return in_use;
}

absl::Status Findings::ForgetDropped(Index& index) const {
  for (const std::string& raw_key : damaged_) CAIRN_RETURN_IF_ERROR(index.DeleteRaw(raw_key));
  std::vector<IndexEdit> edits;
  edits.reserve(dropped_.size());
  for (const Key& key : dropped_) {
    edits.push_back(
        {.kind = IndexEdit::Kind::kDelete, .key = {key.fingerprint_id, key.key}, .record = {}});
  }
  return edits.empty() ? absl::OkStatus() : index.Commit(edits, /*sync=*/true);
}

std::vector<Entry*> Findings::Take() {
  std::sort(claims_.begin(), claims_.end(),
            [](const Claim& a, const Claim& b) { return a.sequence < b.sequence; });
  std::vector<Entry*> entries;
  entries.reserve(claims_.size());
  for (const Claim& claim : claims_) entries.push_back(claim.entry);
  claims_ = {};
  return entries;
}

absl::Status ReadIndex(const Index& index, const StoreFiles& files, uint64_t offset_end,
                       int64_t now_unix_ms, Findings& findings) {
  CAIRN_ASSIGN_OR_RETURN(const std::vector<Fingerprint> fingerprints, index.Fingerprints());
  absl::flat_hash_set<uint32_t> known;
  for (const Fingerprint& fingerprint : fingerprints) known.insert(fingerprint.id);
  absl::Status refused;
  CAIRN_RETURN_IF_ERROR(index.ForEach(
      {.record =
           [&](IndexKey key, const IndexRecord& record) {
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
             const bool believed =
                 !expired && !shrunk_away && known.contains(key.fingerprint_id) &&
                 NvmeTier::Contains(files, {record.offset, record.extent_bytes()}) &&
                 NvmeTier::Contains(files, {record.header_offset(), record.header_bytes});
             findings.Add(key, record, believed);
             return true;
           },
       .damaged =
           [&](std::string_view raw_key, const absl::Status&) {
             findings.AddDamaged(raw_key);
             return true;
           }}));
  return refused;
}

}  // namespace

absl::Status StoreCore::Recover() {
  const uint64_t offset_end = files->OffsetEndWithin(options.l3_bytes_max);
  Findings findings;
  CAIRN_RETURN_IF_ERROR(ReadIndex(*index, *files, offset_end, NowUnixMs(), findings));
  const std::vector<Extent> in_use = findings.Settle();
  CAIRN_RETURN_IF_ERROR(findings.ForgetDropped(*index));
  if (offset_end < files->offset_end()) {
    CAIRN_RETURN_IF_ERROR(files->ShrinkTo(options.l3_bytes_max));
  }
  CAIRN_ASSIGN_OR_RETURN(l3, NvmeTier::Create(files.get(), io.get(), in_use));
  l3_eviction.SetBytesMax(l3->bytes_max());
  MakeFlusher();
  MakeJournal();
  MakeAdmission();
  MakeDirectory();

  const std::vector<Entry*> entries = findings.Take();
  directory->ListRecovered(entries);
  RestoreEviction(!entries.empty());
  directory->TrackRecovered(entries);
  recovered_tensors = entries.size();
  recovery_dropped = findings.dropped();
  if (recovery_dropped > 0) {
    Log(absl::StrCat(options.path, ": ", recovery_dropped,
                     " index entries were expired, damaged or could not be true, and are dropped"));
  }
  ttl_used = findings.ttl_used;
  next_sequence = findings.last_sequence + 1 + (files->created() ? 0 : kSequenceGap);
  return absl::OkStatus();
}

void StoreCore::MakeAdmission() {
  admission = std::make_unique<Admission>(
      Admission::Options{.bytes_per_day = options.l3_write_bytes_per_day,
                         .drive_bytes = TotalBytes(files->folders()).value_or(0),
                         .l3_bytes_max = options.l3_bytes_max,
                         .directory = options.path,
                         .new_store = files->created(),
                         .now_unix_ms = [this] { return NowUnixMs(); },
                         .journal = journal.get()});
  SaveWriteBudget();
}

// What it does not name leaves in the order of the writes.
void StoreCore::RestoreEviction(bool expected) {
  eviction_file = std::make_unique<EvictionFile>(
      EvictionFile::Options{.directory = options.path,
                            .uuid = files->uuid(),
                            .kind = options.eviction,
                            .index_bytes_max = files->index_bytes_max(),
                            .save_every = seams_.eviction_save_every,
                            .tier = &l3_eviction,
                            .log = [this](std::string_view line) { Log(line); }});
  const absl::Status status = eviction_file->Read(
      [this](const SnapshotPiece& piece) { directory->RestoreEviction(piece); });
  if (status.ok() || !expected) return;
  Log(absl::StrCat("what was used last is not known, tensors leave by age at first: ",
                   status.message()));
}

void StoreCore::MakePrefetchQueues() {
  PrefetchQueue::Limits limits = {.keys_max = options.prefetch_queue_max,
                                  .ahead_bytes_max = options.prefetch_ahead_bytes_max > 0
                                                         ? options.prefetch_ahead_bytes_max
                                                         : options.l2_bytes_max / 4,
                                  .in_flight_bytes_max = options.io_bytes_in_flight_max};
  prefetches = std::make_unique<PrefetchQueue>(limits);
  // A guess takes less room than a host's word.
  limits.ahead_bytes_max /= 2;
  limits.keys_max = std::min<size_t>(limits.keys_max, kPredictionsMax);
  predictions = std::make_unique<PrefetchQueue>(limits);
  if (!options.prefetch_predicted) return;
  predictor = std::make_unique<Predictor>(std::clamp(options.l3_bytes_max / kBytesOfPredictedKey,
                                                     kPredictedKeysMin, kPredictedKeysMax));
}

void StoreCore::MakeDefragmenters() {
  const Defragmenter::Options how = {.unusable_share_max = options.unusable_share_max,
                                     .bytes_per_second = options.move_bytes_per_second};
  const auto copy_in_l2 = [tier = l2.get()](Extent from, Extent to, uint64_t bytes) {
    std::memcpy(tier->Address(to), tier->Address(from), bytes);
    return true;
  };
  l2_mover = std::make_unique<TierMover>(TierMover::Parts{
      /*gpu=*/nullptr, directory.get(), &l2_eviction, &l2->space(), &l2->owners(), copy_in_l2});
  l2_defragmenter = std::make_unique<Defragmenter>(&l2->space(), &l2->mix(), l2_mover.get(), how);
  l3_mover = std::make_unique<L3Mover>(
      L3Mover::Parts{directory.get(), &l3_eviction, admission.get(), fill_context(), &spill_context,
                     fingerprint_id, [this] { return next_sequence.fetch_add(1); }});
  l3_defragmenter = std::make_unique<Defragmenter>(l3.get(), &l3->mix(), l3_mover.get(), how);
  for (const auto& gpu : gpus) {
    GpuTier* const l1 = gpu->l1.get();
    if (l1 == nullptr) continue;
    const auto copy_in_l1 = [l1](Extent from, Extent to, uint64_t bytes) {
      return l1->Move(from, to, bytes).ok();
    };
    gpu->mover = std::make_unique<TierMover>(TierMover::Parts{
        gpu.get(), directory.get(), &gpu->eviction, &l1->space(), &l1->owners(), copy_in_l1});
    gpu->defragmenter =
        std::make_unique<Defragmenter>(&l1->space(), &l1->mix(), gpu->mover.get(), how);
  }
}

void StoreCore::MakeDirectory() {
  MakePrefetchQueues();
  index_writer = std::make_unique<IndexWriter>(
      index.get(), files->data_file_bytes(),
      [this](uint64_t offset) { return flusher->Flush(offset / files->data_file_bytes()); });
  directory = std::make_unique<Directory>(
      options.stripe_count,
      Directory::Parts{l2.get(), l3.get(), &l2_eviction, &l3_eviction, index_writer.get(),
                       admission.get(), journal.get(), &writes,
                       [this](const Entry& entry) { late_spills->Used(entry); },
                       [this] { RoomMade(); }});
  MakeDefragmenters();
  evictor = std::make_unique<Evictor>(Evictor::Parts{
      directory.get(), l2.get(), l2_sections.get(), l3.get(), l2_defragmenter.get(),
      l3_defragmenter.get(), options.l2_dirty_share_max,
      files->index_bytes_max() / EvictionFile::kIndexShare * (EvictionFile::kIndexShare - 1) -
          2 * JournalFileBytes(journal->records_max()),
      [this] { Housekeep(); }});
  spill_context = {.directory = directory.get(),
                   .l3 = l3.get(),
                   .stats = &stats,
                   .tracker = &spill_tracker,
                   .store_uuid = files->uuid(),
                   .fingerprint = options.fingerprint};
  packer = std::make_unique<Packer>(&spill_context, evictor.get());
  late_spills = std::make_unique<LateSpills>(LateSpills::Parts{directory.get(), evictor.get(),
                                                               admission.get(), l2.get(), l3.get(),
                                                               io.get(), &spill_context});
  MakePressureMonitor();
}

}  // namespace cairn
