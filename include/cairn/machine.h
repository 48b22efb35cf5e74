#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/export.h"
#include "cairn/options.h"
#include "cairn/tensor.h"

namespace cairn {

struct GpuProperties {
  int ordinal = 0;
  std::string name;
  uint64_t memory_bytes = 0;
  uint64_t memory_bytes_free = 0;
  int compute_capability_major = 0;
  int compute_capability_minor = 0;
  uint32_t multiprocessors = 0;
  uint64_t shared_bytes_per_block_max = 0;  // What a kernel may opt in to.
  uint32_t copy_engines = 0;
  double pcie_gigatransfers_per_s = 0;  // Of the link as it runs now, a lane: 16 is PCIe 4.
  uint32_t pcie_lanes = 0;
  std::optional<uint32_t> numa_node;  // That it is attached to; none: the system does not tell.
};

struct CpuCache {
  uint32_t level = 0;
  uint64_t bytes = 0;
  uint32_t cpus_sharing = 0;
};

struct NumaNode {
  uint32_t node = 0;
  uint32_t cpus = 0;
  uint64_t memory_bytes = 0;
};

// What a directory's files lie on.
struct Drive {
  std::string directory;
  std::string device;  // "nvme0n1"; empty where the file system has no one device (tmpfs, overlay).
  uint64_t bytes_total = 0;
  uint64_t bytes_free = 0;  // Of the file system, for this user.
  bool rotational = false;
  // What offsets and lengths of O_DIRECT must be multiples of; 0: unknown, or no O_DIRECT.
  uint64_t direct_io_alignment_bytes = 0;
  uint32_t queue_depth = 0;        // Requests that the kernel queues.
  uint64_t request_bytes_max = 0;  // Longer ones are split.
};

// What a process finds where it runs. A figure that the system does not tell is 0, a text empty.
struct CAIRN_EXPORT Machine {
  uint32_t cpus = 0;             // That this process may run on.
  uint32_t cores_machine = 0;    // Of the machine; threads of one core count once.
  std::vector<CpuCache> caches;  // Data and unified ones of the first CPU, by level.
  std::vector<NumaNode> numa_nodes;

  uint64_t memory_bytes = 0;
  uint64_t memory_bytes_available = 0;  // Of the machine, without swapping.
  // Of the tightest control group around the process; 0: no limit.
  uint64_t memory_limit_bytes = 0;
  uint64_t memory_limit_bytes_used = 0;  // Of that, without what the kernel could drop.
  uint64_t huge_page_bytes = 0;
  uint64_t huge_pages_free = 0;
  std::string transparent_huge_pages;  // "always", "madvise" or "never".
  uint64_t memlock_bytes_max = 0;      // UINT64_MAX: no limit.

  Drive drive;
  std::string io_uring_refusal;  // Why the kernel refuses io_uring; empty: it does not.

  std::vector<GpuProperties> gpus;
  std::string gpu_refusal;  // Why there are none.

  // What this process could still take: of the machine and of its control group.
  uint64_t MemoryBytesUsable() const;
};

// Looks at the system once, and at the drive of the directory, which need not exist yet: then at
// that of the nearest parent that does. Takes milliseconds, and on a machine with GPUs as long as
// their driver takes to start.
CAIRN_EXPORT Machine DetectMachine(std::string_view directory);

struct RecommendedOption {
  std::string option;  // As StoreOptions names it.
  std::string value;
  std::string reason;
};

struct RecommendedOptions {
  StoreOptions options;
  std::vector<RecommendedOption> choices;  // One for each field that was set.
};

// Options for a store in the directory, from a laptop of 8 GB to a server: what the tiers may take
// leaves the larger part of each memory to the host. All of them valid; every choice says why.
CAIRN_EXPORT RecommendedOptions RecommendOptions(const Machine& machine,
                                                 std::string_view directory);

// Rows of a tile of attention: so many that three tiles (of queries, keys and values) of rows x
// head_dim elements fit the shared memory of one block of threads, as a power of two. 0: not even
// one row fits. 48 KiB of fp32 give 64, 32, 16 and 8 for a head_dim of 64, 128, 256 and 512.
CAIRN_EXPORT uint32_t AttentionTileRows(uint64_t shared_bytes_per_block, uint32_t head_dim,
                                        DType dtype);

}  // namespace cairn
