// How fast the directory finds and pins a tensor, beside other maps:
//
//   directory_bench [--tensors 100000] [--rounds 7] [--window-ms 200] [--json FILE]
//
// Threads pin and unpin tensors by random keys; one operation in twenty replaces the tensor
// instead: it takes a page of L2, has the key name it, and gives back what the key named when that
// is unpinned. All kinds do the same work on the same keys, each in an L2 of its own, and take
// turns in every round. Prints the medians over the rounds, and the median of the ratios to
// mutex + unordered_map within a round.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "bench/median.h"
#include "bench/micro/rates.h"
#include "bench/micro/tensor_map.h"
#include "src/base/check.h"
#include "tiers/host_device.h"

namespace cairn::micro {
namespace {

constexpr int kThreadCounts[] = {1, 2, 4, 8};
constexpr uint64_t kKeyBytes = 32;
constexpr uint64_t kReplacesOf20 = 1;
constexpr int kOperationsAStep = 64;
constexpr const char* kBaseline = "mutex";

struct Arguments {
  uint64_t tensors = 100'000;
  RateArguments rates = {.rounds = 7, .window_ms = 200, .json = {}};
};

// SplitMix64.
uint64_t Mix(uint64_t& state) {
  uint64_t word = state += 0x9e3779b97f4a7c15;
  word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
  word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
  return word ^ (word >> 31);
}

// As keys that are hashes are.
std::vector<std::string> Keys(uint64_t count) {
  std::vector<std::string> keys(count, std::string(kKeyBytes, '\0'));
  uint64_t state = 1;
  for (std::string& key : keys) {
    for (uint64_t at = 0; at < kKeyBytes; at += sizeof(uint64_t)) {
      const uint64_t word = Mix(state);
      std::memcpy(&key[at], &word, sizeof(word));
    }
  }
  return keys;
}

// A kind that is in this build, with all its tensors.
class Contestant {
 public:
  Contestant(const MapKind& kind, Device* device, const std::vector<std::string>& keys)
      : name_(kind.name), keys_(keys) {
    // Room for what is replaced and still pinned.
    auto l2 = PinnedTier::Create(keys.size() * kTensorBytes * 3 / 2 + (uint64_t{64} << 20), device,
                                 PinnedTierOptions{});
    CAIRN_CHECK(l2.ok());
    l2_ = std::move(*l2);
    map_ = kind.create(l2_.get());
    for (const std::string& key : keys) Replace(key);
  }

  const std::string& name() const { return name_; }

  double MillionsASecond(int threads, double seconds) {
    const auto work = [this](int thread, const std::atomic<bool>& stop) {
      uint64_t state = static_cast<uint64_t>(thread) * 7919 + seed_;
      uint64_t count = 0;
      do {
        for (int i = 0; i < kOperationsAStep; ++i) Operate(Mix(state));
        count += kOperationsAStep;
      } while (!stop.load(std::memory_order_relaxed));
      return count;
    };
    ++seed_;
    return MeasureWindow({.threads = threads, .first_threads = threads, .seconds = seconds}, work)
        .first;
  }

 private:
  void Operate(uint64_t random) {
    const std::string& key = keys_[(random >> 32) * keys_.size() >> 32];
    if ((random & 0xffffffff) % 20 < kReplacesOf20) return Replace(key);
    map_->Unpin(map_->Pin(key));
  }
  void Replace(const std::string& key) {
    const absl::StatusOr<Extent> extent = l2_->Reserve(kTensorBytes);
    CAIRN_CHECK(extent.ok());
    map_->Replace(key, *extent);
  }

  const std::string name_;
  const std::vector<std::string>& keys_;
  uint64_t seed_ = 1;
  std::unique_ptr<PinnedTier> l2_;
  std::unique_ptr<TensorMap> map_;
};

// Of one kind and number of threads, over the rounds.
struct Series {
  std::vector<double> millions;
  std::vector<double> ratios;  // To the baseline in the same round.
};
using Figures = std::map<std::pair<std::string, int>, Series>;

Figures Measure(const Arguments& arguments, std::vector<std::unique_ptr<Contestant>>& contestants) {
  Figures figures;
  const double seconds = arguments.rates.window_ms / 1e3;
  for (const int threads : kThreadCounts) {
    for (int round = 0; round < arguments.rates.rounds; ++round) {
      for (auto& contestant : contestants) {
        figures[{contestant->name(), threads}].millions.push_back(
            contestant->MillionsASecond(threads, seconds));
      }
      const double baseline = figures[{kBaseline, threads}].millions.back();
      for (auto& contestant : contestants) {
        Series& series = figures[{contestant->name(), threads}];
        series.ratios.push_back(series.millions.back() / baseline);
      }
    }
  }
  return figures;
}

// Of an operation, as the thread that does it sees it.
double Nanoseconds(double millions, int threads) { return threads * 1e3 / millions; }

void Print(const std::vector<MapKind>& kinds, Figures& figures) {
  std::printf("| million operations a second, ns, x %s |", kBaseline);
  for (const int threads : kThreadCounts) std::printf(" %d |", threads);
  std::printf("\n|---|---|---|---|---|\n");
  for (const MapKind& kind : kinds) {
    std::printf("| %s |", kind.name.c_str());
    for (const int threads : kThreadCounts) {
      const auto found = figures.find({kind.name, threads});
      if (found == figures.end()) {
        std::printf(" - |");
        continue;
      }
      const double millions = Median(found->second.millions);
      std::printf(" %.2f, %.0f ns, %.2f |", millions, Nanoseconds(millions, threads),
                  Median(found->second.ratios));
    }
    std::printf("\n");
  }
}

nlohmann::ordered_json ToJson(const Arguments& arguments, const Figures& figures) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const auto& [of, series] : figures) {
    const double millions = Median(series.millions);
    rows.push_back({{"map", of.first},
                    {"threads", of.second},
                    {"operations_per_s", millions * 1e6},
                    {"ns", Nanoseconds(millions, of.second)},
                    {"ratio_to_mutex", Median(series.ratios)}});
  }
  return {{"tensors", arguments.tensors},
          {"rounds", arguments.rates.rounds},
          {"window_ms", arguments.rates.window_ms},
          {"rows", std::move(rows)}};
}

int Run(const Arguments& arguments) {
  const std::vector<std::string> keys = Keys(arguments.tensors);
  const std::unique_ptr<Device> device = NewHostDevice({});
  const std::vector<MapKind> kinds = MapKinds();
  std::vector<std::unique_ptr<Contestant>> contestants;
  for (const MapKind& kind : kinds) {
    if (kind.create == nullptr) {
      absl::FPrintF(stderr, "%s: not in this build\n", kind.name);
      continue;
    }
    contestants.push_back(std::make_unique<Contestant>(kind, device.get(), keys));
  }
  Figures figures = Measure(arguments, contestants);
  Print(kinds, figures);
  return WriteFigures("directory_bench", arguments.rates, ToJson(arguments, figures));
}

}  // namespace
}  // namespace cairn::micro

int main(int argc, char** argv) {
  CLI::App app("The directory beside other maps", "directory_bench");
  cairn::micro::Arguments arguments;
  app.add_option("--tensors", arguments.tensors)->check(CLI::Range(1, 10'000'000));
  cairn::micro::DeclareRateOptions(app, arguments.rates);
  CLI11_PARSE(app, argc, argv);
  return cairn::micro::Run(arguments);
}
