#include "tools/inspect/options.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"

namespace cairn::inspect {
namespace {

constexpr const char* kDescription =
    "Looks into the directory of a Cairn store, in use or not, whole or damaged, and changes "
    "nothing.\n"
    "Exit status: 0 sound, 1 damage found, 2 cannot read.\n"
    "Keys are printed with bytes that are not printable as \\xNN, and may be typed so.";

struct Arguments {
  Options options;
  std::string first;
  std::string second;
  std::string fingerprint;
  CLI::Option* fingerprint_given[2] = {};
};

void DeclareDirectory(CLI::App& command, Arguments& arguments) {
  command.add_option("DIR", arguments.options.path, "The directory of the store")->required();
  command.add_flag("--json", arguments.options.json, "One JSON object instead of text");
}

void Declare(CLI::App& app, Arguments& arguments) {
  app.require_subcommand(1);
  const auto add = [&](const char* name, Command command, const char* description) {
    return app.add_subcommand(name, description)->final_callback([&arguments, command] {
      arguments.options.command = command;
    });
  };
  DeclareDirectory(*add("summary", Command::kSummary, "What is in the store, in figures"),
                   arguments);
  DeclareDirectory(*add("verify", Command::kVerify, "Reads every tensor and compares its checksum"),
                   arguments);

  CLI::App* const keys = add("keys", Command::kKeys, "The keys of all tensors, one a line");
  DeclareDirectory(*keys, arguments);
  keys->add_option("--prefix", arguments.options.prefix, "Only keys that begin so");
  arguments.fingerprint_given[0] =
      keys->add_option("--fingerprint", arguments.fingerprint, "Only tensors of this fingerprint");

  CLI::App* const show =
      add("show", Command::kShow, "What is known of one tensor, and whether it verifies");
  show->add_option("DIR", arguments.first, "The directory of the store")->required();
  show->add_option("KEY", arguments.second, "The key (KEY DIR is understood too)")->required();
  show->add_flag("--json", arguments.options.json, "One JSON object instead of text");
  arguments.fingerprint_given[1] = show->add_option("--fingerprint", arguments.fingerprint,
                                                    "Only the tensor of this fingerprint");
}

// The macro returns from the function it is in: 0 after --help, others after a mistake.
int Parse(CLI::App& app, int argc, const char* const* argv) {
  CLI11_PARSE(app, argc, argv);
  return -1;
}

}  // namespace

ParseResult ParseOptions(int argc, const char* const* argv) {
  CLI::App app(kDescription, "store-inspect");
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return absl::StrCat("store-inspect: ", error.what(), " (--help lists the commands)\n");
  });
  Arguments arguments;
  Declare(app, arguments);
  const int exit_code = Parse(app, argc, argv);
  if (exit_code >= 0) return {.options = std::nullopt, .exit_code = exit_code == 0 ? 0 : 2};
  Options& options = arguments.options;
  for (const CLI::Option* const given : arguments.fingerprint_given) {
    if (given->count() > 0) options.fingerprint = arguments.fingerprint;
  }
  if (options.command == Command::kShow) {
    std::error_code error;
    const bool swapped = !std::filesystem::is_directory(arguments.first, error) &&
                         std::filesystem::is_directory(arguments.second, error);
    options.path = swapped ? arguments.second : arguments.first;
    options.key = swapped ? arguments.first : arguments.second;
  }
  return {.options = std::move(options), .exit_code = 0};
}

}  // namespace cairn::inspect
