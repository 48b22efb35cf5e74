#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace cairn::inspect {

enum class Command : uint8_t { kSummary, kKeys, kShow, kWhy, kVerify, kRebuildIndex, kMachine };

// What the command line asks for.
struct Options {
  Command command = Command::kSummary;
  std::string path;
  std::string key;     // show, why: as it was typed.
  std::string prefix;  // keys: as it was typed.
  std::optional<std::string> fingerprint;
  bool json = false;
  bool replace = false;  // rebuild-index: also an index that is sound.
};

struct ParseResult {
  std::optional<Options> options;  // Absent: all is said, end with exit_code.
  int exit_code = 0;
};
ParseResult ParseOptions(int argc, const char* const* argv);

}  // namespace cairn::inspect
