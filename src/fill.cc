#include "src/fill.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "absl/container/fixed_array.h"
#include "absl/strings/str_cat.h"
#include "io/checksum.h"
#include "src/base/check.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

constexpr int kReadsMax = 2;

class Fill final : public RaisableFill {
 public:
  // `done` empty: the target is L2.
  Fill(const FillContext& context, Entry* entry, IoPriority priority, DirectReadDone done)
      : context_(context),
        entry_(entry),
        seed_(ChecksumSeed(entry->hash(), entry->sequence())),
        priority_(priority),
        done_(std::move(done)),
        sums_(ChecksumChunkCount(entry->bytes())),
        chunks_(sums_.size()) {}

  void Start(absl::Span<const Piece> target, IoBatch& batch) {
    Locate(target);
    Issue(batch);
  }
  // Of a prefetch. Before the reads are submitted, or after.
  void Raise() override {
    for (Chunk& chunk : chunks_) chunk.Raise();
  }

 private:
  struct Chunk final : IoOp {
    Fill* fill = nullptr;
    uint32_t number = 0;
    uint64_t payload_bytes = 0;
    void OnDone(absl::Status status) override { fill->OnChunk(*this, std::move(status)); }
  };

  // Cuts the target into chunks of the checksum, each one request.
  void Locate(absl::Span<const Piece> target) {
    size_t piece = 0;
    uint64_t piece_offset = 0;
    for (uint32_t i = 0; i < sums_.size(); ++i) {
      Chunk& chunk = chunks_[i];
      const uint64_t start = i * kChecksumChunkBytes;
      chunk.fill = this;
      chunk.number = i;
      chunk.payload_bytes = std::min(kChecksumChunkBytes, entry_->bytes() - start);
      uint64_t wanted = RoundUpToBlock(chunk.payload_bytes);
      while (wanted > 0) {
        CAIRN_CHECK(piece < target.size());
        const uint64_t take = std::min(wanted, target[piece].size - piece_offset);
        chunk.pieces.push_back({target[piece].data + piece_offset, take});
        wanted -= take;
        piece_offset += take;
        if (piece_offset == target[piece].size) {
          ++piece;
          piece_offset = 0;
        }
      }
    }
  }

  void Issue(IoBatch& batch) {
    ++reads_;
    // Released by Submit to the engine's threads.
    left_.store(static_cast<uint32_t>(sums_.size()), std::memory_order_relaxed);
    const uint64_t payload = entry_->l3_payload_offset();
    uint64_t bytes = 0;
    for (Chunk& chunk : chunks_) {
      bytes += chunk.byte_count();
      chunk.kind = IoOp::Kind::kRead;
      chunk.priority = priority_;
      context_.l3->Locate(payload + chunk.number * kChecksumChunkBytes, &chunk);
      batch.push_back(&chunk);
    }
    context_.l3->reads().Begin(bytes, SteadyNow());
  }

  void OnChunk(Chunk& chunk, absl::Status status) {
    context_.l3->Ended(entry_->l3_payload_offset(), status, chunk.service_us());
    context_.l3->reads().End(
        {.bytes = chunk.byte_count(), .ok = status.ok(), .service_us = chunk.service_us()},
        SteadyNow());
    if (status.ok()) {
      sums_[chunk.number] = SumOf(chunk);
    } else {
      MutexLock lock(mutex_);
      if (status_.ok()) status_ = std::move(status);
    }
    // Acquire-release: the last one sees the sums of all.
    if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) OnLastChunk();
  }

  uint64_t SumOf(const Chunk& chunk) const {
    if (chunk.pieces.size() == 1) {
      return ChunkChecksum(seed_, chunk.pieces[0].iov_base, chunk.payload_bytes);
    }
    ChunkHasher hasher;
    hasher.Reset(seed_);
    uint64_t left = chunk.payload_bytes;
    for (const iovec& piece : chunk.pieces) {
      const uint64_t bytes = std::min<uint64_t>(left, piece.iov_len);
      hasher.Update(piece.iov_base, bytes);
      left -= bytes;
    }
    return hasher.Finish();
  }

  void OnLastChunk() {
    absl::Status status;
    {
      MutexLock lock(mutex_);
      status = std::exchange(status_, absl::OkStatus());
    }
    const bool read = status.ok();
    if (read && TensorChecksum(seed_, sums_) != entry_->checksum) {
      status = absl::DataLossError(absl::StrCat(
          "tensor ", PrintableKey(entry_->key()), ": ", entry_->bytes(), " bytes at L3 offset ",
          entry_->l3_extent().offset, " do not match their checksum"));
    }
    if (absl::IsDataLoss(status) && reads_ < kReadsMax) {
      IoBatch batch;
      Issue(batch);
      context_.l3->io().Submit(batch);
      return;
    }
    if (!status.ok()) {
      StatsRecorder::Add(read ? context_.stats->checksum_failures : context_.stats->read_errors);
      if (!read) status = Named(status);
    } else {
      StatsRecorder::Add(context_.stats->bytes_read_l3, entry_->bytes());
    }
    Finish(std::move(status));
  }

  absl::Status Named(const absl::Status& status) const {
    return {status.code(), absl::StrCat("tensor ", PrintableKey(entry_->key()),
                                        " could not be read: ", status.message())};
  }

  void Finish(absl::Status status) {
    const FillContext context = context_;
    Entry* const entry = entry_;
    const bool asked = priority_ != IoPriority::kBackground;
    if (DirectReadDone done = std::move(done_)) {
      delete this;
      if (asked && absl::IsDataLoss(status)) context.directory->Quarantine(entry);
      done(std::move(status));
      return;
    }
    StatsRecorder::Add(context.stats->fills);
    // Until then it may be raised.
    context.directory->EndFill(entry, status);
    delete this;
  }

  const FillContext context_;
  Entry* const entry_;
  const uint64_t seed_;
  const IoPriority priority_;
  DirectReadDone done_;
  // Each written by its chunk's completion. What fits one chunk, most tensors, allocates nothing.
  absl::FixedArray<uint64_t, 1> sums_;
  absl::FixedArray<Chunk, 1> chunks_;
  int reads_ = 0;  // Changed only while no chunk is in flight.
  std::atomic<uint32_t> left_ = 0;

  Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  // The first failure of this reading.
};

}  // namespace

void StartFill(const FillContext& context, Entry* entry, std::byte* target, IoPriority priority,
               IoBatch& batch) {
  const Piece piece = {target, entry->hot()->l2_extent.bytes};
  (new Fill(context, entry, priority, nullptr))->Start({&piece, 1}, batch);
}

void StartPrefetch(const FillContext& context, Entry* entry, std::byte* target, IoPriority priority,
                   IoBatch& batch) {
  const Piece piece = {target, entry->hot()->l2_extent.bytes};
  Fill* const fill = new Fill(context, entry, priority, nullptr);
  if (context.directory->SetRaisable(entry, fill)) fill->Raise();
  fill->Start({&piece, 1}, batch);
}

void StartDirectRead(const FillContext& context, Entry* entry, absl::Span<const Piece> pieces,
                     DirectReadDone done, IoBatch& batch) {
  CAIRN_CHECK(entry->bytes() % kBlockBytes == 0);
  (new Fill(context, entry, IoPriority::kDemandRead, std::move(done)))->Start(pieces, batch);
}

void StartReadToMove(const FillContext& context, Entry* entry, Piece target, DirectReadDone done,
                     IoBatch& batch) {
  (new Fill(context, entry, IoPriority::kBackground, std::move(done)))->Start({&target, 1}, batch);
}

absl::Status StartLift(const FillContext& context, L1Copy* l1) {
  const Entry* const entry = l1->entry;
  Gpu* const gpu = l1->gpu;
  absl::StatusOr<std::shared_ptr<DeviceEvent>> copied = gpu->l1->StartCopyUp(
      l1->extent, {context.l2->Address(entry->hot()->l2_extent), entry->bytes()});
  StatsRecorder::Add(context.stats->lifts);
  if (!copied.ok()) {
    const absl::Status status(
        copied.status().code(),
        absl::StrCat("tensor ", PrintableKey(entry->key()),
                     " could not be copied to L1: ", copied.status().message()));
    StatsRecorder::Add(context.stats->lift_failures);
    context.directory->EndLift(l1, status);
    return status;
  }
  context.directory->LiftStarted(l1);
  gpu->l1->WhenCopied(*std::move(copied), [context, l1](absl::Status status) {
    StatsRecorder::Add(status.ok() ? l1->gpu->stats.bytes_written : context.stats->lift_failures,
                       status.ok() ? l1->entry->bytes() : 1);
    context.directory->EndLift(l1, status);
  });
  return absl::OkStatus();
}

}  // namespace cairn
