#include "bench/micro/rates.h"

#include <chrono>
#include <latch>
#include <thread>
#include <vector>

namespace cairn::micro {

WindowRates MeasureWindow(const WindowOptions& options, const WindowWork& work) {
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> first = 0;
  std::atomic<uint64_t> others = 0;
  // Nobody works alone while the last thread is being made.
  std::latch ready(options.threads + 1);
  std::chrono::steady_clock::time_point start;
  {
    std::vector<std::jthread> crew;
    crew.reserve(static_cast<size_t>(options.threads));
    for (int i = 0; i < options.threads; ++i) {
      crew.emplace_back([&, i] {
        ready.arrive_and_wait();
        (i < options.first_threads ? first : others) += work(i, stop);
      });
    }
    ready.arrive_and_wait();
    start = std::chrono::steady_clock::now();
    std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds));
    stop = true;
  }
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
  return {static_cast<double>(first) / took.count(), static_cast<double>(others) / took.count()};
}

}  // namespace cairn::micro
