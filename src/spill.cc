#include "src/spill.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/checksum.h"
#include "io/pack.h"
#include "src/base/check.h"
#include "src/base/mutex.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

static_assert(kPackBytesMax <= IoOp::kBytesMax);

// From here on a record's header is a request of its own, so that the payload need not wait for its
// sums: a MiB takes the device about 300 us and summing it 40. Below it one request is cheaper.
constexpr uint64_t kHeaderApartBytesMin = uint64_t{512} << 10;

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

}  // namespace

// Payloads and what describes them, a record's header or a pack's table, in requests to the device.
class Spill {
 public:
  // `pack` is null for a record.
  Spill(const SpillContext& context, PackExtent* pack, uint64_t description_bytes, size_t members,
        size_t parts)
      : context_(context),
        pack_(pack),
        description_bytes_(description_bytes),
        description_(NewBlock(description_bytes)),
        members_count_(members),
        members_(std::make_unique<Member[]>(members)),
        parts_count_(parts),
        parts_(std::make_unique<Part[]>(parts)) {}

  void Join(size_t number, const SpillTensor& tensor) {
    Member& member = members_[number];
    member.spill = this;
    member.entry = tensor.entry;
    member.list = tensor.list;
    member.flush = tensor.flush;
    rewrite_of_ = tensor.rewrite_of;
    rewritten_ = tensor.rewritten;
  }

  void BeginPart(size_t number, uint64_t l3_offset) {
    Part& part = parts_[number];
    part.spill = this;
    part.kind = IoOp::Kind::kWrite;
    part.priority = IoPriority::kWrite;
    part.l3_offset = l3_offset;
  }
  void AppendDescription() { AppendBlocks(parts_[0], description_.get(), description_bytes_); }

  // The device takes whole blocks: an odd tail is copied into one of zeros.
  void Append(size_t number, const std::byte* data, uint64_t bytes) {
    Part& part = parts_[number];
    const uint64_t whole = bytes / kBlockBytes * kBlockBytes;
    // iovec is of reads and writes alike; a write leaves the bytes alone.
    if (whole > 0) AppendBlocks(part, const_cast<std::byte*>(data), whole);
    if (whole == bytes) return;
    tails_.push_back(NewBlock(kBlockBytes));
    std::memcpy(tails_.back().get(), data + whole, bytes - whole);
    AppendBlocks(part, tails_.back().get(), kBlockBytes);
  }

  // Everything but part 0, which has the description.
  void StartPayload(IoBatch& batch) {
    StatsRecorder::Add(context_.stats->spills, members_count_);
    members_left_.store(static_cast<uint32_t>(members_count_), std::memory_order_relaxed);
    // Released by Submit to the engine's threads.
    parts_left_.store(static_cast<uint32_t>(parts_count_), std::memory_order_relaxed);
    Issue(parts().subspan(1), batch);
  }
  // `chunk_sums` are of a record, `written` is of a pack.
  void StartDescription(std::vector<uint64_t> chunk_sums, absl::AnyInvocable<void()> written,
                        IoBatch& batch) {
    chunk_sums_ = std::move(chunk_sums);
    written_ = std::move(written);
    Describe();
    Issue(parts().first(1), batch);
  }

 private:
  struct Part final : IoOp {
    Spill* spill = nullptr;
    uint64_t l3_offset = 0;
    bool needed() const override {
      if (spill->pack_ != nullptr) return true;
      const HotPart* const hot = spill->members_[0].entry->hot();
      return !hot->abandoned.load(std::memory_order_relaxed);
    }
    void OnDone(absl::Status status) override {
      if (!absl::IsCancelled(status)) spill->context_.l3->Ended(l3_offset, status, service_us());
      spill->OnPart(std::move(status));
    }
  };
  struct Member final : IndexChange {
    Spill* spill = nullptr;
    Entry* entry = nullptr;
    bool list = false;
    void OnCommitted(absl::Status status) override {
      if (status.ok()) StatsRecorder::Add(spill->context_.stats->bytes_written_l3, entry->bytes());
      spill->Finish(*this, status);
    }
  };

  // Blocks that follow the last in memory too make one piece with it.
  static void AppendBlocks(Part& part, std::byte* data, uint64_t bytes) {
    if (!part.pieces.empty()) {
      iovec& last = part.pieces.back();
      if (static_cast<std::byte*>(last.iov_base) + last.iov_len == data) {
        last.iov_len += bytes;
        return;
      }
    }
    part.pieces.push_back({data, bytes});
  }

  absl::Span<Member> members() { return absl::MakeSpan(members_.get(), members_count_); }
  absl::Span<Part> parts() { return absl::MakeSpan(parts_.get(), parts_count_); }

  // Both kinds of description say where on L3 they are.
  void Describe() {
    const absl::Span<std::byte> target = {description_.get(), description_bytes_};
    const Entry& first = *members_[0].entry;
    if (pack_ == nullptr) {
      EncodeRecordHeader({.store_uuid = context_.store_uuid,
                          .fingerprint = context_.fingerprint,
                          .fingerprint_id = first.fingerprint_id(),
                          .key = std::string(first.key()),
                          .record = first.Record(),
                          .chunk_sums = chunk_sums_},
                         target);
      return;
    }
    PackTable table = {.store_uuid = context_.store_uuid,
                       .fingerprint = context_.fingerprint,
                       .fingerprint_id = first.fingerprint_id(),
                       .offset = pack_->table.offset,
                       .table_bytes = static_cast<uint32_t>(description_bytes_),
                       .members = {}};
    table.members.reserve(members_count_);
    for (const Member& member : members()) {
      const Entry& entry = *member.entry;
      table.members.push_back({{entry.fingerprint_id(), entry.key()}, entry.Record()});
    }
    EncodePackTable(table, target);
  }

  void Issue(absl::Span<Part> parts, IoBatch& batch) {
    for (Part& part : parts) {
      context_.l3->Locate(part.l3_offset, &part);
      batch.push_back(&part);
    }
  }

  // All that is being written, in order and without a gap.
  std::vector<Extent> Extents() {
    std::vector<Extent> extents;
    extents.reserve(members_count_ + 1);
    for (const Member& member : members()) extents.push_back(member.entry->l3_extent());
    if (pack_ != nullptr) extents.push_back(pack_->table);
    return extents;
  }

  // Takes another place and gives this one back. False when none is free now: nobody may be waited
  // for on a thread of the engine.
  bool MoveElsewhere() {
    const std::vector<Extent> extents = Extents();
    std::vector<uint64_t> sizes;
    sizes.reserve(extents.size());
    for (const Extent& extent : extents) sizes.push_back(extent.bytes);
    const uint64_t bytes = std::accumulate(sizes.begin(), sizes.end(), uint64_t{0});
    NvmeTier& l3 = *context_.l3;
    // Where a drive of several fails, it may fail everywhere on it.
    const absl::StatusOr<Extent> run = l3.ReserveElsewhere(bytes, extents.front().offset);
    if (!run.ok()) return false;
    l3.Split(*run, sizes);
    const uint64_t shift = run->offset - extents.front().offset;  // Modulo 2^64.
    for (Member& member : members()) {
      Extent extent = member.entry->TakeL3Extent();
      extent.offset += shift;
      member.entry->set_l3_extent(extent);
    }
    if (pack_ != nullptr) pack_->table.offset += shift;
    for (Part& part : parts()) part.l3_offset += shift;
    for (const Extent& extent : extents) l3.Release(extent);
    moved_ = true;
    return true;
  }

  // Whether the writes that failed are under way again.
  bool TryAgain(const absl::Status& status) {
    StatsRecorder::Add(context_.stats->write_errors);
    // No space, or a request that the engine does not take: no place is better.
    if (!absl::IsUnavailable(status)) return false;
    for (const Extent& extent : Extents()) context_.l3->Distrust(extent);
    if (moved_ || !MoveElsewhere()) return false;
    StatsRecorder::Add(context_.stats->write_retries);
    IoBatch batch;
    Describe();
    parts_left_.store(static_cast<uint32_t>(parts_count_), std::memory_order_relaxed);
    Issue(parts(), batch);
    context_.l3->io().Submit(batch);
    return true;
  }

  void OnPart(absl::Status status) {
    if (!status.ok()) {
      MutexLock lock(mutex_);
      if (status_.ok()) status_ = std::move(status);
    }
    if (parts_left_.fetch_sub(1, std::memory_order_acq_rel) == 1) OnLastPart();
  }

  void OnLastPart() {
    absl::Status status;
    {
      MutexLock lock(mutex_);
      status = std::exchange(status_, absl::OkStatus());
    }
    if (absl::IsCancelled(status)) return Abandon();
    if (!status.ok() && TryAgain(status)) return;
    if (rewrite_of_ != nullptr) return OnRewriteWritten(status);
    // With the last member this is gone: nothing of it is used after the loop.
    absl::AnyInvocable<void()> written = std::move(written_);
    const char* const where = moved_ ? " in two places: " : ": ";
    Member* const end = members_.get() + members_count_;
    for (Member* member = members_.get(); member != end; ++member) {
      if (!status.ok()) {
        Finish(*member,
               absl::Status(status.code(),
                            absl::StrCat("tensor ", PrintableKey(member->entry->key()),
                                         " could not be written to L3", where, status.message())));
      } else {
        context_.directory->BeginCommit(member->entry, member, member->list);
      }
    }
    if (written) written();
  }

  void OnRewriteWritten(const absl::Status& status) {
    Member& member = members_[0];
    const bool committing =
        status.ok() && context_.directory->CommitRewrite(member.entry, rewrite_of_, &member);
    if (!committing) EndRewrite(absl::CancelledError());
  }
  void EndRewrite(const absl::Status& status) {
    const SpillContext& context = context_;
    Entry* const entry = members_[0].entry;
    Entry* const rewrite_of = rewrite_of_;
    const uint64_t sequence = entry->sequence();
    const std::function<void(bool)> rewritten = std::move(rewritten_);
    delete this;
    const bool moved = context.directory->EndRewrite(entry, rewrite_of, status);
    context.tracker->End(sequence);
    rewritten(moved);
  }

  // L3 let the tensor go before all of it was written: no failure, and nothing for the index.
  void Abandon() {
    CAIRN_CHECK(members_count_ == 1 && pack_ == nullptr);
    const SpillContext& context = context_;
    Entry* const entry = members_[0].entry;
    const uint64_t sequence = entry->sequence();
    delete this;
    context.directory->EndSpill(entry, absl::OkStatus());
    context.tracker->End(sequence);
  }

  // On any thread; the last member takes the spill with it.
  void Finish(const Member& member, const absl::Status& status) {
    if (rewrite_of_ != nullptr) return EndRewrite(status);
    if (!status.ok()) StatsRecorder::Add(context_.stats->spill_failures);
    const SpillContext& context = context_;
    Entry* const entry = member.entry;
    const uint64_t sequence = entry->sequence();
    if (members_left_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    context.tracker->Note(status);
    // Before End, so that a Flush that saw it end finds the directory so.
    context.directory->EndSpill(entry, status);
    context.tracker->End(sequence);
  }

  const SpillContext& context_;  // The store's own.
  PackExtent* const pack_;
  std::vector<uint64_t> chunk_sums_;
  const uint64_t description_bytes_;
  const Block description_;
  std::vector<Block> tails_;
  const size_t members_count_;
  const std::unique_ptr<Member[]> members_;
  const size_t parts_count_;
  const std::unique_ptr<Part[]> parts_;
  absl::AnyInvocable<void()> written_;
  Entry* rewrite_of_ = nullptr;  // As in SpillTensor, of a record.
  std::function<void(bool moved)> rewritten_;
  std::atomic<uint32_t> parts_left_ = 0;
  std::atomic<uint32_t> members_left_ = 0;
  bool moved_ = false;  // Changed only while no part is in flight.

  Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  // The first failure.
};

namespace {

// Cuts a payload into requests of 1 MiB, from part `first_part` on.
void AppendPayload(Spill& spill, const Entry& entry, absl::Span<const ConstPiece> pieces,
                   size_t first_part) {
  const uint64_t payload_offset = entry.l3_extent().offset + entry.header_bytes();
  size_t piece = 0;
  uint64_t piece_offset = 0;
  for (uint64_t i = 0; i < ChecksumChunkCount(entry.bytes()); ++i) {
    const size_t part = first_part + i;
    const uint64_t start = i * kChecksumChunkBytes;
    if (part > 0) spill.BeginPart(part, payload_offset + start);
    uint64_t left = std::min(kChecksumChunkBytes, entry.bytes() - start);
    while (left > 0) {
      CAIRN_CHECK(piece < pieces.size());
      const uint64_t take = std::min(left, pieces[piece].size - piece_offset);
      spill.Append(part, pieces[piece].data + piece_offset, take);
      left -= take;
      piece_offset += take;
      if (piece_offset == pieces[piece].size) {
        ++piece;
        piece_offset = 0;
      }
    }
  }
}

}  // namespace

Spill* StartSpill(const SpillContext& context, const SpillTensor& tensor, IoBatch& batch) {
  const Entry& entry = *tensor.entry;
  const size_t header_parts = entry.bytes() >= kHeaderApartBytesMin ? 1 : 0;
  auto* spill = new Spill(context, /*pack=*/nullptr, entry.header_bytes(), /*members=*/1,
                          header_parts + ChecksumChunkCount(entry.bytes()));
  spill->BeginPart(0, entry.l3_extent().offset);
  spill->AppendDescription();
  AppendPayload(*spill, entry, tensor.pieces, header_parts);
  spill->Join(0, tensor);
  context.tracker->Begin(entry.sequence());
  spill->StartPayload(batch);
  return spill;
}

void FinishSpill(Spill* spill, std::vector<uint64_t> chunk_sums, IoBatch& batch) {
  spill->StartDescription(std::move(chunk_sums), /*written=*/nullptr, batch);
}

void StartPackSpill(const SpillContext& context, PackExtent* pack, std::vector<SpillTensor> tensors,
                    absl::AnyInvocable<void()> written, IoBatch& batch) {
  auto* spill = new Spill(context, pack, pack->table.bytes, tensors.size(), /*parts=*/1);
  spill->BeginPart(0, tensors.front().entry->l3_extent().offset);
  for (size_t i = 0; i < tensors.size(); ++i) {
    for (const ConstPiece& piece : tensors[i].pieces) spill->Append(0, piece.data, piece.size);
    spill->Join(i, tensors[i]);
  }
  spill->AppendDescription();
  spill->StartPayload(batch);
  spill->StartDescription(/*chunk_sums=*/{}, std::move(written), batch);
}

}  // namespace cairn
