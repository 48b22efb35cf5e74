// store-inspect: looks into the directory of a store, in use or not, whole or damaged, and changes
// nothing, unless it is told to rebuild the index. Its --help says what it can tell.

#include <string>

#include "src/base/strings.h"
#include "tools/inspect/commands.h"
#include "tools/inspect/options.h"
#include "tools/inspect/output.h"
#include "tools/inspect/store_view.h"

namespace cairn::inspect {
namespace {

absl::StatusOr<int> Inspect(const Options& options, Output& output) {
  if (options.command == Command::kRebuildIndex) return RebuildIndex(options, output);
  if (options.command == Command::kMachine) return ShowMachine(options, output);
  const absl::StatusOr<StoreView> view = StoreView::Open(options.path);
  if (!view.ok()) return view.status();
  switch (options.command) {
    case Command::kSummary:
      return Summarize(*view, options, output);
    case Command::kKeys:
      return ListKeys(*view, options, output);
    case Command::kShow:
      return ShowTensor(*view, options, output);
    case Command::kWhy:
      return ExplainTensor(*view, options, output);
    case Command::kVerify:
      return Verify(*view, options, output);
    case Command::kRebuildIndex:
    case Command::kMachine:
      break;  // Above: they open no view.
  }
  return kUnreadable;
}

int Main(int argc, const char* const* argv) {
  const ParseResult parsed = ParseOptions(argc, argv);
  if (!parsed.options) return parsed.exit_code;
  Output output;
  const absl::StatusOr<int> exit_code = Inspect(*parsed.options, output);
  const absl::Status printed = output.Close();
  if (!exit_code.ok()) {
    PrintError(ToStd(exit_code.status().message()));
    return kUnreadable;
  }
  if (!printed.ok()) {
    PrintError(ToStd(printed.message()));
    return kUnreadable;
  }
  return *exit_code;
}

}  // namespace
}  // namespace cairn::inspect

int main(int argc, char** argv) { return cairn::inspect::Main(argc, argv); }
