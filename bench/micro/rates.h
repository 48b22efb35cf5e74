#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace CLI {
class App;
}  // namespace CLI

namespace cairn::micro {

// What a bench of rates is told on its command line. The defaults are the bench's own.
struct RateArguments {
  int rounds = 0;
  int window_ms = 0;
  std::string json;  // The file for the figures; empty: they are only printed.
};
// --rounds, --window-ms, --json.
void DeclareRateOptions(CLI::App& app, RateArguments& arguments);

// Writes the figures where --json says. The exit code of the bench: 1 when they could not be
// written, of which a line with its name has gone to standard error then.
int WriteFigures(const char* bench, const RateArguments& arguments,
                 const nlohmann::ordered_json& figures);

// A thread's share of a window: some dozen operations, however late it comes, and on until `stop`
// is set. Returns how many it did.
using WindowWork = std::function<uint64_t(int thread, const std::atomic<bool>& stop)>;

// What two groups of threads did side by side, in millions of operations a second: the first
// `first_threads` of `threads`, and the others.
struct WindowRates {
  double first = 0;
  double others = 0;
  double processors = 0;  // That all of them together had: what they used of a CPU, by the window.
};
struct WindowOptions {
  int threads = 1;
  int first_threads = 1;
  double seconds = 0.1;
};
WindowRates MeasureWindow(const WindowOptions& options, const WindowWork& work);

}  // namespace cairn::micro
