#include "tools/inspect/tensor_check.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "io/checksum.h"
#include "src/base/strings.h"

namespace cairn::inspect {
namespace {

static_assert(ReadBuffer::kBytes >= kChecksumChunkBytes);

bool SameRecord(const IndexRecord& a, const IndexRecord& b) {
  return a.sequence == b.sequence && a.offset == b.offset && a.pack_offset == b.pack_offset &&
         a.header_bytes == b.header_bytes && a.payload_bytes == b.payload_bytes &&
         a.checksum == b.checksum && a.meta == b.meta && a.tensor_class == b.tensor_class &&
         a.retention == b.retention && a.expires_unix_ms == b.expires_unix_ms;
}

uint64_t HeaderBytesRead(const IndexRecord& record) {
  return std::min<uint64_t>(record.header_bytes, ReadBuffer::kBytes);
}

std::vector<Run> PlanReads(const StoreFiles& files, const std::vector<const IndexRecord*>& plan) {
  std::vector<Run> runs;
  for (const IndexRecord* const record : plan) {
    if (!ExtentProblem(files, *record).empty()) continue;
    runs.push_back({record->header_offset(), HeaderBytesRead(*record)});
    AddPayloadRuns(*record, runs);
  }
  return runs;
}

}  // namespace

// A chunk at a time, so that neighbours of any size make requests of one size.
void AddPayloadRuns(const IndexRecord& record, std::vector<Run>& runs) {
  for (uint64_t done = 0; done < record.payload_bytes; done += kChecksumChunkBytes) {
    runs.push_back({record.payload_offset() + done,
                    RoundUpToBlock(std::min(kChecksumChunkBytes, record.payload_bytes - done))});
  }
}

absl::Status SumChunks(ReadAhead& reader, const IndexRecord& record, uint64_t seed,
                       const std::function<void(uint64_t)>& read_bytes,
                       std::vector<uint64_t>& sums) {
  for (uint64_t done = 0; done < record.payload_bytes; done += kChecksumChunkBytes) {
    const uint64_t size = std::min(kChecksumChunkBytes, record.payload_bytes - done);
    const absl::StatusOr<absl::Span<const std::byte>> bytes =
        reader.Read(record.payload_offset() + done, RoundUpToBlock(size));
    read_bytes(RoundUpToBlock(size));
    if (!bytes.ok()) return bytes.status();
    sums.push_back(ChunkChecksum(seed, bytes->data(), size));
  }
  return absl::OkStatus();
}

TensorCheck::TensorCheck(const StoreView* view, const std::vector<const IndexRecord*>& plan,
                         std::function<void(uint64_t bytes)> read_bytes)
    : view_(view),
      read_bytes_(std::move(read_bytes)),
      reader_(&view->files(), PlanReads(view->files(), plan)) {}

std::string ExtentProblem(const StoreFiles& files, const IndexRecord& record) {
  const uint64_t number = record.offset / files.data_file_bytes();
  const uint64_t in_file = record.offset % files.data_file_bytes();
  if (record.packed() && record.pack_offset / files.data_file_bytes() != number) {
    return "in another data file than the header of its pack";
  }
  if (number >= files.files().size()) return absl::StrCat("in data file ", number, ", of none");
  const StoreFiles::File& file = files.files()[number];
  if (file.fd < 0) return absl::StrCat("in data file ", number, ", which is lost");
  if (in_file == 0) return "in the header of a data file";
  if (in_file > file.bytes || record.extent_bytes() > file.bytes - in_file) {
    return absl::StrCat("past the end of data file ", number);
  }
  return "";
}

TensorCheck::Result TensorCheck::Check(const StoreView::Entry& entry) {
  Result result;
  const IndexRecord& record = entry.record;
  const std::string* const fingerprint = view_->FingerprintText(entry.fingerprint_id);
  if (fingerprint == nullptr) {
    result.damage.push_back(
        {.what = "index",
         .detail = absl::StrCat("fingerprint ", entry.fingerprint_id, " is not in the index"),
         .offset = record.offset});
  }
  const std::string problem = ExtentProblem(view_->files(), record);
  if (!problem.empty()) {
    result.header = "unreadable";
    result.damage.push_back({.what = "file", .detail = problem, .offset = record.offset});
    return result;
  }

  const absl::StatusOr<RecordHeader> header =
      record.packed() ? ReadPackTable(entry) : ReadHeader(entry);
  result.header = header.ok() ? "ok" : std::string(header.status().message());
  const uint64_t seed = ChecksumSeed(HashKey(entry.index_key()), record.sequence);
  std::vector<uint64_t> sums;
  const absl::Status read = SumChunks(reader_, record, seed, read_bytes_, sums);
  if (!read.ok()) {
    const uint64_t chunk = sums.size();
    result.damage.push_back({.what = "payload",
                             .detail = absl::StrCat("cannot be read: ", read.message()),
                             .offset = record.payload_offset() + chunk * kChecksumChunkBytes});
  } else if (TensorChecksum(seed, sums) != record.checksum) {
    LocateDamage(entry, seed, sums, header, result.damage);
  } else {
    result.payload_sound = true;
  }
  if (!header.ok()) {
    result.damage.push_back({.what = "header",
                             .detail = result.header,
                             .offset = record.header_offset(),
                             .bytes = record.header_bytes});
  }
  return result;
}

absl::StatusOr<RecordHeader> TensorCheck::ReadHeader(const StoreView::Entry& entry) {
  const uint64_t size = HeaderBytesRead(entry.record);
  const absl::StatusOr<absl::Span<const std::byte>> bytes = reader_.Read(entry.record.offset, size);
  read_bytes_(size);
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<RecordHeader> header = DecodeRecordHeader(*bytes);
  if (!header.ok()) return header;
  if (header->store_uuid != view_->files().uuid()) {
    return absl::DataLossError("record header: of another store");
  }
  if (header->key != entry.key || header->fingerprint_id != entry.fingerprint_id) {
    return absl::DataLossError(
        absl::StrCat("record header: of another tensor, ", PrintableKey(header->key)));
  }
  const std::string* const fingerprint = view_->FingerprintText(entry.fingerprint_id);
  if (!SameRecord(header->record, entry.record) ||
      (fingerprint != nullptr && header->fingerprint != *fingerprint)) {
    return absl::DataLossError("record header: says otherwise than the index entry");
  }
  return header;
}

absl::StatusOr<RecordHeader> TensorCheck::ReadPackTable(const StoreView::Entry& entry) {
  const IndexRecord& record = entry.record;
  if (pack_bytes_.empty() || pack_offset_ != record.pack_offset ||
      pack_bytes_.size() != record.header_bytes) {
    // Its members follow one another; each would read it again.
    pack_bytes_.assign(record.header_bytes, std::byte{0});
    pack_offset_ = record.pack_offset;
    const uint64_t size = HeaderBytesRead(record);
    const absl::StatusOr<absl::Span<const std::byte>> bytes =
        reader_.Read(record.pack_offset, size);
    read_bytes_(size);
    if (bytes.ok()) {
      std::copy(bytes->begin(), bytes->end(), pack_bytes_.begin());
      pack_ = DecodePackTable(pack_bytes_);
    } else {
      pack_ = bytes.status();
    }
  }
  if (!pack_.ok()) return pack_.status();
  if (pack_->store_uuid != view_->files().uuid()) {
    return absl::DataLossError("pack table: of another store");
  }
  for (const PackTable::Member& member : pack_->members) {
    if (member.record.offset != record.offset) continue;
    if (member.key.key != entry.key || member.key.fingerprint_id != entry.fingerprint_id) {
      return absl::DataLossError(
          absl::StrCat("pack table: of another tensor, ", PrintableKey(member.key.key)));
    }
    if (!SameRecord(member.record, record)) break;
    // One chunk: its sum is that of the tensor.
    return RecordHeader{.store_uuid = pack_->store_uuid,
                        .fingerprint = pack_->fingerprint,
                        .fingerprint_id = pack_->fingerprint_id,
                        .key = entry.key,
                        .record = member.record,
                        .chunk_sums = {}};
  }
  return absl::DataLossError("pack table: says otherwise than the index entry");
}

void TensorCheck::LocateDamage(const StoreView::Entry& entry, uint64_t seed,
                               const std::vector<uint64_t>& sums,
                               const absl::StatusOr<RecordHeader>& header,
                               std::vector<Damage>& damage) const {
  const IndexRecord& record = entry.record;
  const uint64_t payload = record.payload_offset();
  bool located = false;
  if (header.ok() && header->chunk_sums.size() == sums.size() &&
      TensorChecksum(seed, header->chunk_sums) == record.checksum) {
    for (size_t chunk = 0; chunk < sums.size(); ++chunk) {
      if (sums[chunk] == header->chunk_sums[chunk]) continue;
      located = true;
      const uint64_t begin = chunk * kChecksumChunkBytes;
      damage.push_back(
          {.what = "payload",
           .detail =
               absl::StrCat("chunk ", chunk, " of ", sums.size(), " does not match its checksum"),
           .offset = payload + begin,
           .bytes = RoundUpToBlock(std::min(kChecksumChunkBytes, record.payload_bytes - begin))});
    }
  }
  if (!located) {
    damage.push_back({.what = "payload",
                      .detail = "does not match its checksum",
                      .offset = payload,
                      .bytes = RoundUpToBlock(record.payload_bytes)});
  }
}

}  // namespace cairn::inspect
