#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cairn/machine.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;
// What a tier is rounded down to.
constexpr uint64_t kTierGrainBytes = 64 * kMiB;
// Above these a store gains little and its Open waits long; who wants more says so.
constexpr uint64_t kL2BytesMost = 256 * kGiB;
constexpr uint64_t kL3BytesMost = 4096 * kGiB;

uint64_t RoundTier(uint64_t bytes, uint64_t bytes_min, uint64_t bytes_most) {
  return std::clamp(bytes / kTierGrainBytes * kTierGrainBytes, bytes_min, bytes_most);
}

class Choices {
 public:
  explicit Choices(const Machine& machine) : machine_(machine) {}

  RecommendedOptions Take() && { return {std::move(options_), std::move(choices_)}; }

  void SetPath(std::string_view directory) { options_.path = std::string(directory); }

  // The model has the GPU; what it leaves is mostly its KV cache's.
  void ChooseL1() {
    if (machine_.gpus.empty()) {
      Say("l1_bytes_max", "0",
          absl::StrCat("no GPU: ",
                       machine_.gpu_refusal.empty() ? "none found" : machine_.gpu_refusal));
      return;
    }
    const GpuProperties& gpu = machine_.gpus.front();
    const uint64_t bytes = gpu.memory_bytes_free / 16 / kTierGrainBytes * kTierGrainBytes;
    options_.l1_bytes_max = bytes;
    options_.gpus = {gpu.ordinal};
    Say("l1_bytes_max", FormatBytes(bytes),
        absl::StrCat("a sixteenth of the ", FormatBytes(gpu.memory_bytes_free), " free on ",
                     gpu.name, ": the model needs the rest"));
  }

  void ChooseL2() {
    const uint64_t usable = machine_.MemoryBytesUsable();
    if (usable == 0) {
      Say("l2_bytes_max", FormatBytes(options_.l2_bytes_max),
          "the system does not say what memory is available");
      return;
    }
    options_.l2_bytes_max = RoundTier(usable / 4, StoreOptions::kL2BytesMin, kL2BytesMost);
    std::string reason = absl::StrCat("a quarter of the ", FormatBytes(usable), " that ",
                                      usable < machine_.memory_bytes_available
                                          ? "the control group leaves this process"
                                          : "are available");
    if (options_.l2_bytes_max == kL2BytesMost) {
      reason = absl::StrCat("the most that is chosen by itself; ", FormatBytes(usable),
                            " are available");
    }
    if (!machine_.gpus.empty() && machine_.memlock_bytes_max < options_.l2_bytes_max) {
      absl::StrAppend(&reason, "; memlock allows ", FormatBytes(machine_.memlock_bytes_max),
                      ", which the GPU's driver may or may not heed (ulimit -l unlimited)");
    }
    Say("l2_bytes_max", FormatBytes(options_.l2_bytes_max), reason);
  }

  // Of one node there is nothing to choose.
  void ChooseNode() {
    uint32_t nodes_with_cpus = 0;
    for (const NumaNode& node : machine_.numa_nodes) nodes_with_cpus += node.cpus > 0 ? 1 : 0;
    if (nodes_with_cpus < 2) return;
    const bool near_gpu = !machine_.gpus.empty() && machine_.gpus.front().numa_node.has_value();
    Say("l2_numa_node", "-1",
        near_gpu ? absl::StrCat("L2 goes to node ", *machine_.gpus.front().numa_node, ", where ",
                                machine_.gpus.front().name,
                                " is attached, as far as there is room, then to the nearest")
                 : absl::StrCat("no GPU is attached to one node: L2's pages are interleaved over ",
                                nodes_with_cpus));
  }

  void ChooseL3() {
    const Drive& drive = machine_.drive;
    if (drive.bytes_total == 0) {
      Say("l3_bytes_max", FormatBytes(options_.l3_bytes_max),
          absl::StrCat("the file system of ", options_.path, " does not say what is free"));
      return;
    }
    options_.l3_bytes_max =
        RoundTier(drive.bytes_free / 2, StoreOptions::kL3BytesMin, kL3BytesMost);
    Say("l3_bytes_max", FormatBytes(options_.l3_bytes_max),
        options_.l3_bytes_max == kL3BytesMost
            ? absl::StrCat("the most that is chosen by itself; ", FormatBytes(drive.bytes_free),
                           " are free in ", drive.directory)
            : absl::StrCat("half of the ", FormatBytes(drive.bytes_free), " free in ",
                           drive.directory));
  }

  void ChooseEngine() {
    options_.io_engine = IoEngineKind::kAuto;
    Say("io_engine", machine_.io_uring_refusal.empty() ? "auto: io_uring" : "auto: posix",
        machine_.io_uring_refusal.empty() ? "a ring was made and answered"
                                          : machine_.io_uring_refusal);
    options_.io_threads = std::clamp(2 * machine_.cpus, 4U, 32U);
    Say("io_threads", absl::StrCat(options_.io_threads),
        absl::StrCat("two for each of ", machine_.cpus,
                     " CPUs, 4 to 32: of the posix engine, whose threads sleep on the disk"));
  }

  // What the kernel queues is what the disk can have; a disk with a head gains nothing by more.
  void ChooseDepth() {
    const Drive& drive = machine_.drive;
    if (drive.device.empty() || drive.queue_depth == 0) {
      Say("io_bytes_in_flight_max", FormatBytes(options_.io_bytes_in_flight_max),
          "the drive's queue is not known");
      return;
    }
    constexpr uint64_t kRequestBytes = 128 << 10;
    options_.io_bytes_in_flight_max =
        std::clamp(drive.queue_depth * kRequestBytes, 4 * kMiB, 8 * kMiB);
    Say("io_bytes_in_flight_max", FormatBytes(options_.io_bytes_in_flight_max),
        absl::StrCat(drive.device, " queues ", drive.queue_depth,
                     " requests; 4 to 8 MiB saturate one SSD"));
  }

  void ChooseStripes() {
    options_.stripe_count = std::bit_ceil(std::clamp(16 * machine_.cpus, 64U, 4096U));
    Say("stripe_count", absl::StrCat(options_.stripe_count),
        absl::StrCat("16 for each of ", machine_.cpus,
                     " CPUs, so that two rarely want the same one; 64 at least"));
  }

 private:
  void Say(std::string option, std::string value, std::string reason) {
    choices_.push_back({std::move(option), std::move(value), std::move(reason)});
  }

  const Machine& machine_;
  StoreOptions options_;
  std::vector<RecommendedOption> choices_;
};

}  // namespace

RecommendedOptions RecommendOptions(const Machine& machine, std::string_view directory) {
  Choices choices(machine);
  choices.SetPath(directory);
  choices.ChooseL1();
  choices.ChooseL2();
  choices.ChooseNode();
  choices.ChooseL3();
  choices.ChooseEngine();
  choices.ChooseDepth();
  choices.ChooseStripes();
  return std::move(choices).Take();
}

}  // namespace cairn
