#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "io/checksum.h"
#include "io/journal_file.h"
#include "io/store_index.h"
#include "io/store_layout.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tools/inspect/commands.h"
#include "tools/inspect/progress.h"
#include "tools/inspect/record_choice.h"
#include "tools/inspect/record_map.h"
#include "tools/inspect/tensor_check.h"
#include "tools/inspect/unwritten.h"

namespace cairn::inspect {
namespace {

using Found = RecordMap::Found;

// Owns the store from Open to its end: nobody writes to it meanwhile.
class IndexRebuild {
 public:
  static absl::StatusOr<std::unique_ptr<IndexRebuild>> Open(const Options& options);

  absl::Status Rebuild();
  void Print(Output& output) const;
  bool lossless() const {
    return damaged_.empty() && damaged_headers_ == 0 && unreadable_bytes_ == 0 &&
           files_->problems().empty();
  }

 private:
  struct Damaged {
    const Found* tensor = nullptr;
    std::string detail;
  };

  IndexRebuild(const Options& options, std::unique_ptr<StoreFiles> files)
      : options_(options), files_(std::move(files)), map_(files_.get()), evidence_(&map_) {}

  absl::Status RefuseSoundIndex() const;
  void Scan();
  void ChooseVerified();
  // Reads those tensors and marks what does not verify; false when all do.
  bool MarkUnverified(const std::vector<size_t>& numbers);
  void Classify(const Found& found);
  void CountDamagedHeaders();
  absl::Status WriteIndex() const;
  absl::Status WriteFingerprints(Index& index) const;
  nlohmann::ordered_json ToJson() const;

  const Options options_;
  const std::unique_ptr<StoreFiles> files_;
  RecordMap map_;
  UnwrittenEvidence evidence_;

  std::vector<Found> found_;
  std::vector<bool> verified_;
  std::vector<bool> unverified_;
  std::map<size_t, std::string> read_errors_;  // By number in found_.
  RecordChoice choice_;
  uint64_t place_used_again_ = 0;
  uint64_t never_written_ = 0;
  std::vector<Damaged> damaged_;
  uint64_t damaged_headers_ = 0;
  uint64_t unreadable_bytes_ = 0;
};

absl::StatusOr<std::unique_ptr<IndexRebuild>> IndexRebuild::Open(const Options& options) {
  // Says what is not a store before anything could be made there.
  CAIRN_RETURN_IF_ERROR(StoreFiles::OpenReadOnly(options.path).status());
  // Without bytes it locks the store and neither makes nor grows one.
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<StoreFiles> files,
                         StoreFiles::Open({.path = options.path, .bytes_max = 0}));
  return std::unique_ptr<IndexRebuild>(new IndexRebuild(options, std::move(files)));
}

absl::Status IndexRebuild::Rebuild() {
  if (!options_.replace) CAIRN_RETURN_IF_ERROR(RefuseSoundIndex());
  Scan();
  ChooseVerified();
  CountDamagedHeaders();
  CAIRN_RETURN_IF_ERROR(WriteIndex());
  // It knows the tensors that were there, by other numbers of their fingerprints. Found again are
  // some that had been evicted: by age they are the first to go.
  std::error_code ignored;
  std::filesystem::remove(absl::StrCat(options_.path, "/", kEvictionName), ignored);
  std::filesystem::remove(absl::StrCat(options_.path, "/", kJournalName), ignored);
  return InstallNewIndex(*files_);
}

// OK: there is none, or it is damaged.
absl::Status IndexRebuild::RefuseSoundIndex() const {
  const absl::StatusOr<std::unique_ptr<Index>> index =
      OpenRocksDbIndex({.path = files_->index_path(), .read_only = true, .salvage = false});
  absl::Status status = index.status();
  uint64_t tensors = 0;
  if (status.ok()) {
    bool damaged = false;
    const auto note = [&damaged](std::string_view, const absl::Status&) {
      damaged = true;
      return false;
    };
    const auto count = [&tensors](IndexKey, const IndexRecord&) {
      ++tensors;
      return true;
    };
    status = (*index)->ForEach({.record = count, .damaged = note});
    if (status.ok()) status = (*index)->Fingerprints().status();
    if (damaged) return absl::OkStatus();
  }
  if (absl::IsNotFound(status) || absl::IsDataLoss(status)) return absl::OkStatus();
  if (!status.ok()) {
    return absl::Status(status.code(),
                        absl::StrCat(status.message(), " (--replace rebuilds it all the same)"));
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the index of ", options_.path, " is sound, with ", tensors,
                   " tensors (--replace rebuilds it all the same)"));
}

void IndexRebuild::Scan() {
  Progress progress(files_->offset_end());
  for (size_t file = 0; file < files_->files().size(); ++file) {
    const RecordMap::FileRecords& records = map_.InFile(file);
    for (const Found& found : records.found) {
      // As an index entry it must stand the test of a reader.
      if (ExtentProblem(*files_, found.record).empty()) found_.push_back(found);
    }
    unreadable_bytes_ += records.unreadable_bytes;
    progress.Add(files_->files()[file].bytes);
  }
  verified_.assign(found_.size(), false);
  unverified_.assign(found_.size(), false);
}

// What does not verify gives its place free for what lies below it, which may.
void IndexRebuild::ChooseVerified() {
  do {
    choice_ = ChooseRecords(found_, unverified_, absl::ToUnixMillis(absl::Now()));
  } while (MarkUnverified(choice_.chosen));
  place_used_again_ = choice_.place_used_again;
  for (const size_t number : choice_.unverified) {
    const auto error = read_errors_.find(number);
    if (error == read_errors_.end()) {
      Classify(found_[number]);
    } else {
      damaged_.push_back({&found_[number], absl::StrCat("cannot be read: ", error->second)});
    }
  }
}

bool IndexRebuild::MarkUnverified(const std::vector<size_t>& numbers) {
  std::vector<Run> runs;
  uint64_t bytes_total = 0;
  for (const size_t number : numbers) {
    if (verified_[number]) continue;
    AddPayloadRuns(found_[number].record, runs);
    bytes_total += found_[number].record.payload_bytes;
  }
  bool any = false;
  Progress progress(bytes_total);
  ReadAhead reader(files_.get(), std::move(runs));
  for (const size_t number : numbers) {
    if (verified_[number]) continue;
    const Found& found = found_[number];
    const uint64_t seed =
        ChecksumSeed(HashKey({found.fingerprint_id, found.key}), found.record.sequence);
    std::vector<uint64_t> sums;
    const absl::Status read = SumChunks(
        reader, found.record, seed, [&progress](uint64_t bytes) { progress.Add(bytes); }, sums);
    if (!read.ok()) read_errors_[number] = std::string(read.message());
    verified_[number] = read.ok() && TensorChecksum(seed, sums) == found.record.checksum;
    unverified_[number] = !verified_[number];
    any |= unverified_[number];
  }
  return any;
}

void IndexRebuild::Classify(const Found& found) {
  const IndexRecord& record = found.record;
  const Run extent = {record.offset, record.extent_bytes()};
  if (choice_.taken.Overlaps(extent) ||
      map_.Later(extent.offset, extent.end(), record.sequence) != nullptr) {
    ++place_used_again_;
    return;
  }
  // Its header is there. One block of before in the payload shows that it was cut off.
  const Run payload = {record.payload_offset(), extent.end() - record.payload_offset()};
  if (!evidence_.Of(payload, record.sequence).empty()) {
    ++never_written_;
    return;
  }
  damaged_.push_back({&found,
                      "does not match its checksum, or was used again by a write of which nothing "
                      "else is left"});
}

// But for those of which a part was used again.
void IndexRebuild::CountDamagedHeaders() {
  RunSet written;
  for (const Found& found : found_) {
    written.Add({found.record.offset, found.record.extent_bytes()});
    written.Add({found.record.header_offset(), found.record.header_bytes});
  }
  for (size_t file = 0; file < files_->files().size(); ++file) {
    for (const Run& header : map_.InFile(file).damaged_headers) {
      if (!written.Overlaps(header)) ++damaged_headers_;
    }
  }
}

absl::Status IndexRebuild::WriteIndex() const {
  constexpr size_t kBatch = 1024;
  CAIRN_ASSIGN_OR_RETURN(const std::string path, VacantNewIndexPath(*files_));
  CAIRN_ASSIGN_OR_RETURN(
      const std::unique_ptr<Index> index,
      OpenRocksDbIndex(
          {.path = path, .bytes_max = StoreFiles::IndexBytesReserved(files_->offset_end())}));
  CAIRN_RETURN_IF_ERROR(WriteFingerprints(*index));
  std::vector<IndexEdit> edits;
  for (const size_t number : choice_.chosen) {
    const Found& found = found_[number];
    edits.push_back({.key = {found.fingerprint_id, found.key}, .record = found.record});
    if (edits.size() < kBatch) continue;
    CAIRN_RETURN_IF_ERROR(index->Commit(edits, /*sync=*/false));
    edits.clear();
  }
  CAIRN_RETURN_IF_ERROR(index->Commit(edits, /*sync=*/true));
  return index->Sync();
}

absl::Status IndexRebuild::WriteFingerprints(Index& index) const {
  std::map<uint32_t, std::string> in_use;
  for (const size_t number : choice_.chosen) {
    in_use.emplace(found_[number].fingerprint_id, found_[number].fingerprint);
  }
  for (const auto& [number, text] : FingerprintsSeen(found_)) {
    CAIRN_RETURN_IF_ERROR(index.RestoreFingerprint({.id = number, .text = text}));
    // A number with bytes on disk must not be given to another.
    if (!in_use.contains(number)) CAIRN_RETURN_IF_ERROR(index.DropFingerprint(number));
  }
  return absl::OkStatus();
}

nlohmann::ordered_json IndexRebuild::ToJson() const {
  uint64_t bytes = 0;
  std::map<std::string, uint64_t> tensors;
  for (const size_t number : choice_.chosen) {
    bytes += found_[number].record.payload_bytes;
    ++tensors[PrintableKey(found_[number].fingerprint)];
  }
  nlohmann::ordered_json damaged = nlohmann::ordered_json::array();
  for (const Damaged& one : damaged_) {
    damaged.push_back({{"key", PrintableKey(one.tensor->key)},
                       {"fingerprint", PrintableKey(one.tensor->fingerprint)},
                       {"what", "payload"},
                       {"detail", one.detail},
                       {"offset", one.tensor->record.payload_offset()}});
  }
  return {{"store", options_.path},
          {"uuid", UuidText(files_->uuid())},
          {"format_version", files_->format_version()},
          {"records", found_.size()},
          {"tensors", choice_.chosen.size()},
          {"bytes", bytes},
          {"fingerprints", tensors},
          {"skipped",
           {{"older_write", choice_.older_writes},
            {"place_used_again", place_used_again_},
            {"expired", choice_.expired},
            {"purged_fingerprint", choice_.purged_fingerprint},
            {"never_written", never_written_},
            {"damaged", damaged_.size()}}},
          {"damaged", std::move(damaged)},
          {"damaged_headers", damaged_headers_},
          {"unreadable_bytes", unreadable_bytes_},
          {"lost_files", files_->problems()},
          {"lossless", lossless()}};
}

void IndexRebuild::Print(Output& output) const {
  const nlohmann::ordered_json report = ToJson();
  if (options_.json) {
    output.Json(report);
    return;
  }
  for (const std::string& problem : files_->problems()) {
    output.Line(absl::StrCat("damaged: file: ", problem));
  }
  for (const nlohmann::ordered_json& one : report["damaged"]) {
    output.Line(absl::StrCat("damaged: ", one["key"].get<std::string>(),
                             ": payload: ", one["detail"].get<std::string>(), " (offset ",
                             one["offset"].get<uint64_t>(), ")"));
  }
  if (damaged_headers_ > 0) {
    output.Line(absl::StrCat("damaged: ", damaged_headers_,
                             " headers of records, whose tensors are not known"));
  }
  if (unreadable_bytes_ > 0) {
    output.Line(absl::StrCat("damaged: ", unreadable_bytes_, " bytes that the device refuses"));
  }
  std::string skipped;
  for (const auto& [reason, count] : report["skipped"].items()) {
    if (count == 0) continue;
    std::string words = reason;
    for (char& letter : words) letter = letter == '_' ? ' ' : letter;
    absl::StrAppend(&skipped, skipped.empty() ? "; skipped: " : ", ", count.get<uint64_t>(), " ",
                    words);
  }
  output.Line(absl::StrCat("the index is rebuilt: ", choice_.chosen.size(), " tensors, ",
                           FormatBytes(report["bytes"].get<uint64_t>()), ", of ", found_.size(),
                           " records found", skipped));
}

}  // namespace

absl::StatusOr<int> RebuildIndex(const Options& options, Output& output) {
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<IndexRebuild> rebuild, IndexRebuild::Open(options));
  CAIRN_RETURN_IF_ERROR(rebuild->Rebuild());
  rebuild->Print(output);
  return rebuild->lossless() ? kSound : kDamaged;
}

}  // namespace cairn::inspect
