// Opens a store after a power cut and checks it against what crash_child had said; then the file
// SAID holds what was found, for the next writer to append to.
//
//   crash_check DIRECTORY uring|posix|auto SAID
//
// Exit status: 0 all as promised, 1 a promise was broken, 2 wrong arguments.

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "cairn/store.h"
#include "tests/crash_content.h"
#include "tests/crash_oracle.h"

namespace cairn {
namespace {

int Main(int argc, char** argv) {
  if (argc != 4) return 2;
  std::ifstream file(argv[3], std::ios::binary);
  std::ostringstream said;
  said << file.rdbuf();
  CrashOracle oracle(CrashOracle::Cut::kPower);
  oracle.Account(said.str());
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(CrashStoreOptions(argv[1], argv[2]));
  if (!store.ok()) {
    std::printf("violation: Open: %s\n", store.status().ToString().c_str());
    return 1;
  }
  const std::vector<std::string> violations = oracle.Check(**store, argv[1]);
  for (const std::string& violation : violations) std::printf("violation: %s\n", violation.c_str());
  std::printf("%d tensors right, %d lost as the cut explains\n", oracle.tensors_found(),
              oracle.tensors_lost());
  const absl::Status closed = (*store)->Close();
  if (!closed.ok()) std::printf("violation: Close: %s\n", closed.ToString().c_str());
  std::ofstream(argv[3], std::ios::binary | std::ios::trunc) << oracle.Found();
  return violations.empty() && closed.ok() ? 0 : 1;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
