#include "src/late_spills.h"

#include <utility>

#include "io/checksum.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

// Used and not yet looked at. What finds no place is looked at when it is used the next time.
constexpr size_t kUsedMax = 4096;

}  // namespace

void LateSpills::Start(Worker* worker) {
  MutexLock lock(mutex_);
  worker_ = worker;
}

void LateSpills::Used(const Entry& entry) {
  MutexLock lock(mutex_);
  if (worker_ == nullptr || used_.size() >= kUsedMax) return;
  used_.push_back({entry.fingerprint_id(), std::string(entry.key())});
  if (posted_) return;
  Worker::Task task = [this] { WriteUsed(); };
  posted_ = worker_->TryPost(task);
}

void LateSpills::WriteUsed() {
  std::vector<Key> used;
  {
    MutexLock lock(mutex_);
    used = std::exchange(used_, {});
    posted_ = false;
  }
  // Only where there is room at once: nobody waits for it.
  for (const Key& key : used) {
    Write({key.fingerprint_id, key.key}, /*promised=*/false, Deadline::min()).IgnoreError();
  }
}

absl::Status LateSpills::Write(const HashedKey& key, bool promised, Deadline deadline) {
  const std::optional<Directory::Refused> refused = parts_.directory->FindRefused(key);
  if (!refused.has_value()) return absl::OkStatus();
  const AdmissionPolicy::Tensor tensor = {
      .key_hash = key.hash, .bytes = refused->extent_bytes, .promised = promised};
  const AdmissionReason reason = parts_.admission->Reconsider(tensor);
  if (!Admitted(reason)) return absl::OkStatus();
  absl::Status room = parts_.evictor->WaitForDirtyRoom(refused->bytes, deadline);
  Entry* entry = nullptr;
  if (room.ok()) {
    const absl::StatusOr<Extent> extent =
        parts_.evictor->ReserveL3(refused->extent_bytes, deadline);
    room = extent.status();
    if (extent.ok()) {
      entry = parts_.directory->BeginLateSpill(key, *extent, *parts_.spill_context->tracker);
      if (entry == nullptr) {
        parts_.l3->Release(*extent);
        parts_.evictor->RoomMade();
      }
    }
  }
  if (entry == nullptr) {
    parts_.admission->Return(tensor, reason);
    return room;
  }
  const ConstPiece payload = {parts_.l2->Address(entry->hot()->l2_extent), entry->bytes()};
  const uint64_t seed = ChecksumSeed(entry->hash(), entry->sequence());
  IoBatch batch;
  Spill* const spill =
      StartSpill(*parts_.spill_context, {.entry = entry, .pieces = {payload}}, batch);
  FinishSpill(spill, ChunkChecksums(seed, {&payload, 1}), batch);
  parts_.io->Submit(batch);
  return absl::OkStatus();
}

absl::Status LateSpills::WriteAll(Deadline deadline) {
  if (parts_.directory->refused_count() == 0) return absl::OkStatus();
  std::vector<Key> keys;
  parts_.directory->ForEach([&keys](const Entry& entry, const TensorInfo&) {
    if (entry.refused) keys.push_back({entry.fingerprint_id(), std::string(entry.key())});
  });
  for (const Key& key : keys) {
    const absl::Status begun = Write({key.fingerprint_id, key.key}, /*promised=*/true, deadline);
    // No room: then it would have been evicted from L3 again.
    if (!begun.ok() && !absl::IsResourceExhausted(begun)) return begun;
  }
  return absl::OkStatus();
}

}  // namespace cairn
