#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace cairn::peers {

// One way of one store: everything put, or everything got.
struct Way {
  double wall_s = 0;  // In batches, and in the flush behind puts.
  double cpu_s = 0;   // Of the whole process meanwhile, less what made and compared contents.
  std::vector<uint64_t> batch_us;  // Latency of each batch.
};

// What one run of one store over one size of tensors has shown.
struct Figures {
  std::string store;
  uint64_t tensor_bytes = 0;
  uint64_t bytes = 0;
  uint64_t round = 0;
  Way put;
  Way get;
  uint64_t bytes_on_disk = 0;         // After the puts, closed.
  uint64_t device_bytes_written = 0;  // From the first open to the close after the puts.
  uint64_t device_bytes_read = 0;     // By the gets.
};

// One line of JSON, and back. kInvalidArgument for a line that is none of ours.
std::string ToLine(const Figures& figures);
absl::StatusOr<Figures> FromLine(std::string_view line);

}  // namespace cairn::peers
