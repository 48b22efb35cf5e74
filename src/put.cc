// Put: validate, find room on L3 and in L2, copy in while summing, list, start the write to L3.

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "io/checksum.h"
#include "io/record.h"
#include "src/base/check.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "src/eviction/worth.h"
#include "src/store_impl.h"

namespace cairn {
namespace {

void ZeroRestOfBlock(uint64_t bytes, std::byte* target) {
  const uint64_t rest = bytes % kBlockBytes;
  if (rest != 0) std::memset(target + bytes, 0, kBlockBytes - rest);
}

// Copies the pieces to `target`, sums each chunk while it is warm in the cache, and fills what is
// left of the last block with zeros.
std::vector<uint64_t> CopyAndSum(absl::Span<const ConstPiece> pieces, uint64_t bytes, uint64_t seed,
                                 std::byte* target) {
  std::vector<uint64_t> sums;
  sums.reserve(ChecksumChunkCount(bytes));
  size_t piece = 0;
  uint64_t piece_offset = 0;
  for (uint64_t start = 0; start < bytes; start += kChecksumChunkBytes) {
    const uint64_t chunk = std::min(kChecksumChunkBytes, bytes - start);
    for (uint64_t done = 0; done < chunk;) {
      const uint64_t take = std::min(chunk - done, pieces[piece].size - piece_offset);
      std::memcpy(target + start + done, pieces[piece].data + piece_offset, take);
      done += take;
      piece_offset += take;
      if (piece_offset == pieces[piece].size) {
        ++piece;
        piece_offset = 0;
      }
    }
    sums.push_back(ChunkChecksum(seed, target + start, chunk));
  }
  ZeroRestOfBlock(bytes, target);
  return sums;
}

int64_t ExpiresUnixMs(absl::Duration ttl, int64_t now_unix_ms) {
  if (ttl == absl::InfiniteDuration()) return 0;
  const int64_t ttl_ms = std::max<int64_t>(absl::ToInt64Milliseconds(ttl), 1);
  return ttl_ms > INT64_MAX - now_unix_ms ? 0 : now_unix_ms + ttl_ms;
}

}  // namespace

absl::Status StoreImpl::Put(TensorKey key, const TensorView& view, const PutOptions& options) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  const ConstPiece piece = {view.data, view.size};
  absl::Status status =
      PutThroughL2({key.bytes(), view.meta, {&piece, 1}, {view.kind, view.device}}, options);
  if (status.ok()) Asked(key);
  return status;
}

absl::Status StoreImpl::ValidatePut(const PutInput& input, const PutOptions& options,
                                    bool through_l2) const {
  const auto invalid = [&](const auto&... what) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", PrintableKey(input.key), ": ", what...));
  };
  if (input.key.empty()) return absl::InvalidArgumentError("the key is empty");
  if (input.key.size() > TensorKey::kBytesMax) {
    return invalid("the key has ", input.key.size(), " bytes, at most ", TensorKey::kBytesMax,
                   " are allowed");
  }
  if (const absl::Status meta = input.meta.Validate(); !meta.ok()) return invalid(meta.message());
  if (options.ttl <= absl::ZeroDuration()) return invalid("its time to live is not positive");
  if (options.recompute_cost < absl::ZeroDuration()) {
    return invalid("its cost of recomputing is negative");
  }
  uint64_t bytes = 0;
  for (const ConstPiece& piece : input.pieces) {
    if (piece.data == nullptr || piece.size == 0) return invalid("a piece of it is empty");
    bytes += piece.size;
  }
  if (!input.memory.host()) {
    CAIRN_RETURN_IF_ERROR(OwnerOf(input.key, input.memory, options.producer).status());
  }
  if (bytes != input.meta.byte_count()) {
    return invalid("the view has ", bytes, " bytes and ", input.meta.ToString(), " takes ",
                   input.meta.byte_count());
  }
  if (through_l2 && bytes > core_->l2->bytes_max()) {
    return invalid("its ", bytes, " bytes are more than L2's ", core_->l2->bytes_max());
  }
  const uint64_t extent =
      RecordHeaderBytes(core_->options.fingerprint.size(), input.key.size(), bytes) +
      RoundUpToBlock(bytes);
  if (extent > core_->l3->extent_bytes_max()) {
    return invalid("its ", bytes, " bytes do not fit a data file of L3, which takes ",
                   core_->l3->extent_bytes_max(), " with a record's header");
  }
  return absl::OkStatus();
}

Durability StoreImpl::Resolve(Durability durability) const {
  if (durability != Durability::kStoreDefault) return durability;
  return core_->options.write_policy == WritePolicy::kWriteBack ? Durability::kInMemory
                                                                : Durability::kOnDevice;
}

std::unique_ptr<Entry> StoreImpl::NewEntry(const PutInput& input, const PutOptions& options) const {
  const IndexKey key = {core_->fingerprint_id, input.key};
  // Before the sequence is drawn.
  WritesUnderWay::Write write = core_->writes.Begin(HashKey(key));
  IndexRecord record;
  record.sequence = core_->next_sequence.fetch_add(1);
  record.payload_bytes = input.meta.byte_count();
  record.header_bytes =
      RecordHeaderBytes(core_->options.fingerprint.size(), input.key.size(), record.payload_bytes);
  record.meta = input.meta;
  record.tensor_class = options.tensor_class;
  record.retention = options.retention;
  record.recompute_level = RecomputeLevel(options.recompute_cost, record.payload_bytes);
  record.expires_unix_ms = ExpiresUnixMs(options.ttl, core_->NowUnixMs());
  if (record.expires_unix_ms != 0) core_->ttl_used.store(true, std::memory_order_relaxed);
  std::unique_ptr<Entry> entry = Entry::Create(key, record);
  entry->MakeHot().write = std::move(write);
  entry->pins = 1;
  entry->spilling = true;
  entry->l3 = CopyState::kFilling;
  entry->partial = options.partial_block;
  return entry;
}

bool StoreImpl::KeptExisting(std::string_view key, const PutOptions& options, Deadline deadline,
                             absl::FunctionRef<void()> before_waiting, absl::Status* outcome) {
  if (options.if_exists != IfExists::kKeep) return false;
  const HashedKey hashed = Hashed(key);
  if (!core_->directory->Contains(hashed, core_->NowUnixMs(), /*touch=*/true)) return false;
  StatsRecorder::Add(core_->stats.puts_kept_existing);
  const Durability durability = Resolve(options.durability);
  *outcome = absl::OkStatus();
  if (durability == Durability::kInMemory) return true;
  *outcome = core_->late_spills->Write(hashed, /*promised=*/true, deadline);
  if (!outcome->ok()) return true;
  SpillWait wait;
  SpillWaiter* waiter = wait.NewWaiter();
  if (core_->directory->JoinSpill(hashed, waiter, outcome)) {
    before_waiting();
    *outcome = wait.Wait(deadline);
  } else {
    SpillWait::Discard(waiter);
    // It left between the two looks: then it is to be written after all.
    if (absl::IsNotFound(*outcome)) return false;
  }
  if (outcome->ok() && durability == Durability::kFlushed) *outcome = core_->FlushTensor(hashed);
  return true;
}

absl::Status StoreImpl::RefusePut(const PutInput& input, const absl::Status& why) {
  StatsRecorder::Add(core_->stats.puts_refused);
  core_->journal->Note(Hashed(input.key).hash, Decision::kPutRefused, input.meta.byte_count());
  return {why.code(), absl::StrCat("tensor ", PrintableKey(input.key), ": ", why.message())};
}

absl::StatusOr<Gpu*> StoreImpl::OwnerOf(std::string_view key, const Memory& memory,
                                        std::optional<StreamRef> stream) const {
  if (core_->options.l1_bytes_max == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor ", PrintableKey(key),
        " is in GPU memory, and the store has no L1: StoreOptions::l1_bytes_max is 0"));
  }
  std::optional<int> ordinal;
  if (memory.device >= 0) ordinal = memory.device;
  absl::StatusOr<Gpu*> gpu = FindGpu(core_->gpus, ordinal, stream);
  if (gpu.ok()) return gpu;
  return absl::InvalidArgumentError(
      absl::StrCat("tensor ", PrintableKey(key), " in GPU memory: ", gpu.status().message()));
}

absl::Status StoreImpl::CopyFromGpu(const PutInput& input, std::optional<StreamRef> producer,
                                    std::byte* target) {
  CAIRN_ASSIGN_OR_RETURN(const Gpu* const gpu, OwnerOf(input.key, input.memory, producer));
  std::vector<CopyPiece> copies;
  copies.reserve(input.pieces.size());
  for (const ConstPiece& piece : input.pieces) {
    copies.push_back({target, piece.data, piece.size});
    target += piece.size;
  }
  return gpu->l1->CopyAndWait(CopyDirection::kToHost, copies, producer);
}

void StoreImpl::Unreserve(Entry& entry) {
  core_->l2->Release(std::exchange(entry.hot()->l2_extent, {}));
  if (entry.l3_extent().bytes > 0) core_->l3->Release(entry.TakeL3Extent());
  core_->evictor->RoomMade();
}

void StoreImpl::ListAndSpill(std::unique_ptr<Entry> entry, std::vector<uint64_t> sums, bool flush) {
  Entry* const listed = entry.get();
  core_->directory->List(std::move(entry));
  IoBatch batch;
  Spill* const spill =
      StartSpill(core_->spill_context,
                 {.entry = listed,
                  .pieces = {{core_->l2->Address(listed->hot()->l2_extent), listed->bytes()}},
                  .list = false,
                  .flush = flush},
                 batch);
  FinishSpill(spill, std::move(sums), batch);
  SubmitBatch(batch);
}

AdmissionPolicy::Tensor StoreImpl::WantedOnL3(const Entry& entry, Durability durability) {
  return {.key_hash = entry.hash(),
          .bytes = Packer::Takes(entry.bytes())
                       ? entry.Record().extent_bytes() - entry.header_bytes()
                       : entry.Record().extent_bytes(),
          .promised = durability != Durability::kInMemory || entry.retention() == Retention::kKeep,
          .partial = entry.partial};
}

void StoreImpl::ListRefused(std::unique_ptr<Entry> entry) {
  entry->refused = true;
  entry->spilling = false;
  entry->l3 = CopyState::kAbsent;
  Entry* const listed = entry.get();
  core_->directory->List(std::move(entry));
  core_->directory->Unpin(listed);
}

absl::Status StoreImpl::PutThroughL2(const PutInput& input, const PutOptions& options) {
  CAIRN_RETURN_IF_ERROR(ValidatePut(input, options, /*through_l2=*/true));
  const Deadline start = SteadyNow();
  const Deadline deadline = DeadlineAfter(options.timeout);
  StatsRecorder::Add(core_->stats.puts);
  absl::Status outcome;
  if (KeptExisting(
          input.key, options, deadline, [] {}, &outcome))
    return outcome;

  std::unique_ptr<Entry> entry = NewEntry(input, options);
  const Durability durability = Resolve(options.durability);
  const AdmissionPolicy::Tensor wanted = WantedOnL3(*entry, durability);
  const AdmissionReason reason = core_->admission->Decide(wanted);
  const bool admitted = Admitted(reason);
  const auto refuse = [&](const absl::Status& why) {
    if (admitted) core_->admission->Return(wanted, reason);
    return RefusePut(input, why);
  };
  const bool packed = admitted && Packer::Takes(entry->bytes());
  absl::Status room;
  if (admitted) room = core_->evictor->WaitForDirtyRoom(entry->bytes(), deadline);
  if (room.ok()) room = core_->evictor->WaitForIndexRoom(*entry, deadline);
  // The packer finds room on L3 for small ones.
  if (room.ok()) room = core_->evictor->Reserve(*entry, admitted && !packed, deadline);
  if (!room.ok()) return refuse(room);
  std::byte* const target = core_->l2->Address(entry->hot()->l2_extent);
  const uint64_t seed = ChecksumSeed(entry->hash(), entry->sequence());
  std::vector<uint64_t> sums;
  if (input.memory.host()) {
    sums = CopyAndSum(input.pieces, entry->bytes(), seed, target);
  } else {
    const absl::Status copied = CopyFromGpu(input, options.producer, target);
    if (!copied.ok()) {
      Unreserve(*entry);
      return refuse(copied);
    }
    const ConstPiece copy = {target, entry->bytes()};
    sums = ChunkChecksums(seed, {&copy, 1});
    ZeroRestOfBlock(entry->bytes(), target);
  }
  entry->checksum = TensorChecksum(seed, sums);
  entry->l2 = CopyState::kResident;
  StatsRecorder::Add(core_->stats.bytes_written_l2, entry->bytes());

  SpillWait wait;
  if (durability != Durability::kInMemory) entry->hot()->spill_waiters = wait.NewWaiter();
  const bool flush = durability == Durability::kFlushed;
  if (!admitted) {
    ListRefused(std::move(entry));
  } else if (packed) {
    Packer::Tensor tensor = {.entry = std::move(entry),
                             .pieces = {{target, input.meta.byte_count()}},
                             .list_when_written = false,
                             .flush = flush};
    room = core_->packer->Add(tensor, deadline);
    if (!room.ok()) {
      Unreserve(*tensor.entry);
      SpillWait::Discard(tensor.entry->hot()->spill_waiters);
      return refuse(room);
    }
  } else {
    ListAndSpill(std::move(entry), std::move(sums), flush);
  }
  if (durability != Durability::kInMemory) outcome = wait.Wait(deadline);
  core_->stats.put_us.Record(MicrosecondsSince(start));
  return outcome;
}

}  // namespace cairn
