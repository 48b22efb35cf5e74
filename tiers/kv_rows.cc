#include "tiers/kv_rows.h"

#include <optional>
#include <vector>

#include "src/base/status_macros.h"

namespace cairn {
namespace {

// One index goes along the rows of a copy, the other from copy to copy.
struct Sides {
  uint64_t copies = 0;
  uint64_t rows = 0;
  uint64_t target_copy_bytes = 0;
  uint64_t source_copy_bytes = 0;
  uint64_t target_row_bytes = 0;
  uint64_t source_row_bytes = 0;
};

Sides RowsOfBlocks(const KvShape& shape, const KvPitch& target, const KvPitch& source) {
  return {shape.layers,       shape.blocks,       target.layer_bytes,
          source.layer_bytes, target.block_bytes, source.block_bytes};
}

Sides RowsOfLayers(const KvShape& shape, const KvPitch& target, const KvPitch& source) {
  return {shape.blocks,       shape.layers,       target.block_bytes,
          source.block_bytes, target.layer_bytes, source.layer_bytes};
}

// A device's pitch is no shorter than a row.
bool FitsDevice(const Sides& sides, uint64_t piece_bytes) {
  if (piece_bytes > kPitchMax) return false;
  if (sides.rows == 1) return true;
  for (const uint64_t pitch : {sides.target_row_bytes, sides.source_row_bytes}) {
    if (pitch < piece_bytes || pitch > kPitchMax) return false;
  }
  return true;
}

// That in fewer copies, of those that a device can make. Empty: neither.
std::optional<Sides> Choose(const KvShape& shape, const KvPitch& target, const KvPitch& source) {
  std::optional<Sides> chosen;
  for (const Sides& sides :
       {RowsOfBlocks(shape, target, source), RowsOfLayers(shape, target, source)}) {
    if (!FitsDevice(sides, shape.piece_bytes)) continue;
    if (!chosen.has_value() || sides.copies < chosen->copies) chosen = sides;
  }
  return chosen;
}

absl::StatusOr<CopyDirection> DirectionOf(const KvTarget& target, const KvSource& source) {
  if (!IsHost(target.kind)) {
    return IsHost(source.kind) ? CopyDirection::kToDevice : CopyDirection::kWithinDevice;
  }
  if (!IsHost(source.kind)) return CopyDirection::kToHost;
  return absl::InvalidArgumentError(
      "both ends are in the host's memory: cairn::CopyKvBlocks copies there");
}

absl::Status CopySides(Device& device, StreamRef stream, CopyDirection direction,
                       const Sides& sides, uint64_t piece_bytes, std::byte* target,
                       const std::byte* source) {
  for (uint64_t copy = 0; copy < sides.copies; ++copy) {
    // The pitch of a single row is none.
    CAIRN_RETURN_IF_ERROR(
        device.CopyRows(stream, direction,
                        {.target = target + copy * sides.target_copy_bytes,
                         .target_pitch = sides.rows == 1 ? piece_bytes : sides.target_row_bytes,
                         .source = source + copy * sides.source_copy_bytes,
                         .source_pitch = sides.rows == 1 ? piece_bytes : sides.source_row_bytes,
                         .row_bytes = piece_bytes,
                         .rows = sides.rows}));
  }
  return absl::OkStatus();
}

absl::Status CopyPieces(Device& device, StreamRef stream, CopyDirection direction,
                        const KvShape& shape, const KvTarget& target, const KvSource& source) {
  std::vector<CopyPiece> pieces;
  pieces.reserve(shape.blocks * shape.layers);
  for (uint64_t block = 0; block < shape.blocks; ++block) {
    for (uint64_t layer = 0; layer < shape.layers; ++layer) {
      pieces.push_back(
          {target.data + block * target.pitch.block_bytes + layer * target.pitch.layer_bytes,
           source.data + block * source.pitch.block_bytes + layer * source.pitch.layer_bytes,
           shape.piece_bytes});
    }
  }
  return device.Copy(stream, direction, pieces);
}

}  // namespace

absl::Status CopyKvBlocksOnDevice(Device& device, StreamRef stream, const KvShape& shape,
                                  const KvTarget& target, const KvSource& source) {
  CAIRN_RETURN_IF_ERROR(ValidateKvCopy(shape, target.pitch, source.pitch));
  CAIRN_RETURN_IF_ERROR(ValidateStream(stream, device.ordinal()));
  CAIRN_ASSIGN_OR_RETURN(const CopyDirection direction, DirectionOf(target, source));
  const std::optional<Sides> sides = Choose(shape, target.pitch, source.pitch);
  absl::Status status = sides.has_value()
                            ? CopySides(device, stream, direction, *sides, shape.piece_bytes,
                                        target.data, source.data)
                            : CopyPieces(device, stream, direction, shape, target, source);
  // None of them may go on into memory that the caller takes for his again.
  if (!status.ok()) device.Synchronize(stream).IgnoreError();
  return status;
}

}  // namespace cairn
