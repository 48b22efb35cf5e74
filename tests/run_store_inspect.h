#pragma once

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

#include "tests/disk_fixture.h"

namespace cairn {

struct RunResult {
  int exit_code = -1;
  std::string output;  // Standard output.
  std::string errors;  // Standard error.
};

inline std::string Quoted(const std::string& argument) { return "'" + argument + "'"; }

// Runs the tool as a shell does; what it says on standard error is caught in that file.
inline RunResult RunStoreInspect(const std::string& arguments, const std::string& errors_path) {
  FILE* const pipe =
      popen((CAIRN_STORE_INSPECT " " + arguments + " 2>" + Quoted(errors_path)).c_str(), "r");
  RunResult result;
  std::array<char, 4096> bytes;
  for (size_t size; (size = fread(bytes.data(), 1, bytes.size(), pipe)) > 0;) {
    result.output.append(bytes.data(), size);
  }
  const int status = pclose(pipe);
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  result.errors = ReadFile(errors_path);
  return result;
}

}  // namespace cairn
