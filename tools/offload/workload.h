#pragma once

#include <cstdint>

#include "tools/offload/trace.h"

namespace cairn::offload {

struct WorkloadOptions {
  uint64_t seed = 1;
  uint64_t requests = 1;
  uint32_t block_tokens = 16;
};

// A chat service's traffic where no trace is at hand: sessions that arrive at random, begin with
// one of a few shared system prompts, sometimes carry an image (popular ones come again, and are
// known by their content) or a document, and return for another turn with the probabilities and
// after the pauses that were published for real services. A turn's prompt is all of its session so
// far, so it shares its leading blocks with the turn before.
//
// The same options give the same trace. Only whole blocks get an id, as hosts store only those (a
// prompt shorter than one block has that one block).
Trace GenerateWorkload(const WorkloadOptions& options);

}  // namespace cairn::offload
