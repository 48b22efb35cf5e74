#include "bench/micro/rates.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <latch>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

namespace cairn::micro {
namespace {

uint64_t ThreadCpuNs() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace

void DeclareRateOptions(CLI::App& app, RateArguments& arguments) {
  app.add_option("--rounds", arguments.rounds, "of which the medians count")
      ->check(CLI::Range(1, 1000));
  app.add_option("--window-ms", arguments.window_ms, "of each kind in a round")
      ->check(CLI::Range(1, 60'000));
  app.add_option("--json", arguments.json, "Write the figures here, too")->type_name("FILE");
}

int WriteFigures(const char* bench, const RateArguments& arguments,
                 const nlohmann::ordered_json& figures) {
  if (arguments.json.empty()) return 0;
  std::ofstream file(arguments.json);
  file << figures.dump(2) << "\n";
  file.close();
  if (file.good()) return 0;
  std::fprintf(stderr, "%s: %s could not be written\n", bench, arguments.json.c_str());
  return 1;
}

WindowRates MeasureWindow(const WindowOptions& options, const WindowWork& work) {
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> first = 0;
  std::atomic<uint64_t> others = 0;
  std::atomic<uint64_t> cpu_ns = 0;
  // Nobody works alone while the last thread is being made.
  std::latch ready(options.threads + 1);
  std::chrono::steady_clock::time_point start;
  {
    std::vector<std::jthread> crew;
    crew.reserve(static_cast<size_t>(options.threads));
    for (int i = 0; i < options.threads; ++i) {
      crew.emplace_back([&, i] {
        ready.arrive_and_wait();
        const uint64_t cpu_ns_before = ThreadCpuNs();
        (i < options.first_threads ? first : others) += work(i, stop);
        cpu_ns += ThreadCpuNs() - cpu_ns_before;
      });
    }
    ready.arrive_and_wait();
    start = std::chrono::steady_clock::now();
    std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds));
    stop = true;
  }
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
  return {.first = static_cast<double>(first) / took.count(),
          .others = static_cast<double>(others) / took.count(),
          .processors = static_cast<double>(cpu_ns) / 1e3 / took.count()};
}

}  // namespace cairn::micro
