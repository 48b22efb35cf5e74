#include "tools/inspect/record_map.h"

#include <algorithm>

#include "absl/status/status.h"
#include "io/pack.h"
#include "io/record.h"

namespace cairn::inspect {
namespace {

// A header longer than this would be of a tensor of 100 GiB.
constexpr uint64_t kHeaderBytesMax = uint64_t{1} << 20;

}  // namespace

const std::vector<RecordMap::Found>& RecordMap::InFile(size_t file) {
  const auto [entry, first] = files_scanned_.try_emplace(file);
  if (first) Scan(file, entry->second);
  return entry->second;
}

void RecordMap::Scan(size_t file, std::vector<Found>& found) {
  const uint64_t begin = file * files_->data_file_bytes();
  const uint64_t end = begin + files_->files()[file].bytes;
  // Each window overlaps the next by the longest header.
  const uint64_t step = ReadBuffer::kBytes - kHeaderBytesMax;
  for (uint64_t window = begin; window < end; window += step) {
    const absl::Span<std::byte> bytes =
        buffer_.span().first(std::min<uint64_t>(ReadBuffer::kBytes, end - window));
    if (!files_->ReadBlocks(window, bytes).ok()) continue;
    for (uint64_t at = 0; at < std::min<uint64_t>(step, bytes.size()); at += kBlockBytes) {
      Take(window + at, bytes.subspan(at), found);
    }
  }
}

void RecordMap::Take(uint64_t offset, absl::Span<const std::byte> bytes,
                     std::vector<Found>& found) const {
  const absl::StatusOr<RecordHeader> header = DecodeRecordHeader(bytes);
  if (header.ok() && header->store_uuid == files_->uuid() && header->record.offset == offset) {
    found.push_back({.fingerprint_id = header->fingerprint_id,
                     .fingerprint = header->fingerprint,
                     .key = header->key,
                     .record = header->record});
  }
  const absl::StatusOr<PackTable> pack = DecodePackTable(bytes);
  if (!pack.ok() || pack->store_uuid != files_->uuid() || pack->offset != offset) return;
  for (const PackTable::Member& member : pack->members) {
    found.push_back({.fingerprint_id = pack->fingerprint_id,
                     .fingerprint = pack->fingerprint,
                     .key = std::string(member.key.key),
                     .record = member.record});
  }
}

const RecordMap::Found* RecordMap::Later(uint64_t offset, uint64_t end, uint64_t sequence) {
  for (const Found& found : InFile(offset / files_->data_file_bytes())) {
    if (found.record.sequence <= sequence) continue;
    const uint64_t header = found.record.header_offset();
    if (found.record.offset < end && found.end() > offset) return &found;
    if (header < end && header + found.record.header_bytes > offset) return &found;
  }
  return nullptr;
}

}  // namespace cairn::inspect
