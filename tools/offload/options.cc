#include "tools/offload/options.h"

#include <cstdio>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "tools/offload/option_values.h"
#include "tools/offload/store_options.h"

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
  StoreArguments store;
  std::optional<std::string> class_mix;
  std::string speed = "max";
  std::string model;
  // Text, for a library that takes -1 for an unsigned number is of no use here. Empty: not given.
  std::string requests, concurrency, hints, window, kv_bytes_per_token, block_tokens, scale, seed;
  std::string prefill_tokens_per_s, decode_tokens_per_s;
};

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
  app.add_option("--window", arguments.window,
                 "Blocks that a request loads at a time, at most (default: 64 MiB of them)")
      ->type_name("N");
  app.add_option(
         "--decode-tokens-per-s", arguments.decode_tokens_per_s,
         "Take the host's time for each request, by the trace's clock: the tokens that were "
         "not restored at the prefill rate, and its answer at this rate. More requests "
         "wait then, and --hints knows of them (default: none is taken)")
      ->type_name("R");
  DeclareStoreOptions(app, arguments.store);
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
  app.add_option(
         "--prefill-tokens-per-s", arguments.prefill_tokens_per_s,
         "The rate at which the host would compute what it did not restore (default: 10000)")
      ->type_name("R");
  app.add_option("--seed", arguments.seed, "Of the generated workload (default: 1)")
      ->type_name("S");
  app.add_option("--json", arguments.json, "Write the figures here, too")->type_name("FILE");
  app.footer(kFooter);
}

// Empty only where the option is absent, never because a script's variable was.
absl::StatusOr<std::string> FileName(const char* option, const std::optional<std::string>& name) {
  if (name.has_value() && name->empty()) return Mistake(option, "names no file");
  return name.value_or("");
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
  CAIRN_ASSIGN_OR_RETURN(options.trace, FileName("--trace", arguments.trace));
  CAIRN_ASSIGN_OR_RETURN(options.json, FileName("--json", arguments.json));
  CAIRN_RETURN_IF_ERROR(SetStoreOptions(arguments.store, options));
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

}  // namespace cairn::offload
