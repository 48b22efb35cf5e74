#include "cairn/machine.h"

#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "src/base/strings.h"
#include "tools/inspect/commands.h"

namespace cairn::inspect {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();
constexpr uint32_t kHeadDims[] = {64, 128, 256, 512};
constexpr DType kTileDTypes[] = {DType::kFp32, DType::kBf16, DType::kFp8E4m3};
// What every GPU gives a block without being asked; taken where there is no GPU.
constexpr uint64_t kSharedBytesDefault = 48 << 10;

uint64_t SharedBytes(const Machine& machine) {
  return machine.gpus.empty() ? kSharedBytesDefault
                              : machine.gpus.front().shared_bytes_per_block_max;
}

Json GpuJson(const GpuProperties& gpu) {
  Json json = {{"ordinal", gpu.ordinal},
               {"name", gpu.name},
               {"memory_bytes", gpu.memory_bytes},
               {"memory_bytes_free", gpu.memory_bytes_free},
               {"compute_capability",
                absl::StrCat(gpu.compute_capability_major, ".", gpu.compute_capability_minor)},
               {"multiprocessors", gpu.multiprocessors},
               {"shared_bytes_per_block_max", gpu.shared_bytes_per_block_max},
               {"copy_engines", gpu.copy_engines},
               {"pcie_gigatransfers_per_s", gpu.pcie_gigatransfers_per_s},
               {"pcie_lanes", gpu.pcie_lanes}};
  json["numa_node"] = gpu.numa_node ? Json(*gpu.numa_node) : Json(nullptr);
  return json;
}

Json DriveJson(const Drive& drive) {
  return {{"directory", drive.directory},
          {"device", drive.device},
          {"bytes_total", drive.bytes_total},
          {"bytes_free", drive.bytes_free},
          {"rotational", drive.rotational},
          {"direct_io_alignment_bytes", drive.direct_io_alignment_bytes},
          {"queue_depth", drive.queue_depth},
          {"request_bytes_max", drive.request_bytes_max}};
}

Json TileJson(const Machine& machine) {
  Json tiles = Json::array();
  for (const DType dtype : kTileDTypes) {
    for (const uint32_t head_dim : kHeadDims) {
      tiles.push_back({{"dtype", DTypeName(dtype)},
                       {"head_dim", head_dim},
                       {"rows", AttentionTileRows(SharedBytes(machine), head_dim, dtype)}});
    }
  }
  return {{"shared_bytes_per_block", SharedBytes(machine)}, {"tiles", std::move(tiles)}};
}

Json MachineJson(const Machine& machine) {
  Json json = {{"cpus", machine.cpus}, {"cores_machine", machine.cores_machine}};
  json["caches"] = Json::array();
  for (const CpuCache& cache : machine.caches) {
    json["caches"].push_back(
        {{"level", cache.level}, {"bytes", cache.bytes}, {"cpus_sharing", cache.cpus_sharing}});
  }
  json["numa_nodes"] = Json::array();
  for (const NumaNode& node : machine.numa_nodes) {
    json["numa_nodes"].push_back(
        {{"node", node.node}, {"cpus", node.cpus}, {"memory_bytes", node.memory_bytes}});
  }
  json["memory_bytes"] = machine.memory_bytes;
  json["memory_bytes_available"] = machine.memory_bytes_available;
  json["memory_bytes_usable"] = machine.MemoryBytesUsable();
  json["memory_limit_bytes"] = machine.memory_limit_bytes;
  json["memory_limit_bytes_used"] = machine.memory_limit_bytes_used;
  json["huge_page_bytes"] = machine.huge_page_bytes;
  json["huge_pages_free"] = machine.huge_pages_free;
  json["transparent_huge_pages"] = machine.transparent_huge_pages;
  // JSON's readers keep 53 bits; no limit is no figure.
  if (machine.memlock_bytes_max == kUnlimited) {
    json["memlock_bytes_max"] = nullptr;
  } else {
    json["memlock_bytes_max"] = machine.memlock_bytes_max;
  }
  json["drive"] = DriveJson(machine.drive);
  json["io_uring"] = machine.io_uring_refusal.empty();
  json["io_uring_refusal"] = machine.io_uring_refusal;
  json["gpus"] = Json::array();
  for (const GpuProperties& gpu : machine.gpus) json["gpus"].push_back(GpuJson(gpu));
  json["gpu_refusal"] = machine.gpu_refusal;
  json["attention_tile"] = TileJson(machine);
  return json;
}

void PrintMachine(const Machine& machine, Output& output) {
  const auto line = [&output](const char* name, const std::string& text) {
    output.Line(absl::StrFormat("%-10s %s", name, text));
  };
  line("CPUs", absl::StrCat(machine.cpus, " for this process; ", machine.cores_machine,
                            " cores in the machine"));
  std::vector<std::string> caches;
  for (const CpuCache& cache : machine.caches) {
    caches.push_back(absl::StrCat("L", cache.level, " ", FormatBytes(cache.bytes), " for ",
                                  cache.cpus_sharing, cache.cpus_sharing == 1 ? " CPU" : " CPUs"));
  }
  line("caches", caches.empty() ? "not known" : absl::StrJoin(caches, ", "));
  for (const NumaNode& node : machine.numa_nodes) {
    line("NUMA", absl::StrCat("node ", node.node, ": ", node.cpus, " CPUs, ",
                              FormatBytes(node.memory_bytes)));
  }
  line("memory",
       absl::StrCat(FormatBytes(machine.memory_bytes), ", ",
                    FormatBytes(machine.memory_bytes_available), " available",
                    machine.memory_limit_bytes == 0
                        ? ""
                        : absl::StrCat("; the control group allows ",
                                       FormatBytes(machine.memory_limit_bytes), ", ",
                                       FormatBytes(machine.memory_limit_bytes_used), " used")));
  line("huge pages",
       absl::StrCat(
           machine.huge_pages_free, " free of 2 MiB; transparent: ",
           machine.transparent_huge_pages.empty() ? "not known" : machine.transparent_huge_pages));
  line("memlock", machine.memlock_bytes_max == kUnlimited ? "no limit"
                                                          : FormatBytes(machine.memlock_bytes_max));
  const Drive& drive = machine.drive;
  line("drive", absl::StrCat(drive.directory, " on ",
                             drive.device.empty() ? "no one block device" : drive.device, ": ",
                             FormatBytes(drive.bytes_free), " free of ",
                             FormatBytes(drive.bytes_total), ", queues ", drive.queue_depth,
                             " requests of up to ", FormatBytes(drive.request_bytes_max),
                             drive.rotational ? ", says that it rotates" : ""));
  line("O_DIRECT", drive.direct_io_alignment_bytes == 0
                       ? "the file system does not tell its alignment"
                       : absl::StrCat("aligned to ", drive.direct_io_alignment_bytes, " bytes"));
  line("io_uring", machine.io_uring_refusal.empty() ? "works" : machine.io_uring_refusal);
  for (const GpuProperties& gpu : machine.gpus) {
    line("GPU",
         absl::StrFormat(
             "%d: %s, compute %d.%d, %s free of %s, %d multiprocessors, %s shared memory a "
             "block, %d copy engines, PCIe %g GT/s x %d%s",
             gpu.ordinal, gpu.name, gpu.compute_capability_major, gpu.compute_capability_minor,
             FormatBytes(gpu.memory_bytes_free), FormatBytes(gpu.memory_bytes), gpu.multiprocessors,
             FormatBytes(gpu.shared_bytes_per_block_max), gpu.copy_engines,
             gpu.pcie_gigatransfers_per_s, gpu.pcie_lanes,
             gpu.numa_node ? absl::StrCat(", on NUMA node ", *gpu.numa_node) : ""));
  }
  if (machine.gpus.empty()) line("GPU", absl::StrCat("none: ", machine.gpu_refusal));
}

void PrintTiles(const Machine& machine, Output& output) {
  output.Line("");
  output.Line(absl::StrCat("Rows of an attention tile for ", FormatBytes(SharedBytes(machine)),
                           " of shared memory", machine.gpus.empty() ? " (no GPU)" : ""));
  output.Line(absl::StrFormat("%-10s %6s %6s %6s", "head_dim", "fp32", "bf16", "fp8"));
  for (const uint32_t head_dim : kHeadDims) {
    std::string line = absl::StrFormat("%-10d", head_dim);
    for (const DType dtype : kTileDTypes) {
      absl::StrAppendFormat(&line, " %6d",
                            AttentionTileRows(SharedBytes(machine), head_dim, dtype));
    }
    output.Line(line);
  }
}

}  // namespace

absl::StatusOr<int> ShowMachine(const Options& options, Output& output) {
  const Machine machine = DetectMachine(options.path);
  const RecommendedOptions recommended = RecommendOptions(machine, options.path);
  if (options.json) {
    Json json = MachineJson(machine);
    json["options"] = Json::array();
    for (const RecommendedOption& choice : recommended.choices) {
      json["options"].push_back(
          {{"option", choice.option}, {"value", choice.value}, {"reason", choice.reason}});
    }
    output.Json(json);
    return kSound;
  }
  PrintMachine(machine, output);
  output.Line("");
  output.Line("Options that suit it");
  for (const RecommendedOption& choice : recommended.choices) {
    output.Line(absl::StrFormat("%-24s %-14s %s", choice.option, choice.value, choice.reason));
  }
  PrintTiles(machine, output);
  return kSound;
}

}  // namespace cairn::inspect
