#include "io/ring_lane.h"

#include "io/io_result.h"

namespace cairn {

int RingLane::MakeFileTable(uint32_t size) {
  const int result = ring_->MakeFileTable(size);
  has_file_table_ = result == 0;
  return result;
}

int RingLane::MakeBufferTable(uint32_t size) {
  const int result = ring_->MakeBufferTable(size);
  has_buffer_table_ = result == 0;
  return result;
}

void RingLane::SetFile(int id, int fd) {
  const size_t index = static_cast<size_t>(id);
  if (file_is_fixed_.size() <= index) file_is_fixed_.resize(index + 1);
  file_is_fixed_[index] = has_file_table_ && ring_->SetFile(static_cast<uint32_t>(id), fd) == 0;
}

void RingLane::ClearFile(int id) {
  if (file_is_fixed_[static_cast<size_t>(id)]) ring_->SetFile(static_cast<uint32_t>(id), -1);
}

std::optional<uint32_t> RingLane::Prepare(const IoOp& op, const IoFiles::File& file,
                                          const FixedMemory& memory, uint64_t name) {
  const absl::Span<const iovec> rest = IoTransfer::Rest(op);
  const bool is_fixed_file = file_is_fixed_[static_cast<size_t>(op.file)];
  return ring_->Prepare(
      {.kind = op.kind,
       .fd = is_fixed_file ? op.file : file.fd,
       .is_fixed_file = is_fixed_file,
       .fixed_buffer = has_buffer_table_ && rest.size() == 1 ? memory.Find(rest[0]) : -1,
       .offset = IoTransfer::RestOffset(op),
       .pieces = rest,
       .name = name});
}

bool RingLane::HasTaken(uint32_t sequence) {
  // Sequence numbers wrap: what counts is their distance.
  return static_cast<int32_t>(sequence - ring_->taken()) < 0;
}

}  // namespace cairn
