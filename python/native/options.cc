#include "native/options.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "native/errors.h"
#include "native/tensors.h"

namespace cairn::python {
namespace {

// One for each field of StoreOptions, by its name; `log` stays C++'s.
struct OptionField {
  std::string_view name;
  bool (*set)(StoreOptions* options, nb::handle value);  // False: not of the field's type.
};

template <auto kField>
constexpr bool SetField(StoreOptions* options, nb::handle value) {
  return nb::try_cast(value, options->*kField);
}

// None: no budget.
bool SetWriteBudget(StoreOptions* options, nb::handle value) {
  std::optional<uint64_t> bytes;
  if (!nb::try_cast(value, bytes)) return false;
  options->l3_write_bytes_per_day = bytes.value_or(StoreOptions::kL3WritesUnlimited);
  return true;
}

// {TensorClass.KV: (0.25, 1.0)}: min and max.
template <auto kField>
bool SetShares(StoreOptions* options, nb::handle value) {
  nb::dict given;
  if (!nb::try_cast(value, given)) return false;
  for (const auto& [name, share] : given) {
    TensorClass tensor_class;
    std::pair<double, double> bounds;
    if (!nb::try_cast(name, tensor_class) || !nb::try_cast(share, bounds)) return false;
    (options->*kField).of(tensor_class) = {bounds.first, bounds.second};
  }
  return true;
}

bool SetCloseTimeout(StoreOptions* options, nb::handle value) {
  std::optional<double> seconds;
  if (!nb::try_cast(value, seconds)) return false;
  options->close_timeout = Seconds("close_timeout", seconds);
  return true;
}

// None: without an end, which no store takes.
bool SetSubmissionPolling(StoreOptions* options, nb::handle value) {
  std::optional<double> seconds;
  if (!nb::try_cast(value, seconds)) return false;
  options->io_submission_polling = Seconds("io_submission_polling", seconds);
  return true;
}

constexpr OptionField kOptionFields[] = {
    {"data_paths", SetField<&StoreOptions::data_paths>},
    {"data_weights", SetField<&StoreOptions::data_weights>},
    {"fingerprint", SetField<&StoreOptions::fingerprint>},
    {"other_fingerprint", SetField<&StoreOptions::other_fingerprint>},
    {"device", SetField<&StoreOptions::device>},
    {"l1_bytes_max", SetField<&StoreOptions::l1_bytes_max>},
    {"l1_memory", SetField<&StoreOptions::l1_memory>},
    {"gpus", SetField<&StoreOptions::gpus>},
    {"l2_bytes_max", SetField<&StoreOptions::l2_bytes_max>},
    {"l2_allocator", SetField<&StoreOptions::l2_allocator>},
    {"l2_numa_node", SetField<&StoreOptions::l2_numa_node>},
    {"heed_memory_pressure", SetField<&StoreOptions::heed_memory_pressure>},
    {"l2_bytes_min", SetField<&StoreOptions::l2_bytes_min>},
    {"unusable_share_max", SetField<&StoreOptions::unusable_share_max>},
    {"move_bytes_per_second", SetField<&StoreOptions::move_bytes_per_second>},
    {"l3_bytes_max", SetField<&StoreOptions::l3_bytes_max>},
    {"l3_prewrite", SetField<&StoreOptions::l3_prewrite>},
    {"l3_index_bytes_max", SetField<&StoreOptions::l3_index_bytes_max>},
    {"l3_write_bytes_per_day", SetWriteBudget},
    {"write_policy", SetField<&StoreOptions::write_policy>},
    {"l2_class_shares", SetShares<&StoreOptions::l2_class_shares>},
    {"l3_class_shares", SetShares<&StoreOptions::l3_class_shares>},
    {"l2_dirty_share_max", SetField<&StoreOptions::l2_dirty_share_max>},
    {"eviction", SetField<&StoreOptions::eviction>},
    {"io_engine", SetField<&StoreOptions::io_engine>},
    {"io_bytes_in_flight_max", SetField<&StoreOptions::io_bytes_in_flight_max>},
    {"io_threads", SetField<&StoreOptions::io_threads>},
    {"io_submission_polling", SetSubmissionPolling},
    {"io_completion_polling", SetField<&StoreOptions::io_completion_polling>},
    {"data_file_bytes", SetField<&StoreOptions::data_file_bytes>},
    {"prefetch_queue_max", SetField<&StoreOptions::prefetch_queue_max>},
    {"prefetch_ahead_bytes_max", SetField<&StoreOptions::prefetch_ahead_bytes_max>},
    {"prefetch_predicted", SetField<&StoreOptions::prefetch_predicted>},
    {"async_queue_max", SetField<&StoreOptions::async_queue_max>},
    {"stripe_count", SetField<&StoreOptions::stripe_count>},
    {"journal_records_max", SetField<&StoreOptions::journal_records_max>},
    {"close_timeout", SetCloseTimeout},
};

void SetOption(StoreOptions* options, const std::string& name, nb::handle value) {
  for (const OptionField& field : kOptionFields) {
    if (field.name != name) continue;
    if (field.set(options, value)) return;
    RaiseTypeError(absl::StrCat("Store: ", name, " cannot be ", nb::repr(value).c_str()));
  }
  RaiseTypeError(absl::StrCat("Store: there is no option ", name));
}

}  // namespace

StoreOptions ToStoreOptions(const std::string& path, const nb::kwargs& fields) {
  StoreOptions options;
  options.path = path;
  for (const auto& [name, value] : fields) {
    SetOption(&options, nb::cast<std::string>(name), value);
  }
  return options;
}

}  // namespace cairn::python
