#include "tools/inspect/unwritten.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "io/checksum.h"
#include "io/record.h"
#include "src/base/strings.h"

namespace cairn::inspect {
namespace {}  // namespace

std::string UnwrittenEvidence::Of(const Run& run, uint64_t sequence) {
  if (map_->files().HasNeverWritten(run.offset, run.bytes)) return "nothing was ever written there";
  if (AllZeros(run)) return "zeros are there";
  const size_t file = run.offset / map_->files().data_file_bytes();
  for (const RecordMap::Found& found : map_->InFile(file).found) {
    const IndexRecord& record = found.record;
    if (record.sequence >= sequence) continue;
    const uint64_t header = record.header_offset();
    const bool header_there = header < run.end() && header + record.header_bytes > run.offset;
    if (header_there || StillThere(found, run)) {
      return absl::StrCat("the earlier write of ", PrintableKey(found.key), " is there");
    }
  }
  return "";
}

bool UnwrittenEvidence::AllZeros(const Run& run) {
  for (uint64_t at = run.offset; at < run.end(); at += ReadBuffer::kBytes) {
    const absl::Span<std::byte> bytes =
        buffer_.span().first(std::min<uint64_t>(ReadBuffer::kBytes, run.end() - at));
    if (!map_->files().ReadBlocks(at, bytes).ok()) return false;
    if (std::any_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte != std::byte{}; }))
      return false;
  }
  return true;
}

bool UnwrittenEvidence::StillThere(const RecordMap::Found& found, const Run& run) {
  const IndexRecord& record = found.record;
  const uint64_t payload = record.payload_offset();
  if (payload >= run.end() || found.end() <= run.offset) return false;
  const uint64_t seed = ChecksumSeed(HashKey({found.fingerprint_id, found.key}), record.sequence);
  std::vector<uint64_t> sums;
  if (!record.packed()) {
    if (record.header_bytes > ReadBuffer::kBytes) return false;
    const absl::Span<std::byte> bytes = buffer_.span().first(record.header_bytes);
    if (!map_->files().ReadBlocks(record.offset, bytes).ok()) return false;
    const absl::StatusOr<RecordHeader> header = DecodeRecordHeader(bytes);
    if (!header.ok()) return false;
    sums = header->chunk_sums;
  }
  const uint64_t first = run.offset > payload ? (run.offset - payload) / kChecksumChunkBytes : 0;
  for (uint64_t chunk = first; chunk < ChecksumChunkCount(record.payload_bytes); ++chunk) {
    const uint64_t begin = chunk * kChecksumChunkBytes;
    if (payload + begin >= run.end()) break;
    const uint64_t size = std::min(kChecksumChunkBytes, record.payload_bytes - begin);
    const absl::Span<std::byte> bytes = buffer_.span().first(RoundUpToBlock(size));
    if (!map_->files().ReadBlocks(payload + begin, bytes).ok()) return false;
    const uint64_t sum = ChunkChecksum(seed, bytes.data(), size);
    // In a pack there is one chunk.
    if (record.packed() ? TensorChecksum(seed, {&sum, 1}) == record.checksum : sum == sums[chunk]) {
      return true;
    }
  }
  return false;
}

}  // namespace cairn::inspect
