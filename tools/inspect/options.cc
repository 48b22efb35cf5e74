#include "tools/inspect/options.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"

namespace cairn::inspect {
namespace {

constexpr const char* kDescription =
    "Looks into the directory of a Cairn store, in use or not, whole or damaged. All commands but "
    "rebuild-index change nothing. Data files in other directories are found by what DIR says.\n"
    "Exit status: 0 sound, 1 damage found, 2 cannot read.\n"
    "Keys are printed with bytes that are not printable as \\xNN, and may be typed so.";

constexpr const char* kVerifyFooter =
    "What a power cut leaves is counted apart and is no damage: entries whose place has gone to a\n"
    "later write (superseded), and writes that the index had and the disk did not have yet (never\n"
    "written). The last are told by what was there before: nothing, zeros, or bytes of an earlier\n"
    "write that still verify. So a device that loses what it has acknowledged, and a file filled\n"
    "with zeros by mistake, look the same; their tensors are listed by key. Where neither old nor\n"
    "new bytes verify, it is called damage.";

constexpr const char* kWhyFooter =
    "From the store's journal, which keeps the last decisions "
    "(StoreOptions::journal_records_max).\n"
    "A store writes it when it is closed, and every 5 minutes: of one that is open, or was "
    "killed,\n"
    "the last minutes are missing. A key that has left is told of as long as the journal knows it.";

constexpr const char* kRebuildFooter =
    "Needs the store closed. Reads all data files, takes of every key the latest write, verifies\n"
    "its bytes, writes a new index beside the old one and exchanges the two in one step; nothing "
    "is\n"
    "written to the data files. Refuses where the index is sound, without --replace.\n"
    "The files do not tell what was erased, evicted, purged or replaced: as long as its bytes "
    "were\n"
    "not used again it comes back, and a key whose latest write is overwritten comes back with an\n"
    "older one. Hosts whose keys name their content lose nothing by that; others should erase "
    "anew\n"
    "or make a new store.\n"
    "Exit status: 0 rebuilt, 1 rebuilt without what is damaged (listed), 2 not rebuilt.";

struct Arguments {
  Options options;
  std::string first;
  std::string second;
  std::string fingerprint;
  CLI::Option* fingerprint_given[3] = {};
};

void DeclareDirectory(CLI::App& command, Arguments& arguments) {
  command.add_option("DIR", arguments.options.path, "The directory of the store")->required();
  command.add_flag("--json", arguments.options.json, "One JSON object instead of text");
}

void DeclareKey(CLI::App& command, Arguments& arguments, CLI::Option** fingerprint_given) {
  command.add_option("DIR", arguments.first, "The directory of the store")->required();
  command.add_option("KEY", arguments.second, "The key (KEY DIR is understood too)")->required();
  command.add_flag("--json", arguments.options.json, "One JSON object instead of text");
  *fingerprint_given = command.add_option("--fingerprint", arguments.fingerprint,
                                          "Only the tensor of this fingerprint");
}

void DeclareMachine(CLI::App& app, Arguments& arguments) {
  CLI::App* const machine = app.add_subcommand(
      "machine", "What a store finds on this machine, and the options that suit it");
  machine->final_callback([&arguments] { arguments.options.command = Command::kMachine; });
  machine->add_option("DIR", arguments.options.path,
                      "Where a store is or is to be; by default the current directory");
  machine->add_flag("--json", arguments.options.json, "One JSON object instead of text");
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
  CLI::App* const verify =
      add("verify", Command::kVerify, "Reads every tensor and compares its checksum");
  DeclareDirectory(*verify, arguments);
  verify->footer(kVerifyFooter);

  CLI::App* const rebuild =
      add("rebuild-index", Command::kRebuildIndex,
          "Makes a lost or damaged index anew from the records in the data files");
  DeclareDirectory(*rebuild, arguments);
  rebuild->add_flag("--replace", arguments.options.replace, "Also where the index is sound");
  rebuild->footer(kRebuildFooter);

  CLI::App* const keys = add("keys", Command::kKeys, "The keys of all tensors, one a line");
  DeclareDirectory(*keys, arguments);
  keys->add_option("--prefix", arguments.options.prefix, "Only keys that begin so");
  arguments.fingerprint_given[0] =
      keys->add_option("--fingerprint", arguments.fingerprint, "Only tensors of this fingerprint");

  DeclareKey(*add("show", Command::kShow, "What is known of one tensor, and whether it verifies"),
             arguments, &arguments.fingerprint_given[1]);
  CLI::App* const why =
      add("why", Command::kWhy, "Where a tensor is, and what was decided for it, when and why");
  DeclareKey(*why, arguments, &arguments.fingerprint_given[2]);
  why->footer(kWhyFooter);
  DeclareMachine(app, arguments);
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
  if (options.path.empty()) options.path = ".";
  if (options.command == Command::kShow || options.command == Command::kWhy) {
    std::error_code error;
    const bool swapped = !std::filesystem::is_directory(arguments.first, error) &&
                         std::filesystem::is_directory(arguments.second, error);
    options.path = swapped ? arguments.second : arguments.first;
    options.key = swapped ? arguments.first : arguments.second;
  }
  return {.options = std::move(options), .exit_code = 0};
}

}  // namespace cairn::inspect
