#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "cairn/tensor.h"

namespace cairn::offload {

// How many of a workload's tensors are of which class, as weights. By default all are KV.
struct ClassMix {
  uint32_t kv = 1;
  uint32_t vision = 0;
  uint32_t text = 0;

  bool kv_only() const { return vision == 0 && text == 0; }
  // The class of a tensor: a function of its id alone, so that it is the same in every run.
  TensorClass Of(uint64_t id) const;
  // "kv:70,vision:20,text:10".
  std::string ToString() const;
};

// "kv:70,vision:20,text:10", in any order and with what is not named at 0. kInvalidArgument for
// anything else, and when all are 0.
absl::StatusOr<ClassMix> ParseClassMix(std::string_view text);

}  // namespace cairn::offload
