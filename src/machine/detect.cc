#include "src/machine/detect.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "io/async_io.h"
#include "io/file.h"
#include "src/base/strings.h"
#include "src/machine/numa_topology.h"
#include "src/machine/readings.h"
#include "tiers/device.h"

namespace cairn {
namespace {

constexpr char kCpuFolder[] = "/sys/devices/system/cpu";
constexpr char kHugePageFolder[] = "/sys/kernel/mm/hugepages/hugepages-2048kB";
// GPUs of one host; the driver counts them from 0.
constexpr int kGpusMax = 64;

uint32_t CountCores(const Readings& readings) {
  std::set<std::pair<uint64_t, uint64_t>> cores;
  for (const uint32_t cpu :
       ParseCpuList(readings.Text(absl::StrCat(kCpuFolder, "/online")).value_or(""))) {
    const std::string topology = absl::StrCat(kCpuFolder, "/cpu", cpu, "/topology/");
    cores.emplace(readings.Number(topology + "physical_package_id").value_or(0),
                  readings.Number(topology + "core_id").value_or(cpu));
  }
  return static_cast<uint32_t>(cores.size());
}

std::vector<CpuCache> ReadCaches(const Readings& readings) {
  std::vector<CpuCache> caches;
  const std::string folder = absl::StrCat(kCpuFolder, "/cpu0/cache");
  for (const std::string& name : readings.Names(folder)) {
    const std::string cache = absl::StrCat(folder, "/", name, "/");
    const std::optional<uint64_t> bytes = readings.Number(cache + "size");
    if (!bytes || readings.Text(cache + "type") == "Instruction") continue;
    caches.push_back(
        {.level = static_cast<uint32_t>(readings.Number(cache + "level").value_or(0)),
         .bytes = *bytes,
         .cpus_sharing = static_cast<uint32_t>(
             ParseCpuList(readings.Text(cache + "shared_cpu_list").value_or("")).size())});
  }
  std::sort(caches.begin(), caches.end(),
            [](const CpuCache& a, const CpuCache& b) { return a.level < b.level; });
  return caches;
}

std::vector<NumaNode> ReadNumaNodes(const Readings& readings) {
  std::vector<NumaNode> nodes;
  for (const uint32_t node :
       ParseCpuList(readings.Text(absl::StrCat(kNodeFolder, "/online")).value_or(""))) {
    const std::string folder = absl::StrCat(kNodeFolder, "/node", node);
    nodes.push_back({.node = node,
                     .cpus = static_cast<uint32_t>(
                         ParseCpuList(readings.Text(folder + "/cpulist").value_or("")).size()),
                     .memory_bytes = readings.Field(folder + "/meminfo", "MemTotal").value_or(0)});
  }
  return nodes;
}

// "always [madvise] never": the one that holds.
std::string Chosen(const std::string& text) {
  const size_t open = text.find('[');
  const size_t close = text.find(']');
  return open < close && close != std::string::npos ? text.substr(open + 1, close - open - 1) : "";
}

void ReadMemory(const Readings& readings, Machine& machine) {
  machine.memory_bytes = readings.Field("/proc/meminfo", "MemTotal").value_or(0);
  machine.memory_bytes_available = readings.Field("/proc/meminfo", "MemAvailable").value_or(0);
  if (const std::optional<MemoryLimit> limit = ReadMemoryLimit(readings)) {
    machine.memory_limit_bytes = limit->bytes_max;
    machine.memory_limit_bytes_used = limit->bytes_used;
  }
  if (const auto pages = readings.Number(absl::StrCat(kHugePageFolder, "/free_hugepages"))) {
    machine.huge_page_bytes = uint64_t{2} << 20;
    machine.huge_pages_free = *pages;
  }
  machine.transparent_huge_pages =
      Chosen(readings.Text("/sys/kernel/mm/transparent_hugepage/enabled").value_or(""));
}

// A partition's queue is its disk's.
void ReadDrive(const Readings& readings, uint64_t device_number, Drive& drive) {
  const std::string folder =
      absl::StrCat("/sys/dev/block/", major(device_number), ":", minor(device_number));
  const std::optional<std::string> name = readings.LinkName(folder);
  if (!name) return;
  drive.device = *name;
  std::string queue = absl::StrCat(folder, "/queue");
  if (readings.Names(queue).empty()) queue = absl::StrCat(folder, "/../queue");
  drive.rotational = readings.Number(queue + "/rotational") == 1;
  drive.queue_depth = static_cast<uint32_t>(readings.Number(queue + "/nr_requests").value_or(0));
  drive.request_bytes_max = readings.Number(queue + "/max_sectors_kb").value_or(0) << 10;
}

uint32_t CpusAllowed() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0) return 0;
  return static_cast<uint32_t>(CPU_COUNT(&cpus));
}

uint64_t MemlockBytesMax() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 0;
  return limit.rlim_cur == RLIM_INFINITY ? std::numeric_limits<uint64_t>::max() : limit.rlim_cur;
}

// The directory, or the nearest parent that exists.
std::string ExistingFolder(std::string_view directory) {
  std::error_code error;
  std::filesystem::path path = std::filesystem::absolute(std::filesystem::path(directory), error);
  while (!std::filesystem::is_directory(path, error) && path.has_relative_path()) {
    path = path.parent_path();
  }
  return path;
}

// As the file system tells it of a file (Linux 6.1 and later), by one that is gone again at once.
uint64_t DirectIoAlignment(const std::string& folder) {
#if defined(STATX_DIOALIGN)
  const int file = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0) return 0;
  struct statx status = {};
  const bool known = statx(file, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
                     (status.stx_mask & STATX_DIOALIGN) != 0;
  close(file);
  return known ? status.stx_dio_offset_align : 0;
#else
  (void)folder;
  return 0;
#endif
}

void FindGpus(const Readings& readings, Machine& machine) {
  for (int ordinal = 0; ordinal < kGpusMax; ++ordinal) {
    const absl::StatusOr<std::unique_ptr<Device>> device = Device::Open(DeviceKind::kCuda, ordinal);
    if (!device.ok()) {
      if (ordinal == 0) machine.gpu_refusal = ToStd(device.status().message());
      return;
    }
    absl::StatusOr<DeviceProperties> properties = (*device)->Properties();
    if (!properties.ok()) {
      machine.gpu_refusal = ToStd(properties.status().message());
      return;
    }
    const std::string folder = absl::StrCat("/sys/bus/pci/devices/", properties->pci_address, "/");
    const std::string speed = readings.Text(folder + "current_link_speed").value_or("");
    // "16.0 GT/s PCIe".
    if (!absl::SimpleAtod(absl::string_view(speed).substr(0, speed.find(' ')),
                          &properties->gpu.pcie_gigatransfers_per_s)) {
      properties->gpu.pcie_gigatransfers_per_s = 0;
    }
    properties->gpu.pcie_lanes =
        static_cast<uint32_t>(readings.Number(folder + "current_link_width").value_or(0));
    properties->gpu.numa_node = ReadNumaNodeOf(readings, properties->pci_address);
    machine.gpus.push_back(properties->gpu);
  }
}

}  // namespace

uint64_t Machine::MemoryBytesUsable() const {
  uint64_t usable = memory_bytes_available;
  if (memory_limit_bytes != 0) {
    usable = std::min(usable,
                      memory_limit_bytes - std::min(memory_limit_bytes, memory_limit_bytes_used));
  }
  return usable;
}

Machine ReadMachine(const MachineSources& sources) {
  const Readings readings(sources.root);
  Machine machine;
  machine.cpus = sources.cpus_allowed;
  machine.cores_machine = CountCores(readings);
  machine.caches = ReadCaches(readings);
  machine.numa_nodes = ReadNumaNodes(readings);
  ReadMemory(readings, machine);
  machine.memlock_bytes_max = sources.memlock_bytes_max;
  ReadDrive(readings, sources.device_number, machine.drive);
  return machine;
}

Machine DetectMachine(std::string_view directory) {
  const std::string folder = ExistingFolder(directory);
  struct stat status = {};
  const bool exists = stat(folder.c_str(), &status) == 0;
  Machine machine = ReadMachine({.root = "",
                                 .cpus_allowed = CpusAllowed(),
                                 .memlock_bytes_max = MemlockBytesMax(),
                                 .device_number = exists ? status.st_dev : 0});
  machine.drive.directory = folder;
  machine.drive.bytes_total = TotalBytes({folder}).value_or(0);
  machine.drive.bytes_free = FreeBytes(folder).value_or(0);
  machine.drive.direct_io_alignment_bytes = DirectIoAlignment(folder);
  const absl::StatusOr<std::unique_ptr<AsyncIo>> engine =
      AsyncIo::Open({.kind = IoEngineKind::kUring, .log = [](std::string_view /*line*/) {}});
  if (!engine.ok()) machine.io_uring_refusal = ToStd(engine.status().message());
  FindGpus(Readings(""), machine);
  return machine;
}

}  // namespace cairn
