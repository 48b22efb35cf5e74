#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cairn/export.h"
#include "cairn/tensor.h"

namespace cairn {

enum class DeviceKind : uint8_t {
  kAuto,  // A GPU where one answers, else the host stands in.
  kCuda,  // Open fails with kUnavailable without a GPU.
  kHost,  // Never look for a GPU.
};

// What memory of its GPU an L1 is.
enum class L1Memory : uint8_t {
  kDevice,   // The GPU's alone (cudaMalloc).
  kManaged,  // One that the host may touch too (cudaMallocManaged), kept with the GPU.
};

enum class IoEngineKind : uint8_t {
  kAuto,   // io_uring where the kernel lets us (probed, never by version), else posix.
  kUring,  // Open fails with kUnavailable where io_uring is refused.
  kPosix,  // A pool of threads with pread and pwrite.
};

// How a tier's memory is cut.
enum class AllocatorKind : uint8_t {
  kHybrid,   // Slabs for the sizes that most tensors have, TLSF for others: wastes 0 to 3 %, O(1).
  kBuddy,    // Powers of two: wastes up to half of other sizes, joins what is free best.
  kBestFit,  // A search tree of the free runs: wastes nothing, takes ten times as long.
};

// When a Put whose durability is kStoreDefault is acknowledged.
enum class WritePolicy : uint8_t {
  kWriteBack,     // When it is in L2; the write to L3 starts at once in the background.
  kWriteThrough,  // When it is on L3 and in the index.
};

// When a Put is acknowledged. Each level contains the ones before it. The last put of a key decides
// what its key survives: one replaced by another of less durability may be lost with it, but never
// comes back in its stead once that one is on L3.
enum class Durability : uint8_t {
  kStoreDefault,  // As StoreOptions::write_policy says.
  kInMemory,      // In L2. Lost when the process dies before the background write.
  kOnDevice,      // Written to L3 and indexed. Survives the death of the process.
  kFlushed,       // Device flushed, index synced. Survives the loss of power. One flush serves
                  // all puts that wait for one.
};

// What leaves a tier that is full.
enum class EvictionKind : uint8_t {
  kTuned,  // As S3-FIFO with a long memory, and a probation that fits itself to the load.
  kLru,    // Least recently used.
  kClock,
  kArc,
  kS3Fifo,  // As published: a tenth for probation.
};

// What a class of tensors has of a tier, as shares of it (StoreOptions::l2_class_shares).
struct ClassShare {
  double min = 0;  // Tensors of other classes never take this from it.
  double max = 1;  // What it has beyond leaves first. Room that nobody else wants it may use.
};

// One of each TensorClass.
struct CAIRN_EXPORT ClassShares {
  ClassShare general;
  ClassShare kv;
  ClassShare vision;
  ClassShare text;

  ClassShare& of(TensorClass tensor_class);
  const ClassShare& of(TensorClass tensor_class) const;
};

// Whether L3 may drop a tensor to make room. The values are on disk.
enum class Retention : uint8_t {
  kCache = 0,  // May be evicted. A put of it finds room by evicting others.
  kKeep = 1,   // Never evicted; only Erase, a purge or its TTL removes it. A put that finds no
               // room says so (kResourceExhausted) and changes nothing.
};

enum class IfExists : uint8_t {
  kReplace,  // The new bytes take the key; readers of the old ones finish undisturbed.
  kKeep,     // OK without a write: for keys that name their content.
};

// What Open does when the directory holds tensors of another fingerprint.
enum class OtherFingerprint : uint8_t {
  kRefuse,  // kFailedPrecondition, naming both.
  kShare,   // The fingerprints share the space; none sees a key of another.
  kPurge,   // They are erased: the model has changed.
};

struct CAIRN_EXPORT StoreOptions {
  static constexpr uint64_t kL1BytesMin = uint64_t{1} << 20;
  static constexpr size_t kGpusMax = 16;
  static constexpr uint64_t kL2BytesMin = uint64_t{4} << 20;
  static constexpr uint64_t kL3BytesMin = uint64_t{32} << 20;
  static constexpr uint64_t kIndexBytesMin = uint64_t{8} << 20;
  static constexpr uint64_t kL3WritesUnlimited = UINT64_MAX;
  static constexpr uint32_t kDataWeightMax = 64;
  static constexpr uint32_t kJournalRecordsMax = uint32_t{16} << 20;

  // The directory of the store. Created when missing (its parent must exist). Required.
  std::string path;

  // Directories that the tensors are spread over, one on each drive, so that the bandwidth and the
  // space of all add up; `path` keeps the index. They must exist: none is made, for one that is
  // not there is mostly a drive that is not mounted. In each the store makes a folder
  // cairn-UUID.N of its own, so several stores can share one. Every drive gets the same share of
  // l3_bytes_max, or that of its weight (data_weights), and tensors are written to them turn about;
  // a tensor lies on one drive.
  // Empty: a new store has everything in `path`, an existing one its tensors where it has them.
  // Their number and order stay what they were when the store was made. Where a drive is mounted
  // elsewhere since, name the new place; it is remembered. A drive that is not there, or whose
  // folder is another's, refuses the store by name (kFailedPrecondition), and nothing is changed.
  std::vector<std::string> data_paths;

  // For drives of different size or speed: a weight for each of data_paths, 1 to kDataWeightMax.
  // Beside a drive of weight 1 one of weight 3 holds three quarters of l3_bytes_max, to within a
  // data file or two, and takes three of four bytes that are written; which drive is next is told
  // by both, so that any batch is spread so. A drive that is full or drained is passed over. Only
  // what the weights are to one another counts, and they had better be small: the shares are met
  // exactly by as many data files as they add up to in lowest terms, or a multiple, and a tensor
  // must fit one. Each drive has a data file at least, or the store is refused (kInvalidArgument).
  // Empty: all alike, or as an existing store has them. They are fixed when the store is made:
  // others at a later Open refuse it (kFailedPrecondition, naming both). A store with weights is
  // refused, by its format version, by builds that know none.
  std::vector<uint32_t> data_weights;

  // What the bytes depend on and the key does not say: model, revision, dtype, layout, parallel
  // rank, tokens a block. Part of every key's identity. At most 255 bytes; may be empty.
  std::string fingerprint;
  OtherFingerprint other_fingerprint = OtherFingerprint::kRefuse;

  DeviceKind device = DeviceKind::kAuto;
  // Memory of each GPU for tensors, taken at Open; 0: no L1, or at least kL1BytesMin. Where no GPU
  // answers and `device` allows it, memory of the host stands in for each, and the log says so.
  uint64_t l1_bytes_max = 0;
  // kManaged: handles on L1 say MemoryKind::kManaged, and the host's own instructions may read what
  // they are on once the copy there has been done, page by page over the link. Each L1 is bound to
  // its GPU by advice, what is lifted is brought there ahead of the copy, and Open takes no more
  // than that GPU has free (kResourceExhausted); but the driver may move it away when others ask
  // for more than the GPU has, and nobody is told. kUnavailable where a GPU and the host cannot use
  // such memory at the same time. Where the host stands in for a GPU it is the same as kDevice.
  L1Memory l1_memory = L1Memory::kDevice;
  // The GPUs by the driver's numbers, each once, at most kGpusMax. Each has an L1 of its own, with
  // its own room and order of eviction; a tensor is in the L1 of each that it was asked for on
  // (GetOptions::gpu). L2 is pinned for all of them, by the first one's driver. Where some answer
  // and others do not, Open says kUnavailable.
  std::vector<int> gpus = {0};
  // Host memory for tensors. At least kL2BytesMin. Taken at Open where it is registered with the
  // I/O engine, else touched as it fills. With a GPU its driver pins it after Open, in chunks of at
  // most 64 GiB, while the store serves (StatsSnapshot::l2_bytes_pinned): copies from and to what
  // is not pinned yet are slower, and nothing else.
  uint64_t l2_bytes_max = uint64_t{1} << 30;
  AllocatorKind l2_allocator = AllocatorKind::kHybrid;
  // On a machine with several NUMA nodes: the one that is preferred for L2, which is filled up to
  // 7/8 of what is free there when the store is opened; then come the others, nearest first. A node
  // that does not exist, or that this process may not use, refuses the store (kInvalidArgument).
  // -1: that of the first GPU; without one all nodes with CPUs take pages in turn. Never a bound: a
  // node that is full leaves pages to others. StatsSnapshot::l2_numa_placement says what became of
  // it. With one node it is nothing.
  int32_t l2_numa_node = -1;
  // Gives way when the host runs short of memory. Of each memory (the host's, and that of every
  // control group around the process, version 1 or 2, that has a limit) an eighth is to stay free,
  // 8 GiB at most; what of that is gone, in per cent, is the pressure, or the share of the time in
  // which tasks waited for memory (PSI) where that is more. Files that the kernel could drop count
  // as free. It is read ten times a second, forty times from medium on.
  //   From 30 % on, medium: prefetches are ahead by an eighth of what they may else.
  //   From 80 % on, or where it will be so in half a second as it rises now, high: no prefetch
  //   begins, and L2 gives 1/32 at a time back to the system, until the pressure is 25 %; what lies
  //   there leaves L2, clean tensors at once, others when they are written, or, from 90 % on, if
  //   nobody was promised them on L3, for good. What is pinned stays.
  //   Below: L2 takes memory back, little by little, where the whole eighth stays free.
  // A level is left 5 and 10 % lower. Open takes of l2_bytes_max what is there by the same rule.
  // L2 is not given back where its pages are reserved huge pages or pinned by a GPU's driver;
  // StatsSnapshot::pressure says so. What cannot be read is no pressure.
  bool heed_memory_pressure = true;
  // Of l2_bytes_max, what is kept whatever the pressure. While L2 is small, a tensor larger than it
  // finds no room. 0: an eighth of l2_bytes_max.
  uint64_t l2_bytes_min = 0;
  // When more than this share of the free space of a tier is in pieces too small for the tensors
  // that came of late (TierStats::free_share_unusable), tensors are moved together, out of the
  // stretch of the tier where least lies; and so they are when a large tensor finds no room though
  // enough is free. Nobody waits for a move, and what somebody holds is not moved. On L3 a move is
  // one more write of the tensor, flushed before its old place is used again, within the write
  // budget (l3_write_bytes_per_day): where nothing of that is in hand nothing is moved. While less
  // than an eighth of L3 is free, cached tensors that would be evicted next anyway are let go
  // instead. Tensors under 64 KiB, which share their records, stay where they are on L3, with the
  // stretch that they lie in. In (0, 1]; 1: never.
  double unusable_share_max = 0.3;
  // At most this much is moved in a second in each tier without a demand: by default a fortieth of
  // what one core copies, and a small part of what an SSD writes. At least 1.
  uint64_t move_bytes_per_second = uint64_t{256} << 20;
  // Bytes on disk under `path` and all data_paths together, index and logs included. At least
  // kL3BytesMin. All data files are allocated at Open, so a disk that is too small says so then and
  // not later. A store opened with less than last time gives files back and forgets what was in
  // them; kKeep tensors there refuse it.
  uint64_t l3_bytes_max = uint64_t{16} << 30;

  // Open writes new data files with zeros, once. A disk that finds a block its place at the first
  // write (a virtual or thin one) takes that write at about two thirds of the rate of the next
  // (bench/RESULTS.md); with this the first fill of a store is as fast as the second. It costs Open
  // the time and the SSD the wear of one write of l3_bytes_max. Where the disk's blocks have been
  // written before it gains nothing: ext4's unwritten extents alone cost nothing measurable.
  bool l3_prewrite = false;

  // Of l3_bytes_max, what the index may occupy, logs included: 8 MiB to half of it; 0: 1/64 of it,
  // 8 MiB at least and 4 GiB at most. An entry takes about 330 bytes of it (with a key of 32 bytes
  // and 2 dimensions), and a sixteenth is for what is known of the use of tensors, so the default
  // serves tensors of 22 KiB and more on average. A put that
  // finds it full lets the coldest tensors go, like one that finds no room on L3. A share that
  // grows takes its bytes from the data files, as a smaller l3_bytes_max does.
  uint64_t l3_index_bytes_max = 0;

  // What may be written to L3 in a day, so that the SSD lives: record headers and padding included,
  // the index and packs' tables not. 0: as much as the drives hold (the file systems
  // that the tensors lie on, each once): one drive write a day, which drives are mostly rated for
  // over five years. kL3WritesUnlimited: no budget, everything is written.
  //
  // A put that asks for no more than L2 (Durability::kInMemory, Retention::kCache) is written where
  // the budget allows it, chain by chain (Store::CountLeading): first what was seen before, then
  // what is new; partial blocks never (PutOptions::partial_block). What is refused is in L2 alone
  // until it leaves that; it is looked at again when it is used or put again. Everything else is a
  // promise, and is written whatever the budget says and counted against it: kOnDevice, kFlushed,
  // kWriteThrough, kKeep, PutFrom, and, by Flush and by Evict to L3, what was refused before.
  //
  // The budget gathers up to a tenth of a day, so no 24 hours see more than 1.1 times it (but for
  // promises, and a minute's or two for tensors seen before), and begins with nothing in hand. One
  // that is derived gathers at least l3_bytes_max, and a new store begins with that in hand. What
  // is in hand is kept over restarts: a store that is killed forgets at most its last second.
  uint64_t l3_write_bytes_per_day = 0;

  WritePolicy write_policy = WritePolicy::kWriteBack;
  // Share of L2 that may wait for its write to L3; a Put beyond waits. Less where memory is short.
  double l2_dirty_share_max = 0.5;

  // Of L2 and L3 alike. All let a chain's last blocks go first (Store::CountLeading). The default
  // hits most, above all where a tier is small beside what is put into it (bench/RESULTS.md); it
  // remembers keys that have left, at 16 to 32 bytes each, four times as many as a tier holds and
  // at most 4 million of each tier.
  EvictionKind eviction = EvictionKind::kTuned;

  // What each class of tensors (PutOptions::tensor_class) is sure of in L2 and in L3, and how far
  // it may go. Between these each tier divides itself: to the class that hits most bytes with the
  // next piece of it, found out by shadows as the load changes; and room that a class leaves idle
  // others use. By default no class is sure of anything. Shares are in [0, 1], a min is not over
  // its max, all min together are at most kClassMinsMax, and all max at least 1: there is always
  // something to divide. A min gives way only where a tensor would be refused otherwise: nothing
  // else may leave, and nothing is on its way.
  static constexpr double kClassMinsMax = 0.9;
  ClassShares l2_class_shares;
  ClassShares l3_class_shares;

  IoEngineKind io_engine = IoEngineKind::kAuto;
  // Bytes handed to the device at once: what sets its queue depth. 4-8 MiB saturates one SSD;
  // several Gen5 drives want 32 MiB. Requests are at most 1 MiB each.
  uint64_t io_bytes_in_flight_max = uint64_t{8} << 20;
  uint32_t io_threads = 4;  // Of the posix engine.
  // Of io_uring, for machines with cores to spare. A thread of the kernel's takes requests over
  // (SQPOLL), so that none costs a system call; it keeps a core busy until it has had none for so
  // long, at most kIoSubmissionPollingMax, in whole milliseconds. Zero: no such thread.
  static constexpr absl::Duration kIoSubmissionPollingMax = absl::Hours(1);
  absl::Duration io_submission_polling = absl::ZeroDuration();
  // Completions are looked for at the device, and not told by interrupts (IOPOLL): keeps a core
  // busy while anything is in flight. For NVMe drives with queues for it (nvme.poll_queues).
  // What of the two the kernel, the file system or a drive refuses is done without:
  // StatsSnapshot::io_polling_refusal.
  bool io_completion_polling = false;

  // Size of one data file on L3: 16 MiB to 1 GiB, a multiple of 2 MiB. A tensor must fit one.
  // 0: 256 MiB, less in small stores, up to 1 GiB in large ones. An existing store keeps its own.
  uint64_t data_file_bytes = 0;

  // Prefetches waiting or in flight; more are dropped and counted.
  uint32_t prefetch_queue_max = 4096;
  // Of L2, what WillNeed may load ahead: what is on its way, and what is there and was not asked
  // for yet. The next is loaded when there is less. While fewer than half of the last prefetches
  // were asked for, an eighth of this. 0: a quarter of L2.
  uint64_t prefetch_ahead_bytes_max = 0;
  // Prefetches what no host has named (Store::WillNeed) but is likely to be asked for: what came
  // after a key the last time, where that was the same the time before or there was no other, and,
  // where nothing is known, the next of keys that end in numbers at one distance. It learns from
  // CountLeading, and from what one thread gets and puts one after the other, so it is of use to
  // hosts whose threads follow one chain at a time; it follows Get and GetAsync by 8 tensors, or as
  // many as are asked for at once, up to 64. Guesses wait behind all hints, may be ahead by half of
  // what these may, and by an eighth of that while fewer than half of them are right.
  // 16 bytes of memory for each 256 KiB of l3_bytes_max, 64 MiB at most.
  bool prefetch_predicted = false;
  // Asynchronous calls waiting or in flight; more are refused with kResourceExhausted.
  uint32_t async_queue_max = 65536;
  uint32_t stripe_count = 64;  // Of the directory; a power of two.

  // Of what is decided for tensors (cairn/journal.h), the last so many are kept for
  // Store::Explain, and in PATH/journal, written every 5 minutes and at Close, for
  // `store-inspect why`. Each takes 24 bytes of memory and 48 of the index's share of L3, of which
  // they get a 32nd at most. 0: none. At most kJournalRecordsMax.
  uint32_t journal_records_max = 65536;

  // How long a Close waits for the device, which may have to write half of L2 first.
  absl::Duration close_timeout = absl::Minutes(5);

  // Gets one line for what an operator should know (a fallback, a degraded mode). Called from any
  // thread, not concurrently. Default: standard error.
  std::function<void(std::string_view line)> log;

  // kInvalidArgument, naming the field and its value.
  absl::Status Validate() const;
};

struct PutOptions {
  Durability durability = Durability::kStoreDefault;
  Retention retention = Retention::kCache;
  IfExists if_exists = IfExists::kReplace;
  TensorClass tensor_class = TensorClass::kGeneral;
  // The last block of a chain, not full yet: soon to be put again, full, under another key. It is
  // not worth a write to L3, and where there is a write budget it gets none but by promise.
  bool partial_block = false;
  // How long it takes to compute the tensor again, where the host knows: with what it waits for
  // before it, and as this store's tensors compare with one another. What takes four times as
  // long for each byte stays three times as long in a full tier; a class of which it is so gets
  // more of it. Counts in powers of two, from 1/16 ns to 1 us a byte; of a chain
  // (Store::CountLeading) all count as the first that is used. 0: not known, counts as 1 ns a byte.
  // Not negative.
  absl::Duration recompute_cost = absl::ZeroDuration();
  // After this the tensor is gone (by the wall clock, kept over restarts). InfiniteDuration: never.
  absl::Duration ttl = absl::InfiniteDuration();
  // For room in L2 and L3, and for the device when durability asks for it. Then kResourceExhausted
  // (no room; nothing stored) or kDeadlineExceeded (stored; the write goes on).
  absl::Duration timeout = absl::Seconds(30);
  // Of bytes in GPU memory: they are read behind what this stream was given before the call. None:
  // they are complete.
  std::optional<StreamRef> producer;
};

struct GetOptions {
  // kL2Pinned: a handle on host memory. kL1Gpu: on memory of a GPU.
  Level want = Level::kL2Pinned;
  // Of kL1Gpu: the ordinal of that GPU, one of StoreOptions::gpus, else kInvalidArgument. None: the
  // consumer's, and without one the first of them.
  std::optional<int> gpu;
  // Then kDeadlineExceeded; the load goes on and a later Get finds it.
  absl::Duration timeout = absl::Seconds(30);
  // Of kL1Gpu. With it a Get ends as soon as the copy to L1 is under way: what this stream is given
  // after that end reads the tensor, anybody else must wait for the stream. A copy that the device
  // then fails to make shows as that stream's error. None: the bytes are there when the Get ends.
  std::optional<StreamRef> consumer;
};

struct PrefetchOptions {
  Level to = Level::kL2Pinned;  // Or kL1Gpu.
  std::optional<int> gpu;       // Of kL1Gpu, as in GetOptions.
};

struct WillNeedOptions {
  Level to = Level::kL2Pinned;  // Or kL1Gpu.
  std::optional<int> gpu;       // Of kL1Gpu, as in GetOptions.
  // How long from now until the tensors are asked for: what is due first is loaded first.
  absl::Duration due = absl::ZeroDuration();
  int32_t priority = 0;  // Of what is due at the same moment the highest is loaded first.
};

// Names one call of WillNeed.
using PrefetchToken = uint64_t;

struct LeaseOptions {
  // How long the counted tensors stay where they are if the lease is not released sooner.
  absl::Duration duration = absl::Seconds(10);
};

}  // namespace cairn
