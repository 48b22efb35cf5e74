#pragma once

#include <cstddef>
#include <cstdint>

#include "cairn/options.h"
#include "src/prediction/read_stream.h"
#include "src/prediction/stride.h"
#include "src/prediction/successors.h"

namespace cairn {

// What a store knows of the order in which its keys are asked for, and where each thread is in it:
// what a thread asks for is taken for one chain after the other. Thread-safe.
class Predictor {
 public:
  struct Reader {
    uint64_t owner = 0;  // Predictor::id_.
    ReadStream stream;
    Stride stride;
    PrefetchToken token = 0;  // Of its last guesses.
  };

  explicit Predictor(size_t keys_max);

  // The calling thread's. A thread that goes from one store to another begins anew in each.
  Reader& ThisReader();
  Successors& successors() { return successors_; }

 private:
  const uint64_t id_;
  Successors successors_;
};

}  // namespace cairn
