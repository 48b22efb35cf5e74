#include "tools/offload/options.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tools/offload/eviction_name.h"

namespace cairn::offload {
namespace {

// More workers than this wait for each other, not for the disk.
constexpr uint32_t kConcurrencyMax = 64;
constexpr uint32_t kHintsMax = 1024;
constexpr uint64_t kGeneratedRequests = 2000;
constexpr const char* kDefaultModel = "qwen3-vl-8b";
constexpr uint64_t kDefaultScale = 64;
constexpr uint64_t kBlockTokensMax = uint64_t{1} << 20;

constexpr const char* kDescription =
    "Plays a model host over a Cairn store: for each request of a trace it finds the longest\n"
    "stored prefix, restores those blocks and compares every byte with what it must be, then\n"
    "computes the missing blocks and stores them.";

constexpr const char* kFooter =
    "What the figures mean (GB: 1e9 bytes):\n"
    "  hit rate      blocks restored and verified / blocks of all replayed prompts\n"
    "  restore time  of a request: its look-up, and each window of loads from its submission to\n"
    "                its last completion; neither comparing nor computing counts\n"
    "  restore_gbps  bytes restored / time in which at least one load was in flight\n"
    "  restore_l3_gbps  the same over the windows in which every block came from L3\n"
    "  store_gbps    bytes newly stored / (time in which at least one put waited to be\n"
    "                acknowledged + the flush at the end)\n"
    "  time saved    tokens not recomputed / the prefill rate - the sum of restore times\n"
    "  wall_s        from the first request to the end of the flush\n"
    "Exit code: 0 all restored bytes were right; 1 some were not; 2 anything else went wrong.\n"
    "Ctrl-C finishes the requests in hand, flushes and reports; a second one aborts.";

// As typed, before any of it is believed.
struct Arguments {
  std::optional<std::string> trace, json;
  std::string dir;
  std::vector<std::string> data_dirs;
  std::optional<std::string> l1, class_mix;
  std::string device = "auto";
  std::string l2, l3;
  std::optional<std::string> l2_min;
  bool ignore_pressure = false;
  bool l3_prewrite = false;
  std::string l3_write_budget = "off";
  std::string speed = "max";
  std::string model;
  std::string io_engine = "auto";
  std::string eviction = "default";
  std::string write_policy = "back";
  // Text, for a library that takes -1 for an unsigned number is of no use here. Empty: not given.
  std::string requests, concurrency, hints, window, kv_bytes_per_token, block_tokens, scale, seed;
  std::string prefill_tokens_per_s, decode_tokens_per_s;
  bool predict = false;
};

void DeclareTiers(CLI::App& app, Arguments& arguments) {
  app.add_option("--dir", arguments.dir, "The store's directory; made when missing")
      ->type_name("DIR")
      ->required();
  app.add_option("--data-dir", arguments.data_dirs,
                 "A directory to keep tensors in instead of --dir, one for each drive: give it "
                 "again for every further drive, always in the same order. Must exist. A store "
                 "that is there already knows its own")
      ->type_name("DIR")
      ->allow_extra_args(false);
  app.add_option("--l1", arguments.l1,
                 "GPU memory for tensors, such as 4GiB: blocks are then restored to there. Without "
                 "a GPU memory of the host stands in for it (default: no L1)")
      ->type_name("SIZE");
  app.add_option("--device", arguments.device,
                 "What has the memory of --l1: cuda, host, or auto: a GPU where one answers "
                 "(default: auto)")
      ->type_name("NAME");
  app.add_option("--l2", arguments.l2, "Host memory for tensors, such as 2GiB")
      ->type_name("SIZE")
      ->required();
  app.add_option("--l2-min", arguments.l2_min,
                 "What --l2 keeps where the host's memory, or its control group's, runs short and "
                 "the store gives way (default: an eighth of --l2)")
      ->type_name("SIZE");
  app.add_flag("--ignore-pressure", arguments.ignore_pressure,
               "Keep all of --l2 where memory runs short");
  app.add_option("--l3", arguments.l3, "Bytes on disk, such as 16GiB, of all directories together")
      ->type_name("SIZE")
      ->required();
  app.add_flag(
      "--l3-prewrite", arguments.l3_prewrite,
      "Write a new store's files with zeros first: its first fill is then as fast as later "
      "ones, and costs one write of --l3 more");
  app.add_option("--l3-write-budget", arguments.l3_write_budget,
                 "What may be written to --l3 in a day of the wall clock, such as 300GB; drive: as "
                 "much as the drives hold. Blocks beyond it are kept in --l2 alone, those that are "
                 "not full always, and the run ends without a flush, which would write them. off: "
                 "every block is written (default: off)")
      ->type_name("SIZE|drive|off");
}

void Declare(CLI::App& app, Arguments& arguments) {
  app.add_option("--trace", arguments.trace,
                 "Requests as JSON lines, of the Mooncake or the Qwen-Bailian schema. Without it "
                 "a seeded multi-turn workload is generated")
      ->type_name("FILE");
  app.add_option("--requests", arguments.requests,
                 absl::StrCat("Replay only the first N (default: all of a trace, ",
                              kGeneratedRequests, " of the generated workload)"))
      ->type_name("N");
  app.add_option("--speed", arguments.speed,
                 "Follow the trace's clock, X times as fast; max: do not wait (default: max)")
      ->type_name("X|max");
  app.add_option("--concurrency", arguments.concurrency, "Requests at a time (default: 1)")
      ->type_name("C");
  app.add_option("--hints", arguments.hints,
                 "Announce up to N requests that wait to the store, which loads ahead (default: 0)")
      ->type_name("N");
  app.add_flag("--predict", arguments.predict,
               "Have the store load ahead what followed a block the last time");
  app.add_option("--window", arguments.window,
                 "Blocks that a request loads at a time, at most (default: 64 MiB of them)")
      ->type_name("N");
  app.add_option(
         "--decode-tokens-per-s", arguments.decode_tokens_per_s,
         "Take the host's time for each request, by the trace's clock: the tokens that were "
         "not restored at the prefill rate, and its answer at this rate. More requests "
         "wait then, and --hints knows of them (default: none is taken)")
      ->type_name("R");
  DeclareTiers(app, arguments);
  app.add_option("--model", arguments.model,
                 absl::StrCat("Whose KV cache it is: ", ModelNames(), " (default: ", kDefaultModel,
                              " with --scale ", kDefaultScale, ")"))
      ->type_name("NAME");
  app.add_option("--kv-bytes-per-token", arguments.kv_bytes_per_token, "Instead of --model")
      ->type_name("B");
  app.add_option("--class-mix", arguments.class_mix,
                 "Tensors of other classes among the KV blocks, by weight, such as "
                 "kv:70,vision:20,text:10. In a block's place then comes what a vision encoder "
                 "gives out for an image of 256, 576 or 1024 visual tokens, or the embeddings of "
                 "the block's tokens. Needs --model (default: kv:1)")
      ->type_name("MIX");
  app.add_option("--block-tokens", arguments.block_tokens,
                 "Tokens in a block (default: 512 for Mooncake, else 16)")
      ->type_name("T");
  app.add_option("--scale", arguments.scale,
                 "Divide a block's bytes by K, rounded up to 4096, so that a small machine can "
                 "replay a large one's trace (default: 1)")
      ->type_name("K");
  app.add_option("--io-engine", arguments.io_engine, "uring, posix or auto (default: auto)")
      ->type_name("NAME");
  app.add_option("--eviction", arguments.eviction,
                 absl::StrCat("What leaves a full tier: ", EvictionNames(), " (default: default)"))
      ->type_name("NAME");
  app.add_option("--write-policy", arguments.write_policy,
                 "When a put is acknowledged: back: in memory; through: on disk (default: back)")
      ->type_name("back|through");
  app.add_option(
         "--prefill-tokens-per-s", arguments.prefill_tokens_per_s,
         "The rate at which the host would compute what it did not restore (default: 10000)")
      ->type_name("R");
  app.add_option("--seed", arguments.seed, "Of the generated workload (default: 1)")
      ->type_name("S");
  app.add_option("--json", arguments.json, "Write the figures here, too")->type_name("FILE");
  app.footer(kFooter);
}

absl::Status Mistake(const char* option, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(option, ": ", what));
}

// Empty only where the option is absent, never because a script's variable was.
absl::StatusOr<std::string> FileName(const char* option, const std::optional<std::string>& name) {
  if (name.has_value() && name->empty()) return Mistake(option, "names no file");
  return name.value_or("");
}

absl::StatusOr<uint64_t> SizeOf(const char* option, const std::string& text) {
  absl::StatusOr<uint64_t> size = ParseSize(text);
  if (!size.ok()) return Mistake(option, std::string(size.status().message()));
  return size;
}

absl::StatusOr<uint64_t> WriteBudget(const std::string& text) {
  if (text == "off") return StoreOptions::kL3WritesUnlimited;
  if (text == "drive") return uint64_t{0};
  const absl::StatusOr<uint64_t> size = ParseSize(text);
  if (size.ok()) return size;
  return Mistake("--l3-write-budget",
                 absl::StrCat(size.status().message(), ", nor drive, nor off"));
}

struct Range {
  uint64_t min = 1;
  uint64_t max = UINT32_MAX;
};

absl::StatusOr<uint64_t> CountOf(const char* option, const std::string& text, Range range) {
  uint64_t count = 0;
  if (absl::SimpleAtoi(text, &count) && count >= range.min && count <= range.max) return count;
  return Mistake(option, absl::StrCat("\"", text, "\" is not a whole number from ", range.min,
                                      " to ", range.max));
}

absl::StatusOr<double> NumberOver0(const char* option, const std::string& text) {
  double number = 0;
  if (absl::SimpleAtod(text, &number) && std::isfinite(number) && number > 0) return number;
  return Mistake(option, absl::StrCat("\"", text, "\" is not a number over 0"));
}

absl::StatusOr<IoEngineKind> IoEngine(const std::string& name) {
  if (name == "auto") return IoEngineKind::kAuto;
  if (name == "uring") return IoEngineKind::kUring;
  if (name == "posix") return IoEngineKind::kPosix;
  return Mistake("--io-engine", absl::StrCat("\"", name, "\" is not uring, posix or auto"));
}

absl::StatusOr<DeviceKind> Device(const std::string& name) {
  if (name == "auto") return DeviceKind::kAuto;
  if (name == "cuda") return DeviceKind::kCuda;
  if (name == "host") return DeviceKind::kHost;
  return Mistake("--device", absl::StrCat("\"", name, "\" is not cuda, host or auto"));
}

absl::StatusOr<WritePolicy> Policy(const std::string& name) {
  if (name == "back") return WritePolicy::kWriteBack;
  if (name == "through") return WritePolicy::kWriteThrough;
  return Mistake("--write-policy", absl::StrCat("\"", name, "\" is not back or through"));
}

absl::Status SetModel(const Arguments& arguments, Options& options) {
  const bool named = !arguments.model.empty();
  if (!arguments.kv_bytes_per_token.empty()) {
    if (named) return Mistake("--kv-bytes-per-token", "given together with --model");
    if (arguments.class_mix.has_value()) {
      return Mistake("--class-mix", "needs a --model, which has the sizes of the other classes");
    }
    CAIRN_ASSIGN_OR_RETURN(options.kv_bytes_per_token,
                           CountOf("--kv-bytes-per-token", arguments.kv_bytes_per_token, {}));
    return absl::OkStatus();
  }
  absl::StatusOr<Model> model = FindModel(named ? arguments.model : kDefaultModel);
  if (!model.ok()) return Mistake("--model", std::string(model.status().message()));
  options.model = *model;
  options.kv_bytes_per_token = model->kv_bytes_per_token();
  if (!named) options.scale = kDefaultScale;
  if (!arguments.class_mix.has_value()) return absl::OkStatus();
  absl::StatusOr<ClassMix> mix = ParseClassMix(*arguments.class_mix);
  if (!mix.ok()) return Mistake("--class-mix", std::string(mix.status().message()));
  options.class_mix = *mix;
  return absl::OkStatus();
}

absl::Status SetNumbers(const Arguments& arguments, Options& options) {
  if (!arguments.requests.empty()) {
    CAIRN_ASSIGN_OR_RETURN(options.requests, CountOf("--requests", arguments.requests, {}));
  } else if (options.trace.empty()) {
    options.requests = kGeneratedRequests;
  }
  if (!arguments.concurrency.empty()) {
    CAIRN_ASSIGN_OR_RETURN(
        const uint64_t concurrency,
        CountOf("--concurrency", arguments.concurrency, {.max = kConcurrencyMax}));
    options.concurrency = static_cast<uint32_t>(concurrency);
  }
  if (!arguments.hints.empty()) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t hints,
                           CountOf("--hints", arguments.hints, {.min = 0, .max = kHintsMax}));
    options.hints = static_cast<uint32_t>(hints);
  }
  if (!arguments.window.empty()) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t window, CountOf("--window", arguments.window, {}));
    options.window = static_cast<uint32_t>(window);
  }
  if (!arguments.block_tokens.empty()) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t tokens, CountOf("--block-tokens", arguments.block_tokens,
                                                          {.max = kBlockTokensMax}));
    options.block_tokens = static_cast<uint32_t>(tokens);
  }
  if (!arguments.scale.empty()) {
    CAIRN_ASSIGN_OR_RETURN(options.scale, CountOf("--scale", arguments.scale, {}));
  }
  if (!arguments.seed.empty()) {
    CAIRN_ASSIGN_OR_RETURN(options.seed,
                           CountOf("--seed", arguments.seed, {.min = 0, .max = UINT64_MAX}));
  }
  if (!arguments.prefill_tokens_per_s.empty()) {
    CAIRN_ASSIGN_OR_RETURN(options.prefill_tokens_per_s,
                           NumberOver0("--prefill-tokens-per-s", arguments.prefill_tokens_per_s));
  }
  if (!arguments.decode_tokens_per_s.empty()) {
    CAIRN_ASSIGN_OR_RETURN(options.decode_tokens_per_s,
                           NumberOver0("--decode-tokens-per-s", arguments.decode_tokens_per_s));
  }
  if (arguments.speed == "max") return absl::OkStatus();
  CAIRN_ASSIGN_OR_RETURN(options.speed, NumberOver0("--speed", arguments.speed));
  return absl::OkStatus();
}

absl::StatusOr<Options> Check(const Arguments& arguments) {
  Options options;
  options.dir = arguments.dir;
  options.data_dirs = arguments.data_dirs;
  options.predict = arguments.predict;
  for (const std::string& data_dir : options.data_dirs) {
    if (data_dir.empty()) return Mistake("--data-dir", "names no directory");
  }
  CAIRN_ASSIGN_OR_RETURN(options.trace, FileName("--trace", arguments.trace));
  CAIRN_ASSIGN_OR_RETURN(options.json, FileName("--json", arguments.json));
  if (arguments.l1.has_value()) {
    CAIRN_ASSIGN_OR_RETURN(options.l1_bytes, SizeOf("--l1", *arguments.l1));
  }
  CAIRN_ASSIGN_OR_RETURN(options.device, Device(arguments.device));
  CAIRN_ASSIGN_OR_RETURN(options.l2_bytes, SizeOf("--l2", arguments.l2));
  if (arguments.l2_min.has_value()) {
    CAIRN_ASSIGN_OR_RETURN(options.l2_bytes_min, SizeOf("--l2-min", *arguments.l2_min));
  }
  options.heed_memory_pressure = !arguments.ignore_pressure;
  CAIRN_ASSIGN_OR_RETURN(options.l3_bytes, SizeOf("--l3", arguments.l3));
  options.l3_prewrite = arguments.l3_prewrite;
  CAIRN_ASSIGN_OR_RETURN(options.l3_write_bytes_per_day, WriteBudget(arguments.l3_write_budget));
  CAIRN_ASSIGN_OR_RETURN(options.io_engine, IoEngine(arguments.io_engine));
  const absl::StatusOr<EvictionKind> eviction = FindEviction(arguments.eviction);
  if (!eviction.ok()) return Mistake("--eviction", std::string(eviction.status().message()));
  options.eviction = *eviction;
  CAIRN_ASSIGN_OR_RETURN(options.write_policy, Policy(arguments.write_policy));
  CAIRN_RETURN_IF_ERROR(SetModel(arguments, options));
  CAIRN_RETURN_IF_ERROR(SetNumbers(arguments, options));
  return options;
}

// -1 when all went well: 0 is the exit code after --help.
int Parse(CLI::App& app, int argc, const char* const* argv) {
  CLI11_PARSE(app, argc, argv);
  return -1;
}

}  // namespace

ParseResult ParseOptions(int argc, const char* const* argv) {
  CLI::App app(kDescription, "kv-offload");
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return absl::StrCat("kv-offload: ", error.what(), " (--help lists the options)\n");
  });
  Arguments arguments;
  Declare(app, arguments);
  const int exit_code = Parse(app, argc, argv);
  if (exit_code >= 0) return {std::nullopt, exit_code == 0 ? 0 : 2};
  absl::StatusOr<Options> options = Check(arguments);
  if (!options.ok()) {
    std::fputs(absl::StrCat("kv-offload: ", options.status().message(), "\n").c_str(), stderr);
    return {std::nullopt, 2};
  }
  return {*std::move(options), 0};
}

absl::StatusOr<uint64_t> ParseSize(std::string_view text) {
  const absl::Status mistake = absl::InvalidArgumentError(
      absl::StrCat("\"", ToAbsl(text), "\" is not a size over 0, such as 512MiB, 2GiB or 1.5G"));
  const size_t number_size = std::min(text.find_first_not_of("0123456789."), text.size());
  double number = 0;
  uint64_t whole = 0;
  const absl::string_view number_text = ToAbsl(text.substr(0, number_size));
  const bool is_whole = absl::SimpleAtoi(number_text, &whole);
  if (!is_whole && !absl::SimpleAtod(number_text, &number)) return mistake;

  absl::string_view unit = absl::StripAsciiWhitespace(ToAbsl(text.substr(number_size)));
  uint64_t factor = 1;
  if (!unit.empty() && !absl::EqualsIgnoreCase(unit, "B")) {
    const size_t power = std::string_view("kmgt").find(absl::ascii_tolower(unit.front()));
    if (power == std::string_view::npos) return mistake;
    unit.remove_prefix(1);
    const bool decimal = absl::EqualsIgnoreCase(unit, "B");
    if (!decimal && !unit.empty() && !absl::EqualsIgnoreCase(unit, "iB")) return mistake;
    for (size_t i = 0; i <= power; ++i) factor *= decimal ? 1000 : 1024;
  }
  if (is_whole) number = static_cast<double>(whole);
  const double bytes = number * static_cast<double>(factor);
  if (bytes < 1 || bytes >= 0x1p63) return mistake;
  return is_whole ? whole * factor : static_cast<uint64_t>(bytes);
}

}  // namespace cairn::offload
