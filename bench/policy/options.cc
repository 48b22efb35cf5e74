#include "bench/policy/options.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "src/base/status_macros.h"
#include "tools/offload/eviction_name.h"
#include "tools/offload/option_values.h"

namespace cairn::policy {
namespace {

constexpr uint64_t kGeneratedRequests = 20000;
constexpr double kWriteBudgetPercentMax = 1000;
constexpr double kCostSpreadMax = 1000;  // As far apart as a store tells costs (worth.h).
constexpr const char* kDefaultWriteBudget = "60%";

constexpr const char* kDescription =
    "Replays a trace of requests over the store's eviction policies, bookkeeping only, and prints\n"
    "what they hit, beside LRU and Belady's bound.";

constexpr const char* kFooter =
    "What the figures mean:\n"
    "  hit rate   blocks found, counted up to a request's first that is missing / blocks accessed\n"
    "  Belady     evicts what is used again last, and does not take what is used later than all\n"
    "             that is there: it knows the future, and nothing hits more\n"
    "  ssd_writes_per_access  blocks that came into the cache / blocks accessed; with --l2-size\n"
    "             blocks written to L3 / blocks accessed\n"
    "With --l2-size there are two tiers: --sizes are L3's, a hit is in either, and the column LRU\n"
    "is of LRU in both with every block written to L3, whose writes are beside it.\n"
    "With --prefetch the blocks of a request are read one by one up to the first that was never\n"
    "stored, the others put; nothing is known of a request in advance.\n"
    "  accuracy   prefetches asked for by the request during which they were made / prefetches\n"
    "  coverage   those asked for / (those + blocks read that L3 alone had)\n"
    "  ns_per_access  CPU time of all bookkeeping of one policy / blocks accessed\n"
    "With --cost-spread:\n"
    "  cost_spared  what the hits took to compute / what all blocks accessed took\n"
    "  untold     the same where the policy does not know the costs\n"
    "Exit code: 0, or 2 when anything went wrong.";

// As typed, before any of it is believed.
struct Arguments {
  std::optional<std::string> trace, json, restart_at, cost_spread, phase_shift;
  std::string sizes = "0.5%,1%,2%,5%,10%,20%,40%";
  std::string policies = "default,lru,clock,arc,s3fifo";
  std::optional<std::string> l2_size, write_budget, block_bytes;
  bool prefetch = false;
  std::string requests, seed;  // Text, as in kv-offload. Empty: not given.
};

void Declare(CLI::App& app, Arguments& arguments) {
  app.add_option("--trace", arguments.trace,
                 "Requests as JSON lines, of the Mooncake or the Qwen-Bailian schema. Without it a "
                 "seeded multi-turn workload is generated")
      ->type_name("FILE");
  app.add_option("--requests", arguments.requests,
                 absl::StrCat("Replay only the first N (default: all of a trace, ",
                              kGeneratedRequests, " of the generated workload)"))
      ->type_name("N");
  app.add_option("--seed", arguments.seed, "Of the generated workload (default: 1)")
      ->type_name("S");
  app.add_option("--sizes", arguments.sizes,
                 absl::StrCat("Of the cache, in blocks or in percent of the distinct blocks "
                              "(default: ",
                              arguments.sizes, ")"))
      ->type_name("LIST");
  app.add_option("--policies", arguments.policies,
                 absl::StrCat("Of ", offload::EvictionNames(), " (default: all)"))
      ->type_name("LIST");
  app.add_option("--l2-size", arguments.l2_size,
                 "Of a second tier above, as --sizes: what is put is in it, and written to L3 as "
                 "the store's admission has it")
      ->type_name("SIZE");
  app.add_option("--write-budget", arguments.write_budget,
                 absl::StrCat("What may be written to L3: bytes in a day of the trace's clock, "
                              "such as 300GB, or over the whole trace a share of the distinct "
                              "blocks, such as 30%; none: every block is written (default: ",
                              kDefaultWriteBudget, ")"))
      ->type_name("BYTES|SHARE|none");
  app.add_option("--block-bytes", arguments.block_bytes,
                 "What a block takes of --write-budget (default: a block of qwen3-vl-8b's KV "
                 "cache, 72MiB where it has 512 tokens)")
      ->type_name("SIZE");
  app.add_option("--restart-at", arguments.restart_at,
                 "Close and open the store after these shares of the requests, such as 0.5 or "
                 "0.25,0.75, by what it keeps of its policy; prints the run without, too")
      ->type_name("LIST");
  app.add_option(
         "--cost-spread", arguments.cost_spread,
         "Divide the conversations among four models, whose blocks cost from 1 to this ns a "
         "byte to compute, such as 16, and no two share one; prints what of all cost the "
         "hits spared, with the costs told to the policy and not")
      ->type_name("FACTOR");
  app.add_flag("--prefetch", arguments.prefetch,
               "Instead: what the store's prediction is worth where the host gives no hints, with "
               "L2 of --l2-size (default: 0.5%; 0: none), followed by 1, 8 (as the store does) and "
               "32 blocks");
  app.add_option(
         "--phase-shift", arguments.phase_shift,
         "Instead of all that a generated workload of two classes of tensors: so many bytes "
         "asked for of which 90% are KV blocks, and as many of which 90% are vision "
         "tensors, such as 2TiB. Prints the bytes hit by the store's pools by class, by "
         "one pool, by LRU, and by tiers that are split between the two classes; --sizes "
         "in percent of the distinct bytes")
      ->type_name("BYTES");
  app.add_option("--json", arguments.json, "Write the figures here, too")->type_name("FILE");
  app.footer(kFooter);
}

absl::Status Mistake(const char* option, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(option, ": ", what));
}

absl::StatusOr<std::string> FileName(const char* option, const std::optional<std::string>& name) {
  if (name.has_value() && name->empty()) return Mistake(option, "names no file");
  return name.value_or("");
}

absl::StatusOr<uint64_t> CountOf(const char* option, const std::string& text, uint64_t min) {
  uint64_t count = 0;
  if (!absl::SimpleAtoi(text, &count) || count < min) {
    return Mistake(option, absl::StrCat("\"", text, "\" is not a whole number from ", min, " on"));
  }
  return count;
}

absl::StatusOr<Size> SizeOf(const char* option, const std::string& text) {
  Size size = {.text = text};
  absl::string_view number = text;
  size.percent = absl::ConsumeSuffix(&number, "%");
  const bool digits = number.find_first_not_of("0123456789.") == number.npos;
  if (!digits || !absl::SimpleAtod(number, &size.value) || !(size.value > 0) ||
      (size.percent ? size.value > 100 : size.value != std::floor(size.value)) ||
      size.value > 1e12) {
    return Mistake(option, absl::StrCat("\"", text,
                                        "\" is neither a share over 0% and up to 100%, such as "
                                        "0.5%, nor a whole number of blocks"));
  }
  return size;
}

absl::StatusOr<GivenBudget> WriteBudgetOf(const std::string& text) {
  GivenBudget budget = {.text = text, .none = text == "none"};
  if (budget.none) return budget;
  absl::string_view number = text;
  const bool share = absl::ConsumeSuffix(&number, "%") &&
                     number.find_first_not_of("0123456789.") == number.npos &&
                     absl::SimpleAtod(number, &budget.percent) && budget.percent > 0 &&
                     budget.percent <= kWriteBudgetPercentMax;
  if (share) return budget;
  const absl::StatusOr<uint64_t> bytes = offload::ParseSize(text);
  if (!bytes.ok()) {
    return Mistake("--write-budget",
                   absl::StrCat("\"", text,
                                "\" is neither bytes a day, such as 300GB, nor a share "
                                "over 0% and up to 1000%, nor none"));
  }
  budget.bytes_per_day = *bytes;
  return budget;
}

absl::Status SetTiers(const Arguments& arguments, Options& options) {
  if (!arguments.l2_size.has_value()) {
    if (arguments.write_budget.has_value()) return Mistake("--write-budget", "needs --l2-size");
    if (arguments.block_bytes.has_value()) return Mistake("--block-bytes", "needs --l2-size");
    return absl::OkStatus();
  }
  CAIRN_ASSIGN_OR_RETURN(options.l2_size, SizeOf("--l2-size", *arguments.l2_size));
  CAIRN_ASSIGN_OR_RETURN(options.write_budget,
                         WriteBudgetOf(arguments.write_budget.value_or(kDefaultWriteBudget)));
  if (!arguments.block_bytes.has_value()) return absl::OkStatus();
  const absl::StatusOr<uint64_t> bytes = offload::ParseSize(*arguments.block_bytes);
  if (!bytes.ok()) return Mistake("--block-bytes", std::string(bytes.status().message()));
  options.block_bytes = *bytes;
  return absl::OkStatus();
}

absl::StatusOr<Options> SetPrefetch(const Arguments& arguments, Options& options) {
  if (arguments.write_budget.has_value() || arguments.restart_at.has_value()) {
    return Mistake("--prefetch", "goes with neither --write-budget nor --restart-at");
  }
  if (arguments.cost_spread.has_value()) return Mistake("--cost-spread", "is not of --prefetch");
  const std::string size = arguments.l2_size.value_or("0.5%");
  if (size == "0") return options;
  CAIRN_ASSIGN_OR_RETURN(options.l2_size, SizeOf("--l2-size", size));
  return options;
}

absl::Status SetRestarts(const Arguments& arguments, Options& options) {
  if (!arguments.restart_at.has_value()) return absl::OkStatus();
  if (arguments.l2_size.has_value()) return Mistake("--restart-at", "is of one tier, not two");
  double last = 0;
  for (const absl::string_view text : absl::StrSplit(*arguments.restart_at, ',')) {
    double share = 0;
    const bool digits = text.find_first_not_of("0123456789.") == text.npos;
    if (!digits || !absl::SimpleAtod(text, &share) || !(share > last) || share >= 1) {
      return Mistake("--restart-at",
                     absl::StrCat("\"", text, "\" is not a share over ", last, " and under 1"));
    }
    options.restarts.push_back(last = share);
  }
  return absl::OkStatus();
}

absl::Status SetCostSpread(const Arguments& arguments, Options& options) {
  if (!arguments.cost_spread.has_value()) return absl::OkStatus();
  if (arguments.l2_size.has_value()) return Mistake("--cost-spread", "is of one tier, not two");
  if (!absl::SimpleAtod(*arguments.cost_spread, &options.cost_spread) ||
      !(options.cost_spread > 1) || options.cost_spread > kCostSpreadMax) {
    return Mistake("--cost-spread",
                   absl::StrCat("\"", *arguments.cost_spread,
                                "\" is not a factor over 1 and up to ", kCostSpreadMax));
  }
  return absl::OkStatus();
}

absl::Status SetPhaseShift(const Arguments& arguments, Options& options) {
  if (!arguments.phase_shift.has_value()) return absl::OkStatus();
  if (arguments.trace.has_value() || !arguments.requests.empty() || arguments.l2_size.has_value() ||
      arguments.restart_at.has_value() || arguments.cost_spread.has_value()) {
    return Mistake("--phase-shift", "is a workload of its own, of one tier");
  }
  const absl::StatusOr<uint64_t> bytes = offload::ParseSize(*arguments.phase_shift);
  if (!bytes.ok()) return Mistake("--phase-shift", std::string(bytes.status().message()));
  if (*bytes == 0) return Mistake("--phase-shift", "is 0 bytes");
  for (const Size& size : options.sizes) {
    if (!size.percent) return Mistake("--phase-shift", "takes --sizes in percent only");
  }
  options.phase_bytes = *bytes;
  return absl::OkStatus();
}

absl::StatusOr<Options> Check(const Arguments& arguments) {
  Options options;
  CAIRN_ASSIGN_OR_RETURN(options.trace, FileName("--trace", arguments.trace));
  CAIRN_ASSIGN_OR_RETURN(options.json, FileName("--json", arguments.json));
  if (!arguments.requests.empty()) {
    CAIRN_ASSIGN_OR_RETURN(options.requests, CountOf("--requests", arguments.requests, 1));
  } else if (options.trace.empty()) {
    options.requests = kGeneratedRequests;
  }
  if (!arguments.seed.empty()) {
    CAIRN_ASSIGN_OR_RETURN(options.seed, CountOf("--seed", arguments.seed, 0));
  }
  for (const std::string& text : std::vector<std::string>(absl::StrSplit(arguments.sizes, ','))) {
    CAIRN_ASSIGN_OR_RETURN(const Size size, SizeOf("--sizes", text));
    options.sizes.push_back(size);
  }
  for (const std::string& name :
       std::vector<std::string>(absl::StrSplit(arguments.policies, ','))) {
    absl::StatusOr<EvictionKind> kind = offload::FindEviction(name);
    if (!kind.ok()) return Mistake("--policies", std::string(kind.status().message()));
    options.policies.push_back({name, *kind});
  }
  options.prefetch = arguments.prefetch;
  if (options.prefetch) return SetPrefetch(arguments, options);
  CAIRN_RETURN_IF_ERROR(SetTiers(arguments, options));
  CAIRN_RETURN_IF_ERROR(SetRestarts(arguments, options));
  CAIRN_RETURN_IF_ERROR(SetCostSpread(arguments, options));
  CAIRN_RETURN_IF_ERROR(SetPhaseShift(arguments, options));
  return options;
}

// -1 when all went well: 0 is the exit code after --help.
int Parse(CLI::App& app, int argc, const char* const* argv) {
  CLI11_PARSE(app, argc, argv);
  return -1;
}

}  // namespace

uint64_t Size::Blocks(uint64_t distinct_blocks) const {
  const double blocks = percent ? value / 100 * static_cast<double>(distinct_blocks) : value;
  return std::max<uint64_t>(1, static_cast<uint64_t>(blocks));
}

ParseResult ParseOptions(int argc, const char* const* argv) {
  CLI::App app(kDescription, "policy-sim");
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return absl::StrCat("policy-sim: ", error.what(), " (--help lists the options)\n");
  });
  Arguments arguments;
  Declare(app, arguments);
  const int exit_code = Parse(app, argc, argv);
  if (exit_code >= 0) return {std::nullopt, exit_code == 0 ? 0 : 2};
  absl::StatusOr<Options> options = Check(arguments);
  if (!options.ok()) {
    std::fputs(absl::StrCat("policy-sim: ", options.status().message(), "\n").c_str(), stderr);
    return {std::nullopt, 2};
  }
  return {*std::move(options), 0};
}

}  // namespace cairn::policy
