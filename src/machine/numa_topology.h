#pragma once

#include <optional>
#include <string_view>

#include "src/machine/readings.h"
#include "tiers/numa.h"

namespace cairn {

inline constexpr char kNodeFolder[] = "/sys/devices/system/node";

// The nodes with what is free on them now, and that of the GPU at this PCI address; empty: none.
NumaTopology ReadNumaTopology(const Readings& readings, std::string_view pci_address);

// Where a device of the PCI bus is attached. Nothing: the system does not tell, or has one node.
std::optional<uint32_t> ReadNumaNodeOf(const Readings& readings, std::string_view pci_address);

}  // namespace cairn
