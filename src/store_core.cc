#include "src/store_core.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "io/store_index.h"
#include "src/base/check.h"
#include "src/base/clock.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

void LogToStandardError(std::string_view line) {
  std::fprintf(stderr, "cairn: %.*s\n", static_cast<int>(line.size()), line.data());
}

StoreOptions WithLog(StoreOptions options) {
  if (!options.log) options.log = LogToStandardError;
  return options;
}

// Of housekeeping: about a second.
constexpr uint32_t kTurnsOfWriteBudget = 10;

// So seldom, as it wears the SSD: with the default 1.5 MiB 0.4 GiB a day.
constexpr std::chrono::minutes kSaveJournalEvery{5};

int FlushByKernel(int fd) { return fdatasync(fd) == 0 ? 0 : errno; }

int64_t WallClockUnixMs() { return absl::ToUnixMillis(absl::Now()); }

}  // namespace

StoreCore::StoreCore(const StoreOptions& store_options, StoreSeams seams)
    : options(WithLog(store_options)),
      l2_eviction(TierEviction::OfL2(options.eviction, options.l2_class_shares)),
      l3_eviction(TierEviction::OfL3(options.eviction, options.l3_class_shares)),
      seams_(std::move(seams)),
      now_unix_ms_(seams_.now_unix_ms ? seams_.now_unix_ms : WallClockUnixMs),
      pressure_reader_("") {}

StoreCore::~StoreCore() {
  StopDefragmenters();
  if (evictor != nullptr) evictor->Stop();
  if (l2 != nullptr) l2->StopPinning();
  // Before the directory, which goes before the GPUs.
  for (const auto& gpu : gpus) gpu->releases.reset();
}

absl::StatusOr<std::shared_ptr<StoreCore>> StoreCore::Open(const StoreOptions& options,
                                                           StoreSeams seams) {
  CAIRN_RETURN_IF_ERROR(options.Validate());
  std::shared_ptr<StoreCore> core(new StoreCore(options, std::move(seams)));
  CAIRN_RETURN_IF_ERROR(core->OpenMemory());
  CAIRN_RETURN_IF_ERROR(core->OpenFiles());
  CAIRN_RETURN_IF_ERROR(core->OpenIndex());
  CAIRN_RETURN_IF_ERROR(core->Recover());
  core->TakeL2();
  core->MakeWorkers();
  if (absl::Status status = core->StartThreads(); !status.ok()) {
    core->Shutdown().IgnoreError();  // Those that have started.
    return status;
  }
  return core;
}

void StoreCore::Log(std::string_view line) const {
  MutexLock lock(log_mutex_);
  options.log(line);
}

std::string StoreCore::Degraded() const {
  const absl::Status last = spill_tracker.last_status();
  std::vector<std::string> lines;
  if (!last.ok()) lines.push_back(absl::StrCat("L3 writes fail: ", last.message()));
  for (std::string line : {flusher->GivenUp(), drive_health->Drained()}) {
    if (!line.empty()) lines.push_back(std::move(line));
  }
  return absl::StrJoin(lines, "; ");
}

absl::Status StoreCore::OpenFiles() {
  CAIRN_ASSIGN_OR_RETURN(files, StoreFiles::Open({.path = options.path,
                                                  .data_paths = options.data_paths,
                                                  .data_weights = options.data_weights,
                                                  .bytes_max = options.l3_bytes_max,
                                                  .index_bytes_max = options.l3_index_bytes_max,
                                                  .data_file_bytes = options.data_file_bytes,
                                                  .prewrite = options.l3_prewrite}));
  for (const std::string& problem : files->problems()) Log(problem);
  if (!files->direct()) {
    Log(absl::StrCat(options.path,
                     ": the file system refuses O_DIRECT; reads and writes go "
                     "through the page cache"));
  }
  return absl::OkStatus();
}

absl::Status StoreCore::OpenIndex() {
  const uint64_t bytes_max = files->index_bytes_max();
  CAIRN_ASSIGN_OR_RETURN(index, seams_.open_index ? seams_.open_index({.path = files->index_path(),
                                                                       .bytes_max = bytes_max})
                                                  : OpenStoreIndex(*files, bytes_max));
  if (seams_.wrap_index) index = seams_.wrap_index(std::move(index));
  return SettleFingerprints();
}

absl::Status StoreCore::SettleFingerprints() {
  CAIRN_ASSIGN_OR_RETURN(const std::vector<Fingerprint> known, index->Fingerprints());
  for (const Fingerprint& other : known) {
    if (other.text == options.fingerprint) continue;
    if (options.other_fingerprint == OtherFingerprint::kShare) continue;
    std::vector<std::string> keys;
    CAIRN_RETURN_IF_ERROR(index->ForEach(
        {.record =
             [&](IndexKey key, const IndexRecord&) {
               if (key.fingerprint_id == other.id) keys.emplace_back(key.key);
               return keys.empty() || options.other_fingerprint == OtherFingerprint::kPurge;
             },
         .damaged = [](std::string_view, const absl::Status&) { return true; }}));
    if (!keys.empty() && options.other_fingerprint == OtherFingerprint::kRefuse) {
      return absl::FailedPreconditionError(absl::StrCat(
          options.path, " holds tensors of fingerprint \"", PrintableKey(other.text),
          "\" and was opened with \"", PrintableKey(options.fingerprint),
          "\": use another directory, or StoreOptions::other_fingerprint to share or purge"));
    }
    for (const std::string& key : keys) {
      const IndexEdit edit = {.kind = IndexEdit::Kind::kDelete, .key = {other.id, key}};
      CAIRN_RETURN_IF_ERROR(index->Commit({&edit, 1}, /*sync=*/false));
    }
    CAIRN_RETURN_IF_ERROR(index->DropFingerprint(other.id));
  }
  CAIRN_ASSIGN_OR_RETURN(fingerprint_id, index->FingerprintId(options.fingerprint));
  return absl::OkStatus();
}

void StoreCore::MakeFlusher() {
  flusher = std::make_unique<DataFlusher>(files.get(), l3.get(),
                                          seams_.flush_file ? seams_.flush_file : FlushByKernel);
  drive_health = std::make_unique<DriveHealth>(files.get(), l3.get());
}

void StoreCore::MakeWorkers() {
  leases = std::make_unique<LeaseTable>(directory.get());
  for (const auto& gpu : gpus) {
    gpu->releases = std::make_unique<StreamReleases>(directory.get(), gpu.get());
  }
  loads = std::make_unique<Worker>(options.async_queue_max);
  stores = std::make_unique<Worker>(options.async_queue_max);
  callbacks = std::make_unique<Worker>(options.async_queue_max);
  async_deadlines = std::make_unique<AsyncDeadlines>(&stats);
  late_spills->Start(stores.get());
}

absl::Status StoreCore::StartThreads() {
  CAIRN_RETURN_IF_ERROR(index_writer->Start());
  CAIRN_RETURN_IF_ERROR(loads->Start("cairn-loads"));
  CAIRN_RETURN_IF_ERROR(stores->Start("cairn-stores"));
  CAIRN_RETURN_IF_ERROR(callbacks->Start("cairn-callbacks"));
  CAIRN_RETURN_IF_ERROR(async_deadlines->Start());
  CAIRN_RETURN_IF_ERROR(evictor->Start());
  for (const auto& gpu : gpus) {
    if (gpu->defragmenter != nullptr) CAIRN_RETURN_IF_ERROR(gpu->defragmenter->Start());
  }
  CAIRN_RETURN_IF_ERROR(l2_defragmenter->Start());
  CAIRN_RETURN_IF_ERROR(l3_defragmenter->Start());
  CAIRN_RETURN_IF_ERROR(eviction_file->Start());
  CAIRN_RETURN_IF_ERROR(journal_saver_.Start("cairn-journal", kSaveJournalEvery, [this] {
    SaveJournal();
    return kSaveJournalEvery;
  }));
  if (pressure != nullptr) CAIRN_RETURN_IF_ERROR(pressure->Start());
  l2->StartPinning([this](const absl::Status& status) {
    if (!status.ok()) Log(absl::StrCat("L2 is not pinned for the GPU: ", status.message()));
  });
  return absl::OkStatus();
}

void StoreCore::Housekeep() {
  leases->Expire(SteadyNow());
  drive_health->Judge(SteadyNow());
  l2_eviction.SetBytesMax(l2_sections->bytes_usable());
  std::string degraded = Degraded();
  if (degraded != degraded_logged_) {
    Log(degraded.empty() ? "L3 writes work again" : degraded);
    degraded_logged_ = std::move(degraded);
  }
  ReopenIndex();
  if (housekeeping_stripe_ % kTurnsOfWriteBudget == 0) SaveWriteBudget();
  directory->RetryRemovals(housekeeping_stripe_);
  if (ttl_used.load(std::memory_order_relaxed)) {
    StatsRecorder::Add(stats.expirations,
                       directory->RemoveExpired(housekeeping_stripe_, NowUnixMs()));
  }
  ++housekeeping_stripe_;
}

// Each failure doubles the wait for the next try: on a disk that stays full every try writes.
void StoreCore::ReopenIndex() {
  constexpr uint32_t kTurnsMax = 32;
  if (index_turns_left_ > 0) {
    --index_turns_left_;
    return;
  }
  const std::string reopened(index->Reopen().message());
  index_turns_ = reopened.empty() ? 0 : std::min(kTurnsMax, index_turns_ * 2 + 1);
  index_turns_left_ = index_turns_;
  if (!reopened.empty() && reopened != index_logged_) Log(absl::StrCat("the index: ", reopened));
  index_logged_ = reopened;
}

// Its loss costs no data: it is said, once.
void StoreCore::SaveWriteBudget() {
  const std::string failure(admission->Save().message());
  if (!failure.empty() && failure != write_budget_logged_) {
    Log(absl::StrCat("the write budget is not kept over restarts: ", failure));
  }
  write_budget_logged_ = failure;
}

void StoreCore::MakeJournal() {
  journal =
      std::make_unique<Journal>(std::min<uint64_t>(options.journal_records_max,
                                                   JournalRecordsWithin(files->index_bytes_max())),
                                [this] { return NowUnixMs(); });
  const absl::StatusOr<std::vector<JournalRecord>> before =
      ReadJournal(options.path, files->uuid());
  if (before.ok()) return journal->Restore(*before);
  if (absl::IsNotFound(before.status())) return;
  Log(absl::StrCat("why tensors are where they are is not known from before: ",
                   before.status().message()));
}

// As for the write budget.
void StoreCore::SaveJournal() {
  const Journal::Counts counts = journal->counts();
  if (journal->records_max() == 0 || counts == journal_saved_) return;
  const std::string failure(WriteJournal(options.path, files->uuid(), journal->All()).message());
  if (failure.empty()) journal_saved_ = counts;
  if (!failure.empty() && failure != journal_logged_) {
    Log(absl::StrCat("the journal is not kept: ", failure));
  }
  journal_logged_ = failure;
}

absl::Status StoreCore::FlushDevice() {
  absl::Status status = flusher->FlushAll();
  status.Update(index->Sync());
  return status;
}

absl::Status StoreCore::FlushTensor(const HashedKey& key) {
  const std::optional<uint64_t> offset = directory->FindOnL3(key);
  // Replaced or removed meanwhile: whatever there was of it.
  if (!offset.has_value()) return FlushDevice();
  CAIRN_RETURN_IF_ERROR(flusher->Flush(*offset / files->data_file_bytes()));
  return index->Sync();
}

void StoreCore::StopDefragmenters() {
  for (const auto& gpu : gpus) {
    if (gpu->defragmenter != nullptr) gpu->defragmenter->Stop();
  }
  if (l2_defragmenter != nullptr) l2_defragmenter->Stop();
  if (l3_mover != nullptr) l3_mover->Stop();
  if (l3_defragmenter != nullptr) l3_defragmenter->Stop();
}

absl::Status StoreCore::Shutdown() {
  l2->EndPinning();
  for (const auto& gpu : gpus) gpu->releases->ForgetStreams();
  if (pressure != nullptr) pressure->Stop();
  StopDefragmenters();
  // What is queued runs to its end, down the tiers: calls, spills, index, device.
  loads->Stop();
  stores->Stop();
  spill_tracker.WaitUpTo(UINT64_MAX);
  // Twice: a read that did not verify is issued once more when it ends.
  io->Drain();
  io->Drain();
  for (const auto& gpu : gpus) {
    if (gpu->l1 != nullptr) gpu->l1->Drain();
  }
  index_writer->Drain();
  async_deadlines->Stop();
  callbacks->Stop();
  evictor->Stop();
  SaveWriteBudget();
  eviction_file->Stop();
  journal_saver_.Stop();
  SaveJournal();
  const auto [failures, last_failure] = spill_tracker.TakeFailures();
  absl::Status status = FlushDevice();
  if (status.ok() && failures > 0) {
    status = absl::UnavailableError(absl::StrCat(
        failures, " tensors were not written to L3, the last because: ", last_failure.message()));
  }
  index_writer.reset();
  index.reset();
  io.reset();
  files.reset();
  // Last: a chunk takes the driver seconds.
  l2->StopPinning();
  return status;
}

TensorHandle StoreCore::NewHandle(Pin pin, Level found_at) {
  const auto [entry, l1] = pin;
  TensorView view = {.meta = entry->meta(), .size = entry->bytes()};
  if (l1 != nullptr) {
    view.data = l1->gpu->l1->Address(l1->extent);
    view.device = l1->gpu->ordinal();
    // Where the host stands in it is what it is: whoever looks at the kind can read it.
    if (l1->gpu->device->is_gpu()) view.kind = l1->gpu->l1->memory_kind();
  } else {
    view.data = l2->Address(entry->hot()->l2_extent);
    if (l2->is_pinned(entry->hot()->l2_extent)) view.kind = MemoryKind::kHostPinned;
  }
  return {shared_from_this(), entry, l1, view, found_at};
}

}  // namespace cairn
