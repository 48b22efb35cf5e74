#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cairn/completion_queue.h"
#include "cairn/store.h"
#include "tools/offload/block_plan.h"
#include "tools/offload/progress.h"
#include "tools/offload/tally.h"
#include "tools/offload/trace.h"

namespace cairn::offload {

struct ReplayOptions;

// One thread of a model host: serves one request after the other.
class Worker {
 public:
  // `queue` has room for window_blocks completions.
  Worker(Store& store, std::unique_ptr<CompletionQueue> queue, const ReplayOptions& options,
         size_t window_blocks, Progress& progress);

  // Restores what is stored of the prompt, to L1 of the GPU where there is one, computes and stores
  // the rest. Not OK only for what the
  // host cannot go on after; the request is then counted in part.
  absl::Status Serve(const Request& request, int gpu);

  const Tally& tally() const { return tally_; }

 private:
  // Blocks [begin, end) of the request in hand.
  struct Window {
    size_t begin = 0;
    size_t end = 0;
  };

  void Begin(const Request& request, int gpu);
  absl::Status RestorePrefix();
  absl::Status Load(Window window, Interval& interval);
  absl::Status CountLoads(Window window, const Interval& interval);
  bool Verify(size_t block, const TensorHandle& handle);
  absl::Status ComputeRest();
  // Whether the prompt ends within the block.
  bool Partial(size_t block) const;

  Store& store_;
  const std::unique_ptr<CompletionQueue> queue_;
  const BlockPlan& block_;
  const Level want_;
  const size_t window_blocks_;
  Progress& progress_;
  std::vector<std::byte> computed_;
  std::vector<std::byte> restored_;  // What came back from L1, to be compared.
  std::vector<Completion> drained_;

  // The request in hand.
  const Request* request_ = nullptr;
  int gpu_ = 0;
  std::vector<std::string> key_texts_;
  std::vector<TensorKey> keys_;
  std::vector<Completion> loads_;  // By block.
  std::vector<bool> damaged_;      // By block: what is stored must be replaced.
  size_t usable_ = 0;              // Leading blocks restored and verified.

  Tally tally_;
};

}  // namespace cairn::offload
