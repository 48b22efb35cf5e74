#include "src/spill.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
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

// Payloads and what describes them, a record's header or a pack's table, in requests to the device.
class Spill {
 public:
  Spill(const SpillContext& context, uint64_t description_bytes, size_t members, size_t parts)
      : context_(context),
        description_bytes_(description_bytes),
        description_(NewBlock(description_bytes)),
        members_count_(members),
        members_(std::make_unique<Member[]>(members)),
        parts_count_(parts),
        parts_(std::make_unique<Part[]>(parts)) {}

  absl::Span<std::byte> description() { return {description_.get(), description_bytes_}; }

  void Join(size_t number, const SpillTensor& tensor) {
    Member& member = members_[number];
    member.spill = this;
    member.entry = tensor.entry;
    member.list = tensor.list;
    member.flush = tensor.flush;
  }

  void BeginPart(size_t number, uint64_t l3_offset) {
    Part& part = parts_[number];
    part.spill = this;
    part.kind = IoOp::Kind::kWrite;
    part.priority = IoPriority::kWrite;
    context_.l3->Locate(l3_offset, &part);
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

  void Start(absl::AnyInvocable<void()> written, IoBatch& batch) {
    written_ = std::move(written);
    StatsRecorder::Add(context_.stats->spills, members_count_);
    parts_left_.store(static_cast<uint32_t>(parts_count_), std::memory_order_relaxed);
    members_left_.store(static_cast<uint32_t>(members_count_), std::memory_order_relaxed);
    for (Part& part : absl::MakeSpan(parts_.get(), parts_count_)) batch.push_back(&part);
  }

 private:
  struct Part final : IoOp {
    Spill* spill = nullptr;
    void OnDone(absl::Status status) override { spill->OnPart(std::move(status)); }
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
      status = std::move(status_);
    }
    // With the last member this is gone: nothing of it is used after the loop.
    absl::AnyInvocable<void()> written = std::move(written_);
    if (!status.ok()) StatsRecorder::Add(context_.stats->write_errors);
    Member* const end = members_.get() + members_count_;
    for (Member* member = members_.get(); member != end; ++member) {
      if (!status.ok()) {
        Finish(*member,
               absl::Status(status.code(),
                            absl::StrCat("tensor ", PrintableKey(member->entry->key()),
                                         " could not be written to L3: ", status.message())));
      } else {
        context_.directory->BeginCommit(member->entry, member, member->list);
      }
    }
    if (written) written();
  }

  // On any thread; the last member takes the spill with it.
  void Finish(const Member& member, const absl::Status& status) {
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
  const uint64_t description_bytes_;
  const Block description_;
  std::vector<Block> tails_;
  const size_t members_count_;
  const std::unique_ptr<Member[]> members_;
  const size_t parts_count_;
  const std::unique_ptr<Part[]> parts_;
  absl::AnyInvocable<void()> written_;
  std::atomic<uint32_t> parts_left_ = 0;
  std::atomic<uint32_t> members_left_ = 0;

  Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  // The first failure.
};

// Cuts a payload into requests of 1 MiB; the first carries the header too.
void AppendInParts(Spill& spill, const Entry& entry, absl::Span<const ConstPiece> pieces) {
  size_t piece = 0;
  uint64_t piece_offset = 0;
  for (uint64_t i = 0; i < ChecksumChunkCount(entry.bytes()); ++i) {
    const uint64_t start = i * kChecksumChunkBytes;
    spill.BeginPart(i, entry.l3_extent().offset + (i == 0 ? 0 : entry.header_bytes() + start));
    if (i == 0) spill.AppendDescription();
    uint64_t left = std::min(kChecksumChunkBytes, entry.bytes() - start);
    while (left > 0) {
      CAIRN_CHECK(piece < pieces.size());
      const uint64_t take = std::min(left, pieces[piece].size - piece_offset);
      spill.Append(i, pieces[piece].data + piece_offset, take);
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

void StartSpill(const SpillContext& context, const SpillTensor& tensor,
                std::vector<uint64_t> chunk_sums, IoBatch& batch) {
  const Entry& entry = *tensor.entry;
  auto* spill = new Spill(context, entry.header_bytes(), 1, ChecksumChunkCount(entry.bytes()));
  EncodeRecordHeader({.store_uuid = context.store_uuid,
                      .fingerprint = context.fingerprint,
                      .fingerprint_id = entry.fingerprint_id(),
                      .key = std::string(entry.key()),
                      .record = entry.Record(),
                      .chunk_sums = std::move(chunk_sums)},
                     spill->description());
  AppendInParts(*spill, entry, tensor.pieces);
  spill->Join(0, tensor);
  context.tracker->Begin(entry.sequence());
  spill->Start(nullptr, batch);
}

void StartPackSpill(const SpillContext& context, const PackExtent& pack,
                    std::vector<SpillTensor> tensors, absl::AnyInvocable<void()> written,
                    IoBatch& batch) {
  auto* spill = new Spill(context, pack.table.bytes, tensors.size(), 1);
  PackTable table = {.store_uuid = context.store_uuid,
                     .fingerprint = context.fingerprint,
                     .fingerprint_id = tensors.front().entry->fingerprint_id(),
                     .offset = pack.table.offset,
                     .table_bytes = static_cast<uint32_t>(pack.table.bytes),
                     .members = {}};
  table.members.reserve(tensors.size());
  spill->BeginPart(0, tensors.front().entry->l3_extent().offset);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Entry& entry = *tensors[i].entry;
    table.members.push_back({{entry.fingerprint_id(), entry.key()}, entry.Record()});
    for (const ConstPiece& piece : tensors[i].pieces) spill->Append(0, piece.data, piece.size);
    spill->Join(i, tensors[i]);
  }
  spill->AppendDescription();
  EncodePackTable(table, spill->description());
  spill->Start(std::move(written), batch);
}

}  // namespace cairn
