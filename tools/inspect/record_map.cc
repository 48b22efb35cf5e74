#include "tools/inspect/record_map.h"

#include <algorithm>
#include <string_view>

#include "absl/status/status.h"
#include "io/little_endian.h"
#include "io/pack.h"
#include "io/record.h"

namespace cairn::inspect {
namespace {

// A header longer than this would be of a tensor of 100 GiB.
constexpr uint64_t kHeaderBytesMax = uint64_t{1} << 20;
static_assert(kHeaderBytesMax <= ReadBuffer::kBytes);

// What the magic of records and that of packs have in common. Nearly all blocks are payload.
constexpr std::string_view kMagicBegin = "CAIRN";

std::string_view Text(absl::Span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// What a header that does not verify says of its size, where that can be.
uint64_t ClaimedBytes(absl::Span<const std::byte> bytes) {
  const uint64_t claimed = FieldReader(Text(bytes).substr(12)).U32();
  return claimed % kBlockBytes == 0 && claimed <= kHeaderBytesMax
             ? std::max<uint64_t>(claimed, kBlockBytes)
             : kBlockBytes;
}

}  // namespace

const RecordMap::FileRecords& RecordMap::InFile(size_t file) {
  const auto [entry, first] = files_scanned_.try_emplace(file);
  if (first) Scan(file, entry->second);
  return entry->second;
}

void RecordMap::Scan(size_t file, FileRecords& records) {
  if (files_->files()[file].fd < 0) return;
  const uint64_t begin = file * files_->data_file_bytes();
  const uint64_t end = begin + files_->files()[file].bytes;
  std::vector<Run> runs;
  for (uint64_t at = files_->NextWritten(begin + kBlockBytes); at < end;) {
    runs.push_back({at, std::min<uint64_t>(ReadBuffer::kBytes, end - at)});
    at = runs.back().end() < end ? files_->NextWritten(runs.back().end()) : end;
  }
  ReadAhead reader(files_, runs);
  for (const Run& run : runs) {
    const absl::StatusOr<absl::Span<const std::byte>> bytes = reader.Read(run.offset, run.bytes);
    if (bytes.ok()) {
      TakeAll(run.offset, *bytes, records);
      continue;
    }
    // Around the places that the device refuses.
    for (uint64_t at = run.offset; at < run.end(); at += kBlockBytes) {
      const absl::StatusOr<absl::Span<const std::byte>> block = reader.Read(at, kBlockBytes);
      if (block.ok()) {
        TakeAll(at, *block, records);
      } else {
        records.unreadable_bytes += kBlockBytes;
      }
    }
  }
}

void RecordMap::TakeAll(uint64_t offset, absl::Span<const std::byte> bytes, FileRecords& records) {
  const uint64_t file_begin = offset / files_->data_file_bytes() * files_->data_file_bytes();
  const uint64_t file_end = file_begin + files_->files()[offset / files_->data_file_bytes()].bytes;
  for (uint64_t in_bytes = 0; in_bytes < bytes.size(); in_bytes += kBlockBytes) {
    const absl::Span<const std::byte> rest = bytes.subspan(in_bytes);
    if (!Text(rest).starts_with(kMagicBegin)) continue;
    const uint64_t at = offset + in_bytes;
    if (Take(at, rest, records)) continue;
    const uint64_t claimed = ClaimedBytes(rest);
    // It may go on behind these bytes.
    if (claimed > rest.size() && claimed <= file_end - at) {
      const absl::Span<std::byte> whole = buffer_.span().first(claimed);
      if (files_->ReadBlocks(at, whole).ok() && Take(at, whole, records)) continue;
    }
    records.damaged_headers.push_back({at, claimed});
  }
}

bool RecordMap::Take(uint64_t offset, absl::Span<const std::byte> bytes,
                     FileRecords& records) const {
  const absl::StatusOr<RecordHeader> header = DecodeRecordHeader(bytes);
  if (header.ok()) {
    if (header->store_uuid == files_->uuid() && header->record.offset == offset) {
      records.found.push_back({.fingerprint_id = header->fingerprint_id,
                               .fingerprint = header->fingerprint,
                               .key = header->key,
                               .record = header->record});
    }
    return true;
  }
  const absl::StatusOr<PackTable> pack = DecodePackTable(bytes);
  if (pack.ok() && pack->store_uuid == files_->uuid() && pack->offset == offset) {
    for (const PackTable::Member& member : pack->members) {
      records.found.push_back({.fingerprint_id = pack->fingerprint_id,
                               .fingerprint = pack->fingerprint,
                               .key = std::string(member.key.key),
                               .record = member.record});
    }
  }
  return !absl::IsDataLoss(header.status()) && !absl::IsDataLoss(pack.status());
}

const RecordMap::Found* RecordMap::Later(uint64_t offset, uint64_t end, uint64_t sequence) {
  for (const Found& found : InFile(offset / files_->data_file_bytes()).found) {
    if (found.record.sequence <= sequence) continue;
    const uint64_t header = found.record.header_offset();
    if (found.record.offset < end && found.end() > offset) return &found;
    if (header < end && header + found.record.header_bytes > offset) return &found;
  }
  return nullptr;
}

}  // namespace cairn::inspect
