#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cairn/options.h"
#include "cairn/store.h"
#include "io/async_io.h"
#include "io/index.h"
#include "io/index_writer.h"
#include "io/store_files.h"
#include "src/admission/admission.h"
#include "src/async_deadlines.h"
#include "src/base/mutex.h"
#include "src/base/periodic.h"
#include "src/data_flusher.h"
#include "src/directory.h"
#include "src/drive_health.h"
#include "src/eviction_file.h"
#include "src/evictor.h"
#include "src/fill.h"
#include "src/gpu.h"
#include "src/journal.h"
#include "src/l2_sections.h"
#include "src/l3_mover.h"
#include "src/late_spills.h"
#include "src/lease_table.h"
#include "src/machine/memory_pressure.h"
#include "src/packer.h"
#include "src/prediction/predictor.h"
#include "src/prefetch_queue.h"
#include "src/pressure_monitor.h"
#include "src/spill.h"
#include "src/spill_tracker.h"
#include "src/stats_recorder.h"
#include "src/stream_releases.h"
#include "src/tier_eviction.h"
#include "src/tier_mover.h"
#include "src/worker.h"
#include "src/writes_under_way.h"
#include "tiers/defragmenter.h"
#include "tiers/device.h"
#include "tiers/nvme_tier.h"
#include "tiers/pinned_tier.h"

namespace cairn {

// What a test may put in the place of the outer world. Empty: the real one.
struct StoreSeams {
  std::function<absl::StatusOr<std::unique_ptr<AsyncIo>>(const AsyncIo::Options&)> open_io;
  std::function<absl::StatusOr<std::unique_ptr<Index>>(const RocksDbIndexOptions&)> open_index;
  std::function<absl::StatusOr<std::unique_ptr<Device>>(DeviceKind, int ordinal)> open_device;
  std::function<int(int fd)> flush_file;  // As fdatasync: 0 or an errno.
  std::function<std::unique_ptr<AsyncIo>(std::unique_ptr<AsyncIo>)> wrap_io;
  std::function<std::unique_ptr<Index>(std::unique_ptr<Index>)> wrap_index;
  std::function<int64_t()> now_unix_ms;
  // At Open, and then on the thread of the pressure monitor.
  std::function<PressureReadings()> read_pressure;
  // The root of /proc and /sys that tells the NUMA nodes.
  std::string machine_root;
  std::function<absl::Status(absl::Span<std::byte>, absl::Span<const uint32_t> nodes)> place_memory;
  uint64_t l2_pin_chunk_bytes = PinnedTierOptions::kPinChunkBytesMax;
  std::chrono::milliseconds eviction_save_every = EvictionFile::kSaveEveryMin;
};

// The parts of an open store, in the order in which they are made; the verbs over them are
// StoreImpl. Held in common by the store and its handles, so that pinned memory outlives Close.
class StoreCore : public std::enable_shared_from_this<StoreCore> {
 public:
  static absl::StatusOr<std::shared_ptr<StoreCore>> Open(const StoreOptions& options,
                                                         StoreSeams seams);
  ~StoreCore();

  // Ends the threads and lets go of the disk. Once.
  absl::Status Shutdown();

  void Log(std::string_view line) const;
  int64_t NowUnixMs() const { return now_unix_ms_(); }
  // The data files' device caches, and the index.
  absl::Status FlushDevice();
  // What is needed of it for one tensor that is there.
  absl::Status FlushTensor(const HashedKey& key);

  // Takes the pin over.
  TensorHandle NewHandle(Pin pin, Level found_at);
  Lease NewLease(uint64_t id) { return {shared_from_this(), id}; }
  FillContext fill_context() { return {directory.get(), l2.get(), l3.get(), &stats}; }

  const StoreOptions options;
  uint32_t fingerprint_id = 0;
  uint64_t recovered_tensors = 0;
  uint64_t recovery_dropped = 0;

  // Empty, or what does not work now.
  std::string Degraded() const;

  StatsRecorder stats;
  SpillTracker spill_tracker;
  std::atomic<uint64_t> next_sequence = 1;
  WritesUnderWay writes;
  std::atomic<bool> ttl_used = false;

  // Either all are GPUs or the host stands in for each. The first one's driver pins L2, for all.
  Gpus gpus;
  std::unique_ptr<PinnedTier> l2;
  std::string l2_numa_placement;  // Empty: the system's.
  std::unique_ptr<StoreFiles> files;
  std::unique_ptr<AsyncIo> io;
  std::unique_ptr<L2Sections> l2_sections;
  std::unique_ptr<Index> index;
  std::unique_ptr<NvmeTier> l3;
  std::unique_ptr<DataFlusher> flusher;
  std::unique_ptr<DriveHealth> drive_health;
  TierEviction l2_eviction;
  TierEviction l3_eviction;
  std::unique_ptr<Journal> journal;
  std::unique_ptr<Admission> admission;
  std::unique_ptr<PrefetchQueue> prefetches;
  std::unique_ptr<PrefetchQueue> predictions;  // Of what no host has named. With its own account.
  std::unique_ptr<Predictor> predictor;        // Null: the options say so.
  std::unique_ptr<TierMover> l2_mover;
  std::unique_ptr<Defragmenter> l2_defragmenter;
  std::unique_ptr<L3Mover> l3_mover;
  std::unique_ptr<Defragmenter> l3_defragmenter;
  std::unique_ptr<Evictor> evictor;
  std::unique_ptr<IndexWriter> index_writer;
  std::unique_ptr<Directory> directory;
  std::unique_ptr<LeaseTable> leases;
  SpillContext spill_context = {};
  std::unique_ptr<Packer> packer;
  std::unique_ptr<LateSpills> late_spills;
  std::unique_ptr<EvictionFile> eviction_file;
  std::unique_ptr<PressureMonitor> pressure;  // Null: the options say so.

  // Asynchronous verbs that must wait for room, loads apart from stores so that neither holds the
  // other up; and the host's callbacks.
  std::unique_ptr<Worker> loads;
  std::unique_ptr<Worker> stores;
  std::unique_ptr<Worker> callbacks;
  std::unique_ptr<AsyncDeadlines> async_deadlines;

 private:
  StoreCore(const StoreOptions& store_options, StoreSeams seams);
  absl::Status OpenFiles();
  absl::Status OpenMemory();
  void TakeL2();
  absl::Status OpenGpus();
  absl::StatusOr<ArenaPlacement> PlaceL2();
  absl::Status OpenIndex();
  absl::Status SettleFingerprints();
  absl::Status Recover();
  void MakeFlusher();
  void MakeAdmission();
  void MakeDefragmenters();
  void StopDefragmenters();
  void RoomMade() {
    if (evictor != nullptr) evictor->RoomMade();
  }
  void MakeDirectory();
  void MakePrefetchQueues();
  void MakePressureMonitor();
  PressureReadings ReadPressure();
  std::optional<MemoryAmount> ReadGpuMemory() const;
  void RestoreEviction(bool expected);
  void MakeWorkers();
  absl::Status StartThreads();
  void Housekeep();
  void ReopenIndex();
  void SaveWriteBudget();
  void MakeJournal();
  void SaveJournal();

  const StoreSeams seams_;
  const std::function<int64_t()> now_unix_ms_;
  // One thread at a time: Open's, then the pressure monitor's.
  PressureReader pressure_reader_;
  std::optional<MemoryAmount> gpu_memory_;
  Deadline gpu_memory_read_at_;
  // Of the evictor's thread.
  std::string index_logged_;
  uint32_t index_turns_ = 0;          // Of housekeeping, between the last two tries to reopen it,
  uint32_t index_turns_left_ = 0;     // and until the next.
  uint32_t housekeeping_stripe_ = 0;  // Counts the turns.
  std::string write_budget_logged_;
  // Of its thread, and of Shutdown after it.
  Periodic journal_saver_;
  Journal::Counts journal_saved_ = {};
  std::string journal_logged_;
  std::string degraded_logged_;

  mutable Mutex log_mutex_;
};

// For tests; Store::Open is this without seams.
absl::StatusOr<std::unique_ptr<Store>> OpenStore(const StoreOptions& options, StoreSeams seams);

}  // namespace cairn
