// Cairn beside its peers: one store, one size of tensors, one round; bench/peers.sh does all of
// them in turn. Every get is compared byte for byte.
//
//   peers_bench --list                           the stores of this build
//   peers_bench --store NAME --directory DIR --size BYTES --tensor-bytes BYTES [--round N]
//                                                one line of JSON with its figures
//   peers_bench --table FILE                     Markdown from such lines
//
// Exit status: 0, 1 a store failed or gave other bytes back, 2 wrong use.

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "bench/peers/figures.h"
#include "bench/peers/measure.h"
#include "bench/peers/peer_store.h"
#include "bench/peers/table.h"

namespace cairn::peers {
namespace {

struct Arguments {
  bool list = false;
  std::string table;
  std::string store;
  std::string directory;
  uint64_t size = 0;
  uint64_t tensor_bytes = 0;
  uint64_t round = 1;
};

int Mistake(const std::string& what) {
  std::fputs(absl::StrCat("peers_bench: ", what, " (--help lists the options)\n").c_str(), stderr);
  return 2;
}

int List() {
  for (const PeerKind& kind : PeerKinds()) std::puts(kind.name.c_str());
  return 0;
}

int PrintTables(const std::string& path) {
  std::ifstream file(path);
  std::vector<Figures> runs;
  for (std::string line; std::getline(file, line);) {
    absl::StatusOr<Figures> figures = FromLine(line);
    if (!figures.ok()) {
      return Mistake(absl::StrCat(path, ":", runs.size() + 1, ": ", figures.status().message()));
    }
    runs.push_back(*std::move(figures));
  }
  if (runs.empty()) return Mistake(absl::StrCat("no figures in ", path));
  std::fputs(MarkdownTables(PeerKinds(), runs).c_str(), stdout);
  std::puts("");
  for (const PeerKind& kind : PeerKinds()) {
    std::puts(absl::StrCat("- `", kind.name, "`: ", kind.what).c_str());
  }
  return 0;
}

int MeasureStore(const Arguments& arguments) {
  if (arguments.directory.empty()) return Mistake("--directory is missing");
  if (arguments.tensor_bytes == 0 || arguments.tensor_bytes % 4096 != 0) {
    return Mistake("--tensor-bytes must be a multiple of 4096");
  }
  if (arguments.size == 0 || arguments.size % arguments.tensor_bytes != 0) {
    return Mistake("--size must be a multiple of --tensor-bytes");
  }
  for (const PeerKind& kind : PeerKinds()) {
    if (kind.name != arguments.store) continue;
    const absl::StatusOr<Figures> figures =
        Measure(kind, {.directory = absl::StrCat(arguments.directory, "/", kind.name),
                       .tensor_bytes = arguments.tensor_bytes,
                       .bytes = arguments.size,
                       .round = arguments.round});
    if (!figures.ok()) {
      std::fputs(absl::StrCat(kind.name, ": ", figures.status().ToString(), "\n").c_str(), stderr);
      return 1;
    }
    std::puts(ToLine(*figures).c_str());
    return 0;
  }
  return Mistake(absl::StrCat("no store \"", arguments.store, "\" in this build"));
}

void Declare(CLI::App& app, Arguments& arguments) {
  app.add_flag("--list", arguments.list, "Name the stores of this build");
  app.add_option("--table", arguments.table, "Make tables of the lines in FILE")->type_name("FILE");
  app.add_option("--store", arguments.store, "The store to measure")->type_name("NAME");
  app.add_option("--directory", arguments.directory, "Where its files may be for the while")
      ->type_name("DIR");
  app.add_option("--size", arguments.size, "Bytes of all tensors")->type_name("BYTES");
  app.add_option("--tensor-bytes", arguments.tensor_bytes, "Bytes of one")->type_name("BYTES");
  app.add_option("--round", arguments.round, "Decides the order of the tensors (default: 1)")
      ->type_name("N");
}

int Main(int argc, char** argv) {
  CLI::App app("Cairn beside its peers", "peers_bench");
  Arguments arguments;
  Declare(app, arguments);
  CLI11_PARSE(app, argc, argv);
  if (arguments.list) return List();
  if (!arguments.table.empty()) return PrintTables(arguments.table);
  return MeasureStore(arguments);
}

}  // namespace
}  // namespace cairn::peers

int main(int argc, char** argv) { return cairn::peers::Main(argc, argv); }
