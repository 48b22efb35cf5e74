#include "src/spill.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/checksum.h"
#include "src/base/check.h"
#include "src/base/mutex.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

struct FreeBlock {
  void operator()(std::byte* block) const { std::free(block); }
};
using Block = std::unique_ptr<std::byte, FreeBlock>;

Block NewBlock(uint64_t bytes) {
  void* memory = std::aligned_alloc(kBlockBytes, bytes);
  CAIRN_CHECK(memory != nullptr);
  std::memset(memory, 0, bytes);
  return Block(static_cast<std::byte*>(memory));
}

class Spill final : public IndexChange {
 public:
  Spill(const SpillContext& context, SpillRequest request)
      : context_(context),
        entry_(request.entry),
        list_(request.list),
        header_(NewBlock(entry_->header_bytes)),
        parts_count_(ChecksumChunkCount(entry_->bytes)),
        parts_(std::make_unique<Part[]>(parts_count_)) {
    flush = request.flush;
    EncodeRecordHeader({.store_uuid = context.store_uuid,
                        .fingerprint = context.fingerprint,
                        .fingerprint_id = entry_->fingerprint_id,
                        .key = entry_->key,
                        .record = entry_->Record(),
                        .chunk_sums = std::move(request.chunk_sums)},
                       {header_.get(), entry_->header_bytes});
    Locate(request.pieces);
  }

  void Start(IoBatch& batch) {
    context_.tracker->Begin(entry_->sequence);
    StatsRecorder::Add(context_.stats->spills);
    left_.store(static_cast<uint32_t>(parts_count_), std::memory_order_relaxed);
    for (Part& part : absl::MakeSpan(parts_.get(), parts_count_)) batch.push_back(&part);
  }

  void OnCommitted(absl::Status status) override {
    if (status.ok()) StatsRecorder::Add(context_.stats->bytes_written_l3, entry_->bytes);
    Finish(std::move(status));
  }

 private:
  struct Part final : IoOp {
    Spill* spill = nullptr;
    void OnDone(absl::Status status) override { spill->OnPart(std::move(status)); }
  };

  // Cuts header and payload into requests of 1 MiB of payload; the first carries the header too.
  void Locate(absl::Span<const ConstPiece> pieces) {
    size_t piece = 0;
    uint64_t piece_offset = 0;
    for (uint64_t i = 0; i < parts_count_; ++i) {
      Part& part = parts_[i];
      part.spill = this;
      part.kind = IoOp::Kind::kWrite;
      part.priority = IoPriority::kWrite;
      const uint64_t start = i * kChecksumChunkBytes;
      if (i == 0) part.pieces.push_back({header_.get(), entry_->header_bytes});
      context_.l3->Locate(entry_->l3_extent.offset + (i == 0 ? 0 : entry_->header_bytes + start),
                          &part);
      uint64_t left = std::min(kChecksumChunkBytes, entry_->bytes - start);
      while (left > 0) {
        CAIRN_CHECK(piece < pieces.size());
        const std::byte* data = pieces[piece].data + piece_offset;
        const uint64_t take = std::min(left, pieces[piece].size - piece_offset);
        Append(part, data, take);
        left -= take;
        piece_offset += take;
        if (piece_offset == pieces[piece].size) {
          ++piece;
          piece_offset = 0;
        }
      }
    }
  }

  // The device takes whole blocks: an odd tail is copied into one of zeros.
  void Append(Part& part, const std::byte* data, uint64_t bytes) {
    const uint64_t whole = bytes / kBlockBytes * kBlockBytes;
    // iovec is of reads and writes alike; a write leaves the bytes alone.
    if (whole > 0) part.pieces.push_back({const_cast<std::byte*>(data), whole});
    if (whole == bytes) return;
    CAIRN_CHECK(tail_ == nullptr);
    tail_ = NewBlock(kBlockBytes);
    std::memcpy(tail_.get(), data + whole, bytes - whole);
    part.pieces.push_back({tail_.get(), kBlockBytes});
  }

  void OnPart(absl::Status status) {
    if (!status.ok()) {
      MutexLock lock(mutex_);
      if (status_.ok()) status_ = std::move(status);
    }
    if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) OnLastPart();
  }

  void OnLastPart() {
    absl::Status status;
    {
      MutexLock lock(mutex_);
      status = std::move(status_);
    }
    if (!status.ok()) {
      StatsRecorder::Add(context_.stats->write_errors);
      Finish(absl::Status(status.code(),
                          absl::StrCat("tensor ", PrintableKey(entry_->key),
                                       " could not be written to L3: ", status.message())));
      return;
    }
    // Nothing of this is used after BeginCommit: the index writer may be done with it already.
    if (!context_.directory->BeginCommit(entry_, this, list_)) Finish(absl::OkStatus());
  }

  void Finish(absl::Status status) {
    if (!status.ok()) StatsRecorder::Add(context_.stats->spill_failures);
    const SpillContext& context = context_;
    const uint64_t sequence = entry_->sequence;
    Entry* const entry = entry_;
    delete this;
    context.tracker->Note(status);
    // Before End, so that a Flush that saw it end finds the directory so.
    context.directory->EndSpill(entry, status);
    context.tracker->End(sequence);
  }

  const SpillContext& context_;  // The store's own.
  Entry* const entry_;
  const bool list_;
  const Block header_;
  Block tail_;
  const uint64_t parts_count_;
  const std::unique_ptr<Part[]> parts_;
  std::atomic<uint32_t> left_ = 0;

  Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  // The first failure.
};

}  // namespace

void StartSpill(const SpillContext& context, SpillRequest request, IoBatch& batch) {
  (new Spill(context, std::move(request)))->Start(batch);
}

}  // namespace cairn
