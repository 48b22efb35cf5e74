#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cairn/machine.h"

namespace cairn {

// What DetectMachine looks at, for tests to replace.
struct MachineSources {
  std::string root;  // Before /proc and /sys.
  uint32_t cpus_allowed = 0;
  uint64_t memlock_bytes_max = 0;
  uint64_t device_number = 0;  // Of the drive, as stat has it.
};

// All that is read from files. The drive's free space, the engine and the GPUs are not among it.
Machine ReadMachine(const MachineSources& sources);

}  // namespace cairn
