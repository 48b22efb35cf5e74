#include "tools/offload/store_options.h"

#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tools/offload/class_shares.h"
#include "tools/offload/eviction_name.h"
#include "tools/offload/option_values.h"

namespace cairn::offload {
namespace {

void DeclareTiers(CLI::App& app, StoreArguments& arguments) {
  app.add_option("--dir", arguments.dir, "The store's directory; made when missing")
      ->type_name("DIR")
      ->required();
  app.add_option("--data-dir", arguments.data_dirs,
                 "A directory to keep tensors in instead of --dir, one for each drive: give it "
                 "again for every further drive, always in the same order. Must exist. A store "
                 "that is there already knows its own. With =3 behind it a drive takes three times "
                 "as much as one of =1, or of none; a directory whose name ends so needs a weight")
      ->type_name("DIR[=WEIGHT]")
      ->allow_extra_args(false);
  app.add_option("--l1", arguments.l1,
                 "GPU memory for tensors, such as 4GiB: blocks are then restored to there. Without "
                 "a GPU memory of the host stands in for it (default: no L1)")
      ->type_name("SIZE");
  app.add_option("--gpus", arguments.gpus,
                 "Which GPUs have an L1 of --l1 each, such as 0,1: each request is served on the "
                 "next of them (default: 0)")
      ->type_name("LIST");
  app.add_option("--device", arguments.device,
                 "What has the memory of --l1: cuda, host, or auto: a GPU where one answers "
                 "(default: auto)")
      ->type_name("NAME");
  app.add_option("--l1-memory", arguments.l1_memory,
                 "What memory of a GPU --l1 is: device, or managed, which the host may touch too "
                 "(default: device)")
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
  app.add_option("--l2-allocator", arguments.l2_allocator,
                 "How --l2 is cut: hybrid, buddy or best-fit (default: hybrid)")
      ->type_name("NAME");
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

void DeclareBehaviour(CLI::App& app, StoreArguments& arguments) {
  app.add_option("--l2-class-shares", arguments.l2_class_shares,
                 "What classes of tensors are sure of in --l2, and how far they may go, as shares "
                 "of it, MIN:MAX, such as kv=0.5:1,vision=0:0.3; the classes are general, kv, "
                 "vision and text (default: 0:1 each)")
      ->type_name("SHARES");
  app.add_option("--l3-class-shares", arguments.l3_class_shares, "The same in --l3")
      ->type_name("SHARES");
  app.add_option("--io-engine", arguments.io_engine, "uring, posix or auto (default: auto)")
      ->type_name("NAME");
  app.add_option("--io-submission-polling", arguments.io_submission_polling,
                 "Have a thread of the kernel's look for requests (io_uring's SQPOLL), and sleep "
                 "when none has come for so many milliseconds; it takes a core (default: none)")
      ->type_name("MS");
  app.add_flag("--io-completion-polling", arguments.io_completion_polling,
               "Look for completions at the drive (io_uring's IOPOLL), where it has queues for "
               "that; it takes a core");
  app.add_option("--eviction", arguments.eviction,
                 absl::StrCat("What leaves a full tier: ", EvictionNames(), " (default: default)"))
      ->type_name("NAME");
  app.add_option("--write-policy", arguments.write_policy,
                 "When a put is acknowledged: back: in memory; through: on disk (default: back)")
      ->type_name("back|through");
  app.add_flag("--predict", arguments.predict,
               "Have the store load ahead what followed a block the last time");
}

constexpr std::pair<const char*, AllocatorKind> kAllocators[] = {
    {"hybrid", AllocatorKind::kHybrid},
    {"buddy", AllocatorKind::kBuddy},
    {"best-fit", AllocatorKind::kBestFit}};

absl::StatusOr<uint64_t> WriteBudget(std::string_view text) {
  if (text == "off") return StoreOptions::kL3WritesUnlimited;
  if (text == "drive") return uint64_t{0};
  const absl::StatusOr<uint64_t> size = ParseSize(text);
  if (size.ok()) return size;
  return Mistake("--l3-write-budget",
                 absl::StrCat(size.status().message(), ", nor drive, nor off"));
}

// Numbers that a store would refuse are a mistake of the option's.
absl::StatusOr<std::vector<int>> Gpus(const std::string& text) {
  StoreOptions store;
  store.path = "any";
  store.gpus.clear();
  for (const absl::string_view number : absl::StrSplit(text, ',')) {
    int gpu = 0;
    if (!absl::SimpleAtoi(number, &gpu)) {
      return Mistake("--gpus", absl::StrCat("\"", text, "\" is no list of numbers, such as 0,1"));
    }
    store.gpus.push_back(gpu);
  }
  const absl::Status status = store.Validate();
  if (status.ok()) return store.gpus;
  return Mistake("--gpus", absl::StrCat("\"", text, "\": ", status.message()));
}

absl::Status SetTiers(const StoreArguments& arguments, Options& options) {
  if (arguments.l1.has_value()) {
    CAIRN_ASSIGN_OR_RETURN(options.l1_bytes, SizeOf("--l1", *arguments.l1));
  }
  CAIRN_ASSIGN_OR_RETURN(options.gpus, Gpus(arguments.gpus));
  CAIRN_ASSIGN_OR_RETURN(options.device, OneOf<DeviceKind>("--device", arguments.device,
                                                           {{"cuda", DeviceKind::kCuda},
                                                            {"host", DeviceKind::kHost},
                                                            {"auto", DeviceKind::kAuto}}));
  CAIRN_ASSIGN_OR_RETURN(options.l1_memory, OneOf<L1Memory>("--l1-memory", arguments.l1_memory,
                                                            {{"device", L1Memory::kDevice},
                                                             {"managed", L1Memory::kManaged}}));
  CAIRN_ASSIGN_OR_RETURN(options.l2_bytes, SizeOf("--l2", arguments.l2));
  if (arguments.l2_min.has_value()) {
    CAIRN_ASSIGN_OR_RETURN(options.l2_bytes_min, SizeOf("--l2-min", *arguments.l2_min));
  }
  options.heed_memory_pressure = !arguments.ignore_pressure;
  CAIRN_ASSIGN_OR_RETURN(options.l2_allocator,
                         OneOf("--l2-allocator", arguments.l2_allocator, kAllocators));
  CAIRN_ASSIGN_OR_RETURN(options.l3_bytes, SizeOf("--l3", arguments.l3));
  options.l3_prewrite = arguments.l3_prewrite;
  CAIRN_ASSIGN_OR_RETURN(options.l3_write_bytes_per_day, WriteBudget(arguments.l3_write_budget));
  return absl::OkStatus();
}

// Shares that a store would refuse are a mistake of the option's.
absl::Status SetShares(const char* option, const std::optional<std::string>& text,
                       ClassShares StoreOptions::*field, ClassShares& shares) {
  if (!text.has_value()) return absl::OkStatus();
  absl::StatusOr<ClassShares> parsed = ParseClassShares(*text);
  if (!parsed.ok()) return Mistake(option, ToStd(parsed.status().message()));
  StoreOptions store;
  store.path = "any";
  store.*field = *parsed;
  if (const absl::Status status = store.Validate(); !status.ok()) {
    return Mistake(option, absl::StrCat("\"", *text, "\": ", status.message()));
  }
  shares = *parsed;
  return absl::OkStatus();
}

absl::Status SetBehaviour(const StoreArguments& arguments, Options& options) {
  CAIRN_RETURN_IF_ERROR(SetShares("--l2-class-shares", arguments.l2_class_shares,
                                  &StoreOptions::l2_class_shares, options.l2_class_shares));
  CAIRN_RETURN_IF_ERROR(SetShares("--l3-class-shares", arguments.l3_class_shares,
                                  &StoreOptions::l3_class_shares, options.l3_class_shares));
  CAIRN_ASSIGN_OR_RETURN(options.io_engine, OneOf<IoEngineKind>("--io-engine", arguments.io_engine,
                                                                {{"uring", IoEngineKind::kUring},
                                                                 {"posix", IoEngineKind::kPosix},
                                                                 {"auto", IoEngineKind::kAuto}}));
  if (arguments.io_submission_polling.has_value()) {
    const auto ms_max =
        static_cast<uint64_t>(StoreOptions::kIoSubmissionPollingMax / absl::Milliseconds(1));
    CAIRN_ASSIGN_OR_RETURN(
        const uint64_t ms,
        CountOf("--io-submission-polling", *arguments.io_submission_polling, {.max = ms_max}));
    options.io_submission_polling = absl::Milliseconds(ms);
  }
  options.io_completion_polling = arguments.io_completion_polling;
  const absl::StatusOr<EvictionKind> eviction = FindEviction(arguments.eviction);
  if (!eviction.ok()) return Mistake("--eviction", ToStd(eviction.status().message()));
  options.eviction = *eviction;
  CAIRN_ASSIGN_OR_RETURN(options.write_policy,
                         OneOf<WritePolicy>("--write-policy", arguments.write_policy,
                                            {{"back", WritePolicy::kWriteBack},
                                             {"through", WritePolicy::kWriteThrough}}));
  options.predict = arguments.predict;
  return absl::OkStatus();
}

// DIR or DIR=WEIGHT. What is behind the last = and no number is of the name.
absl::Status SetDataDirs(const StoreArguments& arguments, Options& options) {
  bool weighted = false;
  for (const std::string& typed : arguments.data_dirs) {
    std::string dir = typed;
    uint64_t weight = 1;
    const size_t equals = typed.rfind('=');
    const bool given = equals != std::string::npos && equals + 1 < typed.size() &&
                       typed.find_first_not_of("0123456789", equals + 1) == std::string::npos;
    if (given) {
      dir.resize(equals);
      CAIRN_ASSIGN_OR_RETURN(weight, CountOf("--data-dir", typed.substr(equals + 1),
                                             {.max = StoreOptions::kDataWeightMax}));
    }
    if (dir.empty()) return Mistake("--data-dir", "names no directory");
    weighted |= given;
    options.data_dirs.push_back(std::move(dir));
    options.data_weights.push_back(static_cast<uint32_t>(weight));
  }
  if (!weighted) options.data_weights.clear();
  return absl::OkStatus();
}

}  // namespace

const char* AllocatorName(AllocatorKind kind) {
  for (const auto& [name, named] : kAllocators) {
    if (named == kind) return name;
  }
  return "";
}

void DeclareStoreOptions(CLI::App& app, StoreArguments& arguments) {
  DeclareTiers(app, arguments);
  DeclareBehaviour(app, arguments);
}

absl::Status SetStoreOptions(const StoreArguments& arguments, Options& options) {
  options.dir = arguments.dir;
  CAIRN_RETURN_IF_ERROR(SetDataDirs(arguments, options));
  CAIRN_RETURN_IF_ERROR(SetTiers(arguments, options));
  return SetBehaviour(arguments, options);
}

}  // namespace cairn::offload
