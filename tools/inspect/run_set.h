#pragma once

#include <cstdint>
#include <map>

namespace cairn::inspect {

// A run of bytes of L3: whole blocks, in one data file.
struct Run {
  uint64_t offset = 0;
  uint64_t bytes = 0;

  uint64_t end() const { return offset + bytes; }
};

// The bytes of many runs together.
class RunSet {
 public:
  bool Overlaps(const Run& run) const;
  void Add(const Run& run);

 private:
  std::map<uint64_t, uint64_t> ends_;  // By begin; disjoint, and not touching.
};

}  // namespace cairn::inspect
