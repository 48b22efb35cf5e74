#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tools/offload/options.h"

namespace CLI {
class App;
}  // namespace CLI

namespace cairn::offload {

// What the command line says of the store: where it is, how large its tiers are and how it works.
// As typed, before any of it is believed.
struct StoreArguments {
  std::string dir;
  std::vector<std::string> data_dirs;
  std::optional<std::string> l1;
  std::string gpus = "0";
  std::string device = "auto";
  std::string l1_memory = "device";
  std::string l2, l3;
  std::optional<std::string> l2_min;
  bool ignore_pressure = false;
  std::string l2_allocator = "hybrid";
  std::optional<std::string> l2_class_shares, l3_class_shares;
  bool l3_prewrite = false;
  std::string l3_write_budget = "off";
  std::string io_engine = "auto";
  std::optional<std::string> io_submission_polling;
  bool io_completion_polling = false;
  std::string eviction = "default";
  std::string write_policy = "back";
  bool predict = false;
};

void DeclareStoreOptions(CLI::App& app, StoreArguments& arguments);

// Checks the arguments and sets what they mean.
absl::Status SetStoreOptions(const StoreArguments& arguments, Options& options);

// As --l2-allocator has it.
const char* AllocatorName(AllocatorKind kind);

}  // namespace cairn::offload
