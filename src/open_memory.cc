// The memory of a store, as it is opened: the GPUs, L1 on each, L2 and its place, and what of L2 is
// in use.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "src/base/clock.h"
#include "src/base/status_macros.h"
#include "src/machine/numa_topology.h"
#include "src/machine/readings.h"
#include "src/store_core.h"

namespace cairn {
namespace {

uint64_t L2BytesMin(const StoreOptions& options) {
  return options.l2_bytes_min > 0 ? options.l2_bytes_min : options.l2_bytes_max / 8;
}

}  // namespace

absl::Status StoreCore::OpenGpus() {
  for (const int ordinal : options.gpus) {
    CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Device> device,
                           seams_.open_device ? seams_.open_device(options.device, ordinal)
                                              : Device::Open(options.device, ordinal));
    gpus.push_back(std::make_unique<Gpu>(std::move(device), [this] { RoomMade(); }));
  }
  // A wrong number among GPUs that answer is a mistake, not a machine without them.
  const auto is_gpu = [](const std::unique_ptr<Gpu>& gpu) { return gpu->device->is_gpu(); };
  const auto absent = std::find_if_not(gpus.begin(), gpus.end(), is_gpu);
  if (absent != gpus.end() && std::any_of(gpus.begin(), gpus.end(), is_gpu)) {
    return absl::UnavailableError(absl::StrCat("GPU ", (*absent)->ordinal(),
                                               " of StoreOptions::gpus does not answer, and "
                                               "others do: ",
                                               (*absent)->device->gpu_status().message()));
  }
  if (options.l1_bytes_max == 0) return absl::OkStatus();
  for (const std::unique_ptr<Gpu>& gpu : gpus) {
    CAIRN_ASSIGN_OR_RETURN(
        gpu->l1, GpuTier::Create(options.l1_bytes_max, gpu->device.get(), options.l1_memory));
  }
  if (absent == gpus.end()) return absl::OkStatus();
  Log(absl::StrCat("L1 is memory of the host: HostDevice stands in for ",
                   gpus.size() == 1 ? "a GPU" : absl::StrCat(gpus.size(), " GPUs"), ", as ",
                   (*absent)->device->gpu_status().message()));
  return absl::OkStatus();
}

absl::StatusOr<ArenaPlacement> StoreCore::PlaceL2() {
  std::string pci_address;
  if (const Device& device = *gpus.front()->device; device.is_gpu()) {
    const absl::StatusOr<DeviceProperties> properties = device.Properties();
    if (properties.ok()) pci_address = properties->pci_address;
  }
  std::optional<uint32_t> wanted;
  if (options.l2_numa_node >= 0) wanted = static_cast<uint32_t>(options.l2_numa_node);
  ArenaPlacement placement;
  CAIRN_ASSIGN_OR_RETURN(
      placement.ranges,
      PlanNumaPlacement(ReadNumaTopology(Readings(seams_.machine_root), pci_address),
                        options.l2_bytes_max, wanted));
  if (seams_.place_memory) placement.place = seams_.place_memory;
  return placement;
}

absl::Status StoreCore::OpenMemory() {
  CAIRN_RETURN_IF_ERROR(OpenGpus());
  CAIRN_ASSIGN_OR_RETURN(const ArenaPlacement placement, PlaceL2());
  CAIRN_ASSIGN_OR_RETURN(l2, PinnedTier::Create(options.l2_bytes_max, gpus.front()->device.get(),
                                                {.allocator = options.l2_allocator,
                                                 .pin_chunk_bytes = seams_.l2_pin_chunk_bytes,
                                                 .placement = placement}));
  if (l2->arena().placement_status().ok()) {
    l2_numa_placement = DescribeNumaPlacement(placement.ranges);
  } else {
    Log(absl::StrCat("L2's pages go to the NUMA nodes that the system chooses: ",
                     l2->arena().placement_status().message()));
  }
  AsyncIo::Options io_options;
  io_options.kind = options.io_engine;
  io_options.bytes_in_flight_max = options.io_bytes_in_flight_max;
  io_options.threads = options.io_threads;
  io_options.submission_polling = options.io_submission_polling;
  io_options.completion_polling = options.io_completion_polling;
  io_options.log = [this](std::string_view line) { Log(line); };
  CAIRN_ASSIGN_OR_RETURN(io,
                         seams_.open_io ? seams_.open_io(io_options) : AsyncIo::Open(io_options));
  if (seams_.wrap_io) io = seams_.wrap_io(std::move(io));
  l2_sections = std::make_unique<L2Sections>(l2.get(), io.get());
  return absl::OkStatus();
}

// Last of all, as nobody gives way before the monitor looks.
void StoreCore::TakeL2() {
  std::function<int64_t()> bytes_spare;
  if (options.heed_memory_pressure) {
    bytes_spare = [this] { return HostBytesUntil(ReadPressure(), /*percent=*/0); };
  }
  const absl::Status registered = l2_sections->Begin(bytes_spare, L2BytesMin(options));
  l2_eviction.SetBytesMax(l2_sections->bytes_usable());
  if (l2_sections->bytes_usable() < l2->bytes_max()) {
    Log(absl::StrCat("memory is short: L2 begins with ", l2_sections->bytes_usable(), " of ",
                     l2->bytes_max(), " bytes, and grows when there is more"));
  }
  if (!registered.ok()) {
    Log(absl::StrCat("L2, ", l2->bytes_max() >> 20,
                     " MiB, is not registered with the I/O engine, which costs a little CPU time: ",
                     registered.message()));
  }
}

// Of the GPU that is shortest of it.
std::optional<MemoryAmount> StoreCore::ReadGpuMemory() const {
  std::optional<MemoryAmount> shortest;
  for (const std::unique_ptr<Gpu>& gpu : gpus) {
    const absl::StatusOr<DeviceMemory> memory = gpu->device->Memory();
    if (!memory.ok()) continue;
    const MemoryAmount amount = {memory->bytes, memory->bytes_free};
    if (!shortest || PressurePercent(amount) > PressurePercent(*shortest)) shortest = amount;
  }
  return shortest;
}

// The driver is asked once a second.
PressureReadings StoreCore::ReadPressure() {
  if (seams_.read_pressure) return seams_.read_pressure();
  const Deadline now = SteadyNow();
  PressureReadings readings = pressure_reader_.Read(now);
  if (gpus.front()->device->is_gpu() && now >= gpu_memory_read_at_ + std::chrono::seconds(1)) {
    gpu_memory_read_at_ = now;
    gpu_memory_ = ReadGpuMemory();
  }
  readings.gpu = gpu_memory_;
  return readings;
}

void StoreCore::MakePressureMonitor() {
  if (!options.heed_memory_pressure) return;
  pressure = std::make_unique<PressureMonitor>(
      PressureMonitor::Parts{.directory = directory.get(),
                             .evictor = evictor.get(),
                             .prefetches = prefetches.get(),
                             .predictions = predictions.get(),
                             .sections = l2_sections.get(),
                             .l2_bytes_min = L2BytesMin(options),
                             .read = [this] { return ReadPressure(); },
                             .log = [this](std::string_view line) { Log(line); }});
}

}  // namespace cairn
