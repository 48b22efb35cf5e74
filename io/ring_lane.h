#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "io/async_io.h"
#include "io/fixed_memory.h"
#include "io/io_files.h"
#include "io/ring.h"

namespace cairn {

// A ring and what it knows of the engine's files and memory: its tables, as far as the kernel
// makes them, and how many requests it has. What the tables lack goes without them.
// Thread-compatible.
class RingLane {
 public:
  explicit RingLane(std::unique_ptr<Ring> ring) : ring_(std::move(ring)) {}

  Ring& ring() { return *ring_; }
  uint32_t in_flight() const { return in_flight_; }

  // Of a ring that is open. 0, or minus the errno of why there is none.
  int MakeFileTable(uint32_t size);
  int MakeBufferTable(uint32_t size);
  bool has_buffer_table() const { return has_buffer_table_; }
  void ForgetBufferTable() { has_buffer_table_ = false; }

  void SetFile(int id, int fd);
  void ClearFile(int id);

  // A request for what is left of the op. Nothing when the ring is full.
  std::optional<uint32_t> Prepare(const IoOp& op, const IoFiles::File& file,
                                  const FixedMemory& memory, uint64_t name);
  // A request is on its way; has ended, or never got to the ring.
  void Began() { ++in_flight_; }
  void Ended() { --in_flight_; }

  // Of a request of Prepare, by the number that it returned.
  bool HasTaken(uint32_t sequence);

 private:
  const std::unique_ptr<Ring> ring_;
  bool has_file_table_ = false;
  bool has_buffer_table_ = false;
  uint32_t in_flight_ = 0;
  std::vector<bool> file_is_fixed_;  // By id.
};

}  // namespace cairn
