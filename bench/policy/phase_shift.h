#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/policy/options.h"
#include "cairn/options.h"
#include "cairn/tensor.h"

namespace cairn::policy {

// Traffic of two classes of tensors that turns around: nine tenths of the bytes asked for are KV
// blocks at first, and vision tensors then. The KV blocks are those of offload::GenerateWorkload,
// 16 tokens of 2.25 MiB, asked for in chains. Vision tensors have 8 MiB; half of the images are one
// of some thousand popular ones, the others are new, and each comes again as chats return.
struct PhaseShift {
  static constexpr size_t kPhases = 2;
  struct Request {
    TensorClass tensor_class = TensorClass::kKv;
    uint32_t phase = 0;
    std::vector<uint32_t> blocks;  // Numbers from 0 on, of both classes.
  };
  std::vector<Request> requests;
  std::vector<uint64_t> key_hashes;  // Of the blocks.
  std::vector<TensorClass> classes;
  std::array<uint64_t, kPhases> bytes = {};  // Asked for.
  uint64_t distinct_bytes = 0;
  uint64_t accesses = 0;

  static uint64_t BytesOf(TensorClass tensor_class);
};
// The same for the same arguments.
PhaseShift GeneratePhaseShift(uint64_t seed, uint64_t bytes_a_phase);

struct PhaseOutcome {
  // Of blocks present before which none of their request was missing.
  std::array<uint64_t, PhaseShift::kPhases> hit_bytes = {};
  double seconds = 0;  // CPU time of all bookkeeping.
};
// One tier of so many bytes for both classes, under the store's own pools.
PhaseOutcome SimulatePools(const PhaseShift& shift, EvictionKind kind, uint64_t bytes_max,
                           bool by_class, const ClassShares& shares = {});
// A tier for each class, which do not know of each other: KV has this share of the bytes.
PhaseOutcome SimulateSplit(const PhaseShift& shift, EvictionKind kind, uint64_t bytes_max,
                           double kv_share);

// One way to use a tier of one size.
struct PhaseResult {
  Size size;
  uint64_t bytes_max = 0;
  std::string name;
  double kv_share = -1;  // Of a split; under 0: none.
  PhaseOutcome outcome;
};
// All ways at these sizes, which are shares of the distinct bytes.
std::vector<PhaseResult> RunPhaseShift(const PhaseShift& shift, const std::vector<Size>& sizes);
// For a person.
std::string PhaseShiftTable(const PhaseShift& shift, const std::vector<PhaseResult>& results);
std::string PhaseShiftJson(const PhaseShift& shift, const std::vector<PhaseResult>& results);

}  // namespace cairn::policy
