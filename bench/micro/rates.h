#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace cairn::micro {

// A thread's share of a window: some dozen operations, however late it comes, and on until `stop`
// is set. Returns how many it did.
using WindowWork = std::function<uint64_t(int thread, const std::atomic<bool>& stop)>;

// What two groups of threads did side by side, in millions of operations a second: the first
// `first_threads` of `threads`, and the others.
struct WindowRates {
  double first = 0;
  double others = 0;
};
struct WindowOptions {
  int threads = 1;
  int first_threads = 1;
  double seconds = 0.1;
};
WindowRates MeasureWindow(const WindowOptions& options, const WindowWork& work);

}  // namespace cairn::micro
