#include "bench/tier/run_figures.h"

#include <vector>

#include "bench/median.h"

namespace cairn::bench {
namespace {

template <typename FigureOf>
double MedianOf(absl::Span<const RunFigures> runs, const FigureOf& figure_of) {
  std::vector<double> values;
  for (const RunFigures& run : runs) values.push_back(figure_of(run));
  return Median(values);
}

RunFigures::Direction MedianDirection(absl::Span<const RunFigures> runs,
                                      RunFigures::Direction RunFigures::*direction) {
  RunFigures::Direction median;
  median.bytes_per_s =
      MedianOf(runs, [&](const RunFigures& run) { return (run.*direction).bytes_per_s; });
  median.ios_per_s =
      MedianOf(runs, [&](const RunFigures& run) { return (run.*direction).ios_per_s; });
  for (size_t i = 0; i < median.clat_ns.size(); ++i) {
    median.clat_ns[i] =
        MedianOf(runs, [&](const RunFigures& run) { return (run.*direction).clat_ns[i]; });
  }
  return median;
}

}  // namespace

double RunFigures::percent_of_core_per_gibps() const {
  return bytes_per_s() > 0 ? 100 * cores / (bytes_per_s() / 0x1p30) : 0;
}

RunFigures MedianFigures(absl::Span<const RunFigures> runs) {
  return {.read = MedianDirection(runs, &RunFigures::read),
          .write = MedianDirection(runs, &RunFigures::write),
          .cores = MedianOf(runs, [](const RunFigures& run) { return run.cores; })};
}

}  // namespace cairn::bench
