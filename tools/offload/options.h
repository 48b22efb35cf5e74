#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cairn/options.h"
#include "tools/offload/class_mix.h"
#include "tools/offload/model.h"

namespace cairn::offload {

// What the command line says, checked.
struct Options {
  std::string trace;         // Empty: a generated workload.
  uint64_t requests = 0;     // At most; 0: all of the trace.
  double speed = 0;          // Of the trace's clock; 0: as fast as it goes.
  uint32_t concurrency = 1;  // Requests at a time.
  uint32_t hints = 0;        // Requests that wait and are announced to the store, at most.
  bool predict = false;      // StoreOptions::prefetch_predicted.
  uint32_t window = 0;       // Blocks that a request loads at a time; 0: as many as are of use.
  double decode_tokens_per_s = 0;  // The host takes its time for each answer; 0: none.
  std::string dir;
  std::vector<std::string> data_dirs;  // Empty: all in dir.
  std::vector<uint32_t> data_weights;  // Of data_dirs. Empty: all alike.
  uint64_t l1_bytes = 0;               // 0: no L1.
  std::vector<int> gpus = {0};
  DeviceKind device = DeviceKind::kAuto;
  L1Memory l1_memory = L1Memory::kDevice;
  uint64_t l2_bytes = 0;
  uint64_t l2_bytes_min = 0;  // 0: as the store has it.
  bool heed_memory_pressure = true;
  AllocatorKind l2_allocator = AllocatorKind::kHybrid;
  ClassShares l2_class_shares;
  ClassShares l3_class_shares;
  uint64_t l3_bytes = 0;
  bool l3_prewrite = false;
  std::optional<Model> model;  // Exactly one of these two.
  uint64_t kv_bytes_per_token = 0;
  ClassMix class_mix;
  uint32_t block_tokens = 0;  // 0: as the trace's format has it.
  uint64_t scale = 1;
  IoEngineKind io_engine = IoEngineKind::kAuto;
  absl::Duration io_submission_polling = absl::ZeroDuration();
  bool io_completion_polling = false;
  EvictionKind eviction = EvictionKind::kTuned;
  WritePolicy write_policy = WritePolicy::kWriteBack;
  uint64_t l3_write_bytes_per_day = StoreOptions::kL3WritesUnlimited;
  double prefill_tokens_per_s = 10000;
  uint64_t seed = 1;
  std::string json;  // Empty: none.
};

// The options, or, without them, what the process has to exit with: 0 after --help, 2 after a
// mistake, of which one line has then gone to standard error.
struct ParseResult {
  std::optional<Options> options;
  int exit_code = 0;
};
ParseResult ParseOptions(int argc, const char* const* argv);

}  // namespace cairn::offload
