// What counting and reading statistics cost, beside a plain struct behind a lock:
//
//   stats_bench [--rounds 7] [--window-ms 100] [--json FILE]
//
// Threads read all counters, or the quantiles of latencies too, as Store::Stats does; either all
// of them, or half, while the others count what a Get that hits L2 counts, as fast as they can.
// Behind a lock are as many counters and buckets: copied under it, summed up outside. All kinds
// take turns in every round. Prints medians over the rounds, and of the ratios of reads to
// shared_mutex within a round.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/median.h"
#include "bench/micro/measured_locks.h"
#include "bench/micro/rates.h"
#include "src/base/check.h"
#include "src/stats_recorder.h"

namespace cairn::micro {
namespace {

constexpr std::array<int, 4> kThreadCounts = {1, 2, 4, 8};
constexpr uint64_t kBytes = 4096;
constexpr int kOperationsAStep = 16;
constexpr const char* kBaseline = "shared_mutex";

class Statistics {
 public:
  virtual ~Statistics() = default;
  virtual void CountHit(TensorClass tensor_class, uint64_t us) = 0;
  // Says the hits of L2.
  virtual uint64_t Read(bool latencies, StatsSnapshot& snapshot) = 0;
};

class Recorder final : public Statistics {
 public:
  void CountHit(TensorClass tensor_class, uint64_t us) override {
    recorder_.CountHit(Level::kL2Pinned, tensor_class, kBytes, us);
  }
  uint64_t Read(bool latencies, StatsSnapshot& snapshot) override {
    recorder_.ReadCounters(snapshot);
    if (latencies) recorder_.ReadLatencies(snapshot);
    CAIRN_CHECK(snapshot.gets == snapshot.l2.hits);
    return snapshot.l2.hits;
  }

 private:
  StatsRecorder recorder_;
};

// What StatsRecorder has, plainly.
struct PlainHistogram {
  std::array<uint64_t, Histogram::kBucketCount> counts = {};
  uint64_t max = 0;

  uint32_t used() const { return Histogram::BucketOf(max) + 1; }
};
struct PlainCounters {
  std::array<std::array<uint64_t, kTensorClasses>, 3> hits = {};
  uint64_t bytes_read_l2 = 0;
  std::array<uint64_t, 24> others = {};
};
// Where a snapshot has those.
std::array<uint64_t*, 24> Others(StatsSnapshot& s) {
  return {&s.misses,
          &s.gets_failed,
          &s.l3.bytes_read,
          &s.l2.bytes_written,
          &s.l3.bytes_written,
          &s.erases,
          &s.expirations,
          &s.fills,
          &s.fills_joined,
          &s.spills,
          &s.spill_failures,
          &s.prefetches,
          &s.predictions,
          &s.checksum_failures,
          &s.read_errors,
          &s.puts_kept_existing,
          &s.puts_refused,
          &s.puts,
          &s.lift_failures,
          &s.lifts,
          &s.pressure.prefetches_refused,
          &s.prefetches_dropped,
          &s.write_retries,
          &s.write_errors};
}

template <typename By>
class Locked final : public Statistics {
 public:
  void CountHit(TensorClass tensor_class, uint64_t us) override {
    const typename By::Write lock(mutex_);
    ++counters_.hits[1][static_cast<size_t>(tensor_class)];
    counters_.bytes_read_l2 += kBytes;
    PlainHistogram& histogram = histograms_[1];
    histogram.max = std::max(histogram.max, us);
    ++histogram.counts[Histogram::BucketOf(us)];
  }
  uint64_t Read(bool latencies, StatsSnapshot& snapshot) override {
    // What a read would have on its stack, but without the zeroing.
    thread_local std::array<PlainHistogram, kHistograms> histograms;
    thread_local PlainCounters counters;
    {
      const typename By::Read lock(mutex_);
      counters = counters_;
      for (size_t i = 0; latencies && i < kHistograms; ++i) {
        std::copy_n(histograms_[i].counts.begin(), histograms_[i].used(),
                    histograms[i].counts.begin());
        histograms[i].max = histograms_[i].max;
      }
    }
    LatencySummary* const summaries[] = {&snapshot.get_l1_us, &snapshot.get_l2_us,
                                         &snapshot.get_l3_us, &snapshot.put_us};
    for (size_t i = 0; latencies && i < kHistograms; ++i) {
      *summaries[i] =
          Summarize(histograms[i].counts.data(), histograms[i].used(), histograms[i].max);
    }
    TierStats* const tiers[] = {&snapshot.l1, &snapshot.l2, &snapshot.l3};
    for (size_t tier = 0; tier < counters.hits.size(); ++tier) {
      tiers[tier]->hits = 0;
      for (size_t i = 0; i < kTensorClasses; ++i) {
        tiers[tier]->classes[i].hits = counters.hits[tier][i];
        tiers[tier]->hits += counters.hits[tier][i];
      }
    }
    const std::array<uint64_t*, 24> others = Others(snapshot);
    for (size_t i = 0; i < others.size(); ++i) *others[i] = counters.others[i];
    snapshot.gets = snapshot.l1.hits + snapshot.l2.hits + snapshot.l3.hits + snapshot.misses +
                    snapshot.gets_failed;
    return snapshot.l2.hits;
  }

 private:
  static constexpr size_t kHistograms = 4;

  typename By::Lock mutex_;
  PlainCounters counters_;
  std::array<PlainHistogram, kHistograms> histograms_;
};

struct Kind {
  std::string name;
  std::unique_ptr<Statistics> statistics;
};

std::vector<Kind> Kinds() {
  std::vector<Kind> kinds;
  kinds.push_back({"StatsRecorder", std::make_unique<Recorder>()});
  kinds.push_back({"mutex", std::make_unique<Locked<ByMutex>>()});
  kinds.push_back({kBaseline, std::make_unique<Locked<BySharedMutex>>()});
  return kinds;
}

uint64_t CountUntil(Statistics& statistics, int thread, const std::atomic<bool>& stop) {
  uint64_t count = 0;
  auto state = static_cast<uint64_t>(thread) + 1;
  do {
    for (int i = 0; i < kOperationsAStep; ++i) {
      state = state * 6364136223846793005 + 1442695040888963407;
      // Some microseconds; one in 256 some milliseconds.
      const uint64_t us = (state >> 56) == 0 ? (state >> 44) & 0xfff : (state >> 44) & 0x3f;
      statistics.CountHit(static_cast<TensorClass>((state >> 40) % kTensorClasses), us);
    }
    count += kOperationsAStep;
  } while (!stop.load(std::memory_order_relaxed));
  return count;
}

uint64_t ReadUntil(Statistics& statistics, bool latencies, const std::atomic<bool>& stop) {
  StatsSnapshot snapshot;
  uint64_t count = 0;
  uint64_t seen = 0;
  do {
    for (int i = 0; i < kOperationsAStep; ++i) {
      const uint64_t hits = statistics.Read(latencies, snapshot);
      CAIRN_CHECK(hits >= seen);
      seen = hits;
    }
    count += kOperationsAStep;
  } while (!stop.load(std::memory_order_relaxed));
  return count;
}

struct Case {
  bool latencies = false;
  bool counting = false;  // By half of the threads.
  int threads = 1;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const bool latencies : {false, true}) {
    for (const bool counting : {false, true}) {
      for (const int threads : kThreadCounts) {
        if (!counting || threads > 1) cases.push_back({latencies, counting, threads});
      }
    }
  }
  return cases;
}

WindowRates Measure(Statistics& statistics, const Case& of, double seconds) {
  const int readers = of.counting ? of.threads / 2 : of.threads;
  return MeasureWindow({.threads = of.threads, .first_threads = readers, .seconds = seconds},
                       [&](int thread, const std::atomic<bool>& stop) {
                         return thread < readers ? ReadUntil(statistics, of.latencies, stop)
                                                 : CountUntil(statistics, thread, stop);
                       });
}

struct Row {
  std::string kind;
  Case of;
  std::vector<double> reads;
  std::vector<double> counts;
  std::vector<double> ratios;
};

std::vector<Row> MeasureAll(const RateArguments& arguments) {
  const std::vector<Kind> kinds = Kinds();
  // The buckets in use are those up to here.
  for (const Kind& kind : kinds) kind.statistics->CountHit(TensorClass::kGeneral, 4095);
  std::vector<Row> rows;
  for (const Case& of : Cases()) {
    const size_t first = rows.size();
    for (const Kind& kind : kinds) {
      rows.push_back({.kind = kind.name, .of = of, .reads = {}, .counts = {}, .ratios = {}});
    }
    for (int round = 0; round < arguments.rounds; ++round) {
      for (size_t i = 0; i < kinds.size(); ++i) {
        const WindowRates rates = Measure(*kinds[i].statistics, of, arguments.window_ms / 1e3);
        rows[first + i].reads.push_back(rates.first);
        rows[first + i].counts.push_back(rates.others);
      }
      const double baseline = rows.back().reads.back();
      for (size_t i = first; i < rows.size(); ++i) {
        rows[i].ratios.push_back(rows[i].reads.back() / baseline);
      }
    }
  }
  return rows;
}

void Print(const std::vector<Row>& rows) {
  std::printf(
      "| read | by | beside | | million reads a second | x %s | million counted a second |\n",
      kBaseline);
  std::printf("|---|---|---|---|---|---|---|\n");
  for (const Row& row : rows) {
    const int counting = row.of.counting ? row.of.threads / 2 : 0;
    std::printf("| %s | %d | %d | %s | %.3f | %.2f | %.2f |\n",
                row.of.latencies ? "all" : "counters", row.of.threads - counting, counting,
                row.kind.c_str(), Median(row.reads), Median(row.ratios), Median(row.counts));
  }
}

nlohmann::ordered_json ToJson(const RateArguments& arguments, const std::vector<Row>& rows) {
  nlohmann::ordered_json array = nlohmann::ordered_json::array();
  for (const Row& row : rows) {
    array.push_back({{"kind", row.kind},
                     {"latencies", row.of.latencies},
                     {"counting", row.of.counting},
                     {"threads", row.of.threads},
                     {"reads_per_s", Median(row.reads) * 1e6},
                     {"counts_per_s", Median(row.counts) * 1e6},
                     {"reads_ratio_to_shared_mutex", Median(row.ratios)}});
  }
  return {
      {"rounds", arguments.rounds}, {"window_ms", arguments.window_ms}, {"rows", std::move(array)}};
}

}  // namespace
}  // namespace cairn::micro

int main(int argc, char** argv) {
  CLI::App app("Statistics beside a struct behind a lock", "stats_bench");
  cairn::micro::RateArguments arguments = {.rounds = 7, .window_ms = 100, .json = {}};
  cairn::micro::DeclareRateOptions(app, arguments);
  CLI11_PARSE(app, argc, argv);
  const auto rows = cairn::micro::MeasureAll(arguments);
  cairn::micro::Print(rows);
  return cairn::micro::WriteFigures("stats_bench", arguments,
                                    cairn::micro::ToJson(arguments, rows));
}
