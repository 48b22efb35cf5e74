#include "src/l3_mover.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "io/checksum.h"

namespace cairn {
namespace {

// Read into memory of its own, which is not L2's.
constexpr uint64_t kExtentBytesMax = uint64_t{64} << 20;
// Of L3: where more than one part in so many is free, nothing has to leave for lack of room.
constexpr uint64_t kFreePart = 8;
// A device that takes longer hangs. What it was given ends when it does.
constexpr std::chrono::seconds kStepMax{10};

}  // namespace

// What ends on a thread of the engine or of the index, and who waits for it.
class L3Mover::Step {
 public:
  // False when who waited has left before.
  bool End(bool well) {
    MutexLock lock(mutex_);
    ended_well_ = well;
    changed_.NotifyAll();
    return !left_;
  }
  // How it has ended; nothing when it has not by the deadline or Leave, and is left to itself.
  std::optional<bool> Await(Deadline deadline) {
    MutexLock lock(mutex_);
    while (!ended_well_.has_value() && !left_ && SteadyNow() < deadline) {
      changed_.WaitUntil(mutex_, deadline);
    }
    left_ = left_ || !ended_well_.has_value();
    return left_ ? std::nullopt : ended_well_;
  }
  void Leave() {
    MutexLock lock(mutex_);
    left_ = !ended_well_.has_value();
    changed_.NotifyAll();
  }
  bool ended() const {
    MutexLock lock(mutex_);
    return ended_well_.has_value();
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  std::optional<bool> ended_well_ ABSL_GUARDED_BY(mutex_);
  bool left_ ABSL_GUARDED_BY(mutex_) = false;
};

// As the device takes it: whole blocks.
class L3Mover::Memory {
 public:
  explicit Memory(uint64_t bytes)
      : bytes_(RoundUpToBlock(bytes)),
        data_(static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, bytes_))) {}
  ~Memory() { std::free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Piece piece() const { return {data_, bytes_}; }

 private:
  const uint64_t bytes_;
  std::byte* const data_;
};

L3Mover::L3Mover(Parts parts) : parts_(std::move(parts)) {}
L3Mover::~L3Mover() { Stop(); }

void L3Mover::Stop() {
  MutexLock lock(mutex_);
  stop_ = true;
  if (step_ != nullptr) step_->Leave();
}

std::shared_ptr<L3Mover::Step> L3Mover::NewStep() {
  MutexLock lock(mutex_);
  if (!MayBegin()) return nullptr;
  step_ = std::make_shared<Step>();
  return step_;
}

bool L3Mover::MayBegin() const { return !stop_ && (step_ == nullptr || step_->ended()); }

Deadline L3Mover::StepDeadline() const { return std::min(deadline_, SteadyNow() + kStepMax); }

void L3Mover::LookAt(absl::Span<const Extent> windows, uint64_t bytes_live_max, Deadline deadline) {
  deadline_ = deadline;
  owners_.clear();
  parts_.directory->ForEachRecordIn(windows, [this](const Entry& entry) {
    // Of another fingerprint: its record would have to say so, and this store has no word for it.
    if (entry.fingerprint_id() != parts_.fingerprint_id) return;
    const Extent extent = entry.l3_extent();
    if (extent.bytes <= kExtentBytesMax) owners_[extent.offset] = {extent.bytes, entry.hash()};
  });
  const NvmeTier& l3 = *parts_.fill.l3;
  coldest_.clear();
  if (l3.bytes_free() < l3.bytes_max() / kFreePart) {
    coldest_ = parts_.eviction->Coldest(bytes_live_max);
  }
}

const L3Mover::Owner* L3Mover::OwnerOf(Extent extent) const {
  const auto found = owners_.find(extent.offset);
  return found == owners_.end() || found->second.bytes != extent.bytes ? nullptr : &found->second;
}

bool L3Mover::CanMove(Extent extent) {
  const Owner* const owner = OwnerOf(extent);
  if (owner == nullptr || SteadyNow() >= deadline_) return false;
  {
    MutexLock lock(mutex_);
    if (!MayBegin()) return false;
  }
  if (!coldest_.contains(owner->key_hash) && !parts_.admission->CanSpare(extent.bytes)) {
    return false;
  }
  return parts_.directory->CanRewrite(owner->key_hash, extent);
}

bool L3Mover::Move(Extent from) {
  if (!CanMove(from)) return false;
  const Owner* const owner = OwnerOf(from);
  return coldest_.contains(owner->key_hash) ? Clear(owner->key_hash, from)
                                            : Rewrite(owner->key_hash, from);
}

bool L3Mover::Clear(uint64_t key_hash, Extent from) {
  const std::shared_ptr<Step> step = NewStep();
  if (step == nullptr) return false;
  const auto committed = [step](const absl::Status& status) { step->End(status.ok()); };
  if (!parts_.directory->ClearFromL3(key_hash, from, committed)) {
    step->End(false);
    return false;
  }
  return step->Await(StepDeadline()).value_or(false);
}

bool L3Mover::Rewrite(uint64_t key_hash, Extent from) {
  const uint64_t sequence = parts_.next_sequence();
  bool in_l2 = false;
  Entry* const entry = parts_.directory->BeginRewrite(key_hash, from, &in_l2);
  if (entry == nullptr) return false;
  std::shared_ptr<Memory> memory;
  if (!in_l2) {
    memory = std::make_shared<Memory>(entry->bytes());
    if (!Read(entry, memory)) return false;
  }
  const std::byte* const payload =
      in_l2 ? parts_.fill.l2->Address(entry->hot()->l2_extent) : memory->piece().data;
  if (!Verifies(*entry, payload) || !parts_.admission->Spare(from.bytes)) {
    parts_.directory->Unpin(entry);
    return false;
  }
  return Write(entry, sequence, payload, memory);
}

bool L3Mover::Read(Entry* entry, const std::shared_ptr<Memory>& memory) {
  const std::shared_ptr<Step> step = memory->piece().data == nullptr ? nullptr : NewStep();
  std::optional<bool> well = false;
  if (step != nullptr) {
    auto done = [step, memory, entry, directory = parts_.directory](const absl::Status& status) {
      if (!step->End(status.ok())) directory->Unpin(entry);
    };
    IoBatch batch;
    StartReadToMove(parts_.fill, entry, memory->piece(), std::move(done), batch);
    parts_.fill.l3->io().Submit(batch);
    well = step->Await(StepDeadline());
  }
  if (well.has_value() && !*well) parts_.directory->Unpin(entry);
  return well.value_or(false);
}

// What has changed in memory meanwhile must not be called whole.
bool L3Mover::Verifies(const Entry& entry, const std::byte* payload) {
  const ConstPiece piece = {payload, entry.bytes()};
  const uint64_t seed = ChecksumSeed(entry.hash(), entry.sequence());
  return TensorChecksum(seed, ChunkChecksums(seed, {&piece, 1})) == entry.checksum;
}

bool L3Mover::Write(Entry* from, uint64_t sequence, const std::byte* payload,
                    const std::shared_ptr<Memory>& memory) {
  NvmeTier& l3 = *parts_.fill.l3;
  const Extent place = from->l3_extent();
  const absl::StatusOr<Extent> target = l3.ReserveBeside(place.bytes, place.offset);
  const std::shared_ptr<Step> step = target.ok() ? NewStep() : nullptr;
  if (step == nullptr) {
    if (target.ok()) l3.Release(*target);
    parts_.directory->Unpin(from);
    return false;
  }
  // The spill's from here on.
  Entry* const entry = NewEntry(*from, sequence).release();
  entry->set_l3_extent(*target);
  const ConstPiece piece = {payload, entry->bytes()};
  const uint64_t seed = ChecksumSeed(entry->hash(), sequence);
  std::vector<uint64_t> sums = ChunkChecksums(seed, {&piece, 1});
  entry->checksum = TensorChecksum(seed, sums);
  IoBatch batch;
  Spill* const spill = StartSpill(*parts_.spill,
                                  {.entry = entry,
                                   .pieces = {piece},
                                   .flush = true,
                                   .rewrite_of = from,
                                   .rewritten = [step, memory](bool moved) { step->End(moved); }},
                                  batch);
  FinishSpill(spill, std::move(sums), batch);
  l3.io().Submit(batch);
  return step->Await(StepDeadline()).value_or(false);
}

std::unique_ptr<Entry> L3Mover::NewEntry(const Entry& from, uint64_t sequence) {
  IndexRecord record = from.Record();
  record.sequence = sequence;
  record.offset = 0;
  record.checksum = 0;
  std::unique_ptr<Entry> entry = Entry::Create({from.fingerprint_id(), from.key()}, record);
  entry->MakeHot();
  entry->pins = 1;
  entry->spilling = true;
  entry->l3 = CopyState::kFilling;
  entry->partial = from.partial;
  return entry;
}

}  // namespace cairn
