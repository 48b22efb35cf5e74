#include "io/io_result.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdint>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

constexpr uint64_t kDirectBytes = 4096;  // Alignment of direct I/O, whatever the device's own.
constexpr int64_t kRetryDelayUsMin = 100;
constexpr int64_t kRetryDelayUsMax = 50'000;

const char* KindName(IoOp::Kind kind) {
  switch (kind) {
    case IoOp::Kind::kRead:
      return "read";
    case IoOp::Kind::kWrite:
      return "write";
    case IoOp::Kind::kSync:
      return "sync";
  }
  return "request of an unknown kind";
}

std::string Describe(const IoOp& op) {
  if (op.kind == IoOp::Kind::kSync) return absl::StrCat("sync of file ", op.file);
  return absl::StrCat(KindName(op.kind), " of file ", op.file, " at offset ", op.offset, ", ",
                      op.byte_count(), " bytes");
}

absl::Status Invalid(const IoOp& op, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(Describe(op), ": ", what));
}

// What the device or the file system says of damaged data, as opposed to a refused request.
bool IsMediumError(int error) {
  return error == EIO || error == ENODATA || error == EILSEQ || error == EBADMSG ||
         error == EUCLEAN || error == EREMOTEIO;
}

bool IsTransient(int error) {
  return error == EAGAIN || error == EINTR || error == EBUSY || error == ENOMEM;
}

absl::Status OpErrnoStatus(const IoOp& op, int error) {
  const std::string message = absl::StrCat(
      Describe(op), ": ", std::system_category().message(error), " (errno ", error, ")");
  if (error == ENOSPC || error == EDQUOT) return absl::ResourceExhaustedError(message);
  if (op.kind == IoOp::Kind::kRead && IsMediumError(error)) return absl::DataLossError(message);
  return absl::UnavailableError(message);
}

bool IsAligned(const iovec& piece) {
  return reinterpret_cast<uintptr_t>(piece.iov_base) % kDirectBytes == 0 &&
         piece.iov_len % kDirectBytes == 0;
}

}  // namespace

int64_t SteadyNowUs() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void IoTransfer::Begin(IoOp& op, uint8_t epoch) {
  op.bytes_total_ = op.byte_count();
  op.bytes_done_ = 0;
  op.bytes_seen_ = 0;
  op.retry_until_us_ = 0;
  op.epoch_ = epoch;
  op.refused_ = false;
  op.rest_.clear();
}

absl::Status IoTransfer::Check(const IoOp& op, const IoFiles::File* file) {
  if (op.refused_) {
    return absl::UnavailableError(absl::StrCat(Describe(op), ": the I/O engine is closing"));
  }
  if (!op.needed()) return absl::CancelledError(absl::StrCat(Describe(op), ": not needed"));
  if (file == nullptr) return Invalid(op, "no such file id");
  if (op.kind == IoOp::Kind::kSync) {
    return op.pieces.empty() ? absl::OkStatus() : Invalid(op, "a sync has no pieces");
  }
  if (op.bytes_total_ == 0) return Invalid(op, "nothing to transfer");
  if (op.bytes_total_ > IoOp::kBytesMax) {
    return Invalid(op, absl::StrCat("over ", IoOp::kBytesMax, " bytes, the most of one op"));
  }
  if (op.pieces.size() > IOV_MAX) {
    return Invalid(op, absl::StrCat(op.pieces.size(), " pieces, over ", IOV_MAX));
  }
  if (op.offset > uint64_t{std::numeric_limits<int64_t>::max()} - op.bytes_total_) {
    return Invalid(op, "beyond what a file can hold");
  }
  if (file->direct && (op.offset % kDirectBytes != 0 ||
                       !std::all_of(op.pieces.begin(), op.pieces.end(), IsAligned))) {
    return Invalid(op, "not in whole 4096-byte blocks, which a direct file needs");
  }
  return absl::OkStatus();
}

absl::Span<const iovec> IoTransfer::Rest(const IoOp& op) {
  return op.bytes_done_ == 0 ? absl::MakeConstSpan(op.pieces) : absl::MakeConstSpan(op.rest_);
}

uint64_t IoTransfer::RestOffset(const IoOp& op) { return op.offset + op.bytes_done_; }

IoTransfer::Verdict IoTransfer::Apply(IoOp& op, const IoFiles::File& file, int64_t result,
                                      int64_t now_us) {
  if (result < 0) return ApplyError(op, static_cast<int>(-result), now_us);
  const uint64_t end = op.bytes_done_ + static_cast<uint64_t>(result);
  if (end > op.bytes_total_) {
    return {.status = absl::UnavailableError(
                absl::StrCat(Describe(op), ": the kernel reported ", end, " bytes"))};
  }
  if (end == op.bytes_total_) {
    op.bytes_done_ = end;
    return {};
  }
  // An attempt that comes no further than an earlier one met the end. One alone does not tell: a
  // short count of a direct file is cut to whole blocks and may become 0.
  if (end <= op.bytes_seen_) {
    if (op.kind == IoOp::Kind::kRead) {
      return {.status = absl::DataLossError(absl::StrCat(Describe(op), ": the file ends at ",
                                                         end == 0 ? "or before offset " : "offset ",
                                                         op.offset + end))};
    }
    return {.status = absl::UnavailableError(
                absl::StrCat(Describe(op), ": no progress after ", end, " bytes"))};
  }
  op.bytes_seen_ = end;
  op.bytes_done_ = file.direct ? end - end % kDirectBytes : end;
  op.retry_until_us_ = 0;

  uint64_t skip = op.bytes_done_;
  op.rest_.clear();
  for (const iovec& piece : op.pieces) {
    const uint64_t skipped = std::min<uint64_t>(skip, piece.iov_len);
    skip -= skipped;
    if (skipped == piece.iov_len) continue;
    op.rest_.push_back({.iov_base = static_cast<std::byte*>(piece.iov_base) + skipped,
                        .iov_len = piece.iov_len - skipped});
  }
  return {.next = Next::kContinue};
}

IoTransfer::Verdict IoTransfer::ApplyError(IoOp& op, int error, int64_t now_us) {
  if (!IsTransient(error)) return {.status = OpErrnoStatus(op, error)};
  if (op.retry_until_us_ == 0) op.retry_until_us_ = now_us + kRetryUsMax;
  if (now_us >= op.retry_until_us_) return {.status = OpErrnoStatus(op, error)};
  // As long again as this has been going on: doubles from one retry to the next.
  const int64_t elapsed_us = now_us - (op.retry_until_us_ - kRetryUsMax);
  return {.next = Next::kRetry,
          .delay_us = std::clamp(elapsed_us, kRetryDelayUsMin, kRetryDelayUsMax)};
}

void IoCounters::CountDone(IoOp::Kind kind, uint64_t bytes) {
  switch (kind) {
    case IoOp::Kind::kRead:
      reads_.fetch_add(1, std::memory_order_relaxed);
      bytes_read_.fetch_add(bytes, std::memory_order_relaxed);
      break;
    case IoOp::Kind::kWrite:
      writes_.fetch_add(1, std::memory_order_relaxed);
      bytes_written_.fetch_add(bytes, std::memory_order_relaxed);
      break;
    case IoOp::Kind::kSync:
      syncs_.fetch_add(1, std::memory_order_relaxed);
      break;
  }
}

IoStats IoCounters::Read() const {
  return {.reads = reads_.load(std::memory_order_relaxed),
          .writes = writes_.load(std::memory_order_relaxed),
          .syncs = syncs_.load(std::memory_order_relaxed),
          .bytes_read = bytes_read_.load(std::memory_order_relaxed),
          .bytes_written = bytes_written_.load(std::memory_order_relaxed),
          .retries = retries_.load(std::memory_order_relaxed),
          .unknown_completions = unknown_completions_.load(std::memory_order_relaxed),
          .polling_refusals = polling_refusals_.load(std::memory_order_relaxed)};
}

}  // namespace cairn
