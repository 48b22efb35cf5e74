#include "src/machine/numa_topology.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

std::vector<uint32_t> Online(const Readings& readings) {
  return ParseCpuList(readings.Text(absl::StrCat(kNodeFolder, "/online")).value_or(""));
}

// Nothing: the system does not tell.
std::optional<std::vector<uint32_t>> NodesAllowed(const Readings& readings) {
  const std::optional<std::string> text = readings.Text("/proc/self/status");
  for (absl::string_view line : absl::StrSplit(text.value_or(""), '\n')) {
    if (!absl::ConsumePrefix(&line, "Mems_allowed_list:")) continue;
    return ParseCpuList(ToStd(absl::StripAsciiWhitespace(line)));
  }
  return std::nullopt;
}

// As memory pressure counts it: a file's pages are dropped for whom wants them.
uint64_t BytesFree(const Readings& readings, const std::string& folder) {
  uint64_t bytes = 0;
  for (const char* name : {"MemFree", "Active(file)", "Inactive(file)"}) {
    bytes += readings.Field(folder + "/meminfo", name).value_or(0);
  }
  return bytes;
}

}  // namespace

NumaTopology ReadNumaTopology(const Readings& readings, std::string_view pci_address) {
  NumaTopology topology;
  const std::vector<uint32_t> online = Online(readings);
  const std::optional<std::vector<uint32_t>> allowed = NodesAllowed(readings);
  for (const uint32_t number : online) {
    const std::string folder = absl::StrCat(kNodeFolder, "/node", number);
    NumaNodeMemory node;
    node.node = number;
    node.has_cpus = !ParseCpuList(readings.Text(folder + "/cpulist").value_or("")).empty();
    if (!allowed || std::find(allowed->begin(), allowed->end(), number) != allowed->end()) {
      node.bytes_free = BytesFree(readings, folder);
    }
    // One for each node that is online, in their order.
    const std::string text = readings.Text(folder + "/distance").value_or("");
    const std::vector<std::string> distances =
        absl::StrSplit(text, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    for (size_t i = 0; i < std::min(distances.size(), online.size()); ++i) {
      uint32_t distance = 0;
      if (absl::SimpleAtoi(distances[i], &distance)) node.distances[online[i]] = distance;
    }
    topology.nodes.push_back(std::move(node));
  }
  topology.device_node = ReadNumaNodeOf(readings, pci_address);
  return topology;
}

std::optional<uint32_t> ReadNumaNodeOf(const Readings& readings, std::string_view pci_address) {
  if (pci_address.empty()) return std::nullopt;
  // -1, which is no figure, where there is one node.
  const std::optional<uint64_t> node =
      readings.Number(absl::StrCat("/sys/bus/pci/devices/", ToAbsl(pci_address), "/numa_node"));
  return node ? std::optional(static_cast<uint32_t>(*node)) : std::nullopt;
}

}  // namespace cairn
