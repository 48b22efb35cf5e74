#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cairn/options.h"

namespace cairn::bench {

enum class Tier : uint8_t {
  kNvme,    // The engine under L3, on data files; no keys.
  kStore,   // By key, between the caller's memory and L3.
  kPinned,  // By key, between the caller's memory and L2.
  kGpu,     // By key, from L2 to L1.
};
const char* TierName(Tier tier);

enum class Engine : uint8_t {
  kAuto,
  kUring,
  kPosix,
  kNull,  // Completes at once: what is left is the cost of measuring.
};
const char* EngineName(Engine engine);

enum class Access : uint8_t { kRead, kWrite, kRandRead, kRandWrite, kReadWrite, kRandReadWrite };

// One of the sizes of a bssplit.
struct SizeShare {
  uint64_t bytes = 0;
  uint32_t percent = 0;
};

// One job, as fio means the word.
struct Job {
  std::string name;
  Tier tier = Tier::kNvme;
  Engine engine = Engine::kAuto;
  bool polls_submissions = false;  // sqthread_poll; of the store's options, as hipri.
  bool polls_completions = false;  // hipri.
  std::string directory;
  Access access = Access::kRead;
  uint32_t read_percent = 50;  // Of a mixed access.
  uint64_t block_bytes = 4096;
  std::vector<SizeShare> split;  // Instead of block_bytes, when not empty.
  uint64_t size = 0;             // Bytes that are worked on.
  uint64_t io_size = 0;          // Bytes to move; 0: `size`.
  uint32_t depth = 1;
  uint32_t clones = 1;  // numjobs.
  double runtime_s = 0;
  bool time_based = false;
  double ramp_s = 0;
  bool verify = false;
  uint32_t sync_every = 0;  // Writes from one flush to the next; 0: none.
  Durability durability = Durability::kOnDevice;
  uint64_t l2_bytes = 0;       // 0: chosen.
  uint64_t buffers_bytes = 0;  // 0: chosen.
  bool group_reporting = false;
  bool stonewall = false;
  uint64_t seed = 1;

  // How long the kernel's thread polls before it sleeps: what fio's does, as nobody tells it.
  static constexpr absl::Duration kSubmissionPolling = absl::Seconds(1);

  // As they were given, in order: for reports.
  std::vector<std::pair<std::string, std::string>> given;

  bool reads() const { return access != Access::kWrite && access != Access::kRandWrite; }
  bool writes() const { return access != Access::kRead && access != Access::kRandRead; }
  bool random() const {
    return access == Access::kRandRead || access == Access::kRandWrite ||
           access == Access::kRandReadWrite;
  }

  // The largest request: blocks are this far apart.
  uint64_t slot_bytes() const;
  // What block `unit` is long, the same whenever it is asked.
  uint64_t BytesOf(uint64_t unit) const;
  // Writes from one flush to the next, 0: none; puts that are acknowledged when they are flushed
  // have one each, which a store makes for many at once.
  uint32_t flushed_every() const { return durability == Durability::kFlushed ? 1 : sync_every; }
  uint64_t bytes_wanted() const { return io_size != 0 ? io_size : size; }
  // Memory that the requests of a thread take in turn, `depth` at a time: two buffers for each
  // where bytes are looked at (tier=store) and blocks are not small, so that what was summed last,
  // and is in a core's cache, is not what the device writes to next. Not more unless asked for:
  // fio's are as few, and a virtual disk fills memory that nobody has in a cache at two thirds of
  // the rate, whoever reads (bench/RESULTS.md).
  uint32_t buffers_per_slot() const;
};

// What no single option can be blamed for. kInvalidArgument.
absl::Status Validate(const Job& job);

}  // namespace cairn::bench
