// The options of cairn.h: their defaults are those of options.h, and a struct of an older caller
// keeps them in the fields that it does not have.

#include <algorithm>
#include <cstring>
#include <string>

#include "src/base/status_macros.h"
#include "src/c_api/call.h"

namespace cairn::c_api {
namespace {

constexpr int64_t kGpuNotSaid = -1;

// By cairn_class, whose numbers are those of the classes.
cairn_class_shares WriteShares(const ClassShares& shares) {
  cairn_class_shares written = {};
  for (size_t i = 0; i < kTensorClasses; ++i) {
    const ClassShare& share = shares.of(static_cast<TensorClass>(i));
    written.min[i] = share.min;
    written.max[i] = share.max;
  }
  return written;
}

ClassShares ReadShares(const cairn_class_shares& given) {
  ClassShares shares;
  for (size_t i = 0; i < kTensorClasses; ++i) {
    shares.of(static_cast<TensorClass>(i)) = {given.min[i], given.max[i]};
  }
  return shares;
}

cairn_store_options Default(const cairn_store_options*) {
  const StoreOptions defaults;
  cairn_store_options options = {};
  options.l1_bytes_max = defaults.l1_bytes_max;
  options.l2_bytes_max = defaults.l2_bytes_max;
  options.l3_bytes_max = defaults.l3_bytes_max;
  options.l3_index_bytes_max = defaults.l3_index_bytes_max;
  options.l3_write_bytes_per_day = defaults.l3_write_bytes_per_day;
  options.io_bytes_in_flight_max = defaults.io_bytes_in_flight_max;
  options.data_file_bytes = defaults.data_file_bytes;
  options.close_timeout_us = WriteTime(defaults.close_timeout);
  options.l2_dirty_share_max = defaults.l2_dirty_share_max;
  options.gpu = defaults.gpus.front();
  options.other_fingerprint = static_cast<uint32_t>(defaults.other_fingerprint);
  options.device = static_cast<uint32_t>(defaults.device);
  options.l1_memory = static_cast<uint64_t>(defaults.l1_memory);
  options.l2_allocator = static_cast<uint32_t>(defaults.l2_allocator);
  options.write_policy = static_cast<uint32_t>(defaults.write_policy);
  options.eviction = static_cast<uint32_t>(defaults.eviction);
  options.io_engine = static_cast<uint32_t>(defaults.io_engine);
  options.io_threads = defaults.io_threads;
  options.prefetch_queue_max = defaults.prefetch_queue_max;
  options.async_queue_max = defaults.async_queue_max;
  options.stripe_count = defaults.stripe_count;
  options.l3_prewrite = defaults.l3_prewrite ? 1 : 0;
  options.prefetch_ahead_bytes_max = defaults.prefetch_ahead_bytes_max;
  options.journal_records_max = defaults.journal_records_max;
  options.l2_bytes_min = defaults.l2_bytes_min;
  options.heed_memory_pressure = defaults.heed_memory_pressure ? 1 : 0;
  options.unusable_share_max = defaults.unusable_share_max;
  options.move_bytes_per_second = defaults.move_bytes_per_second;
  options.l2_numa_node = defaults.l2_numa_node;
  options.prefetch_predicted = defaults.prefetch_predicted ? 1 : 0;
  options.io_submission_polling_us = WriteTime(defaults.io_submission_polling);
  options.io_completion_polling = defaults.io_completion_polling ? 1 : 0;
  options.l2_class_shares = WriteShares(defaults.l2_class_shares);
  options.l3_class_shares = WriteShares(defaults.l3_class_shares);
  return options;
}

cairn_put_options Default(const cairn_put_options*) {
  const PutOptions defaults;
  cairn_put_options options = {};
  options.ttl_us = WriteTime(defaults.ttl);
  options.timeout_us = WriteTime(defaults.timeout);
  options.durability = static_cast<uint32_t>(defaults.durability);
  options.retention = static_cast<uint32_t>(defaults.retention);
  options.if_exists = static_cast<uint32_t>(defaults.if_exists);
  options.tensor_class = static_cast<uint32_t>(defaults.tensor_class);
  options.partial_block = defaults.partial_block ? 1 : 0;
  options.recompute_cost_ns = absl::ToInt64Nanoseconds(defaults.recompute_cost);
  return options;
}

cairn_get_options Default(const cairn_get_options*) {
  const GetOptions defaults;
  cairn_get_options options = {};
  options.timeout_us = WriteTime(defaults.timeout);
  options.want = static_cast<uint32_t>(defaults.want);
  options.gpu = kGpuNotSaid;
  return options;
}

template <typename Options>
void Init(Options* options, size_t bytes) {
  if (options == nullptr || bytes < sizeof(options->struct_bytes)) return;
  Options defaults = Default(options);
  defaults.struct_bytes = bytes;
  // What a caller compiled later has beyond is for the library that knows it.
  std::memset(static_cast<void*>(options), 0, bytes);
  std::memcpy(static_cast<void*>(options), &defaults, std::min(bytes, sizeof(defaults)));
}

// The options as far as the caller has them, over the defaults.
template <typename Options>
absl::Status Known(const char* name, const Options* given, Options* known) {
  *known = Default(given);
  if (given == nullptr) return absl::OkStatus();
  if (given->struct_bytes < sizeof(given->struct_bytes) || given->struct_bytes > sizeof(Options)) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ".struct_bytes is ", given->struct_bytes, ": this library knows ", sizeof(Options),
        " bytes of it; fill it by ", name, "_init, and use a library as new as the header"));
  }
  std::memcpy(static_cast<void*>(known), given, given->struct_bytes);
  return absl::OkStatus();
}

std::optional<StreamRef> ReadStream(const cairn_stream* stream) {
  if (stream == nullptr) return std::nullopt;
  return StreamRef{.stream = stream->stream, .device = stream->device};
}

absl::Status ReadGpus(const cairn_store_options& given, StoreOptions* target) {
  target->gpus = {given.gpu};
  if (given.gpu_count == 0) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(CheckRequired({{given.gpus, "gpus"}}));
  target->gpus.assign(given.gpus, given.gpus + given.gpu_count);
  return absl::OkStatus();
}

absl::Status ReadKinds(const cairn_store_options& given, StoreOptions* target) {
  CAIRN_RETURN_IF_ERROR(ReadEnum("other_fingerprint", given.other_fingerprint,
                                 OtherFingerprint::kPurge, &target->other_fingerprint));
  CAIRN_RETURN_IF_ERROR(ReadEnum("device", given.device, DeviceKind::kHost, &target->device));
  CAIRN_RETURN_IF_ERROR(
      ReadEnum("l1_memory", static_cast<uint32_t>(std::min<uint64_t>(given.l1_memory, UINT32_MAX)),
               L1Memory::kManaged, &target->l1_memory));
  CAIRN_RETURN_IF_ERROR(
      ReadEnum("l2_allocator", given.l2_allocator, AllocatorKind::kBestFit, &target->l2_allocator));
  CAIRN_RETURN_IF_ERROR(ReadEnum("write_policy", given.write_policy, WritePolicy::kWriteThrough,
                                 &target->write_policy));
  CAIRN_RETURN_IF_ERROR(
      ReadEnum("eviction", given.eviction, EvictionKind::kS3Fifo, &target->eviction));
  return ReadEnum("io_engine", given.io_engine, IoEngineKind::kPosix, &target->io_engine);
}

}  // namespace

absl::Status ReadOptions(const cairn_store_options* given, StoreOptions* target) {
  CAIRN_RETURN_IF_ERROR(CheckRequired({{given, "options"}}));
  cairn_store_options known;
  CAIRN_RETURN_IF_ERROR(Known("cairn_store_options", given, &known));
  CAIRN_RETURN_IF_ERROR(CheckRequired({{known.path, "path"}}));
  target->path = known.path;
  if (known.data_path_count > 0) {
    CAIRN_RETURN_IF_ERROR(
        CheckRequired({{static_cast<const void*>(known.data_paths), "data_paths"}}));
  }
  for (size_t i = 0; i < known.data_path_count; ++i) {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{known.data_paths[i], "a path of data_paths"}}));
    target->data_paths.emplace_back(known.data_paths[i]);
  }
  if (known.data_weights != nullptr) {
    target->data_weights.assign(known.data_weights, known.data_weights + known.data_path_count);
  }
  if (known.fingerprint != nullptr) target->fingerprint = known.fingerprint;
  CAIRN_RETURN_IF_ERROR(ReadKinds(known, target));
  CAIRN_RETURN_IF_ERROR(ReadGpus(known, target));
  CAIRN_RETURN_IF_ERROR(
      ReadTime("close_timeout_us", known.close_timeout_us, &target->close_timeout));
  CAIRN_RETURN_IF_ERROR(ReadTime("io_submission_polling_us", known.io_submission_polling_us,
                                 &target->io_submission_polling));
  target->io_completion_polling = known.io_completion_polling != 0;
  target->l1_bytes_max = known.l1_bytes_max;
  target->l2_bytes_max = known.l2_bytes_max;
  target->l3_bytes_max = known.l3_bytes_max;
  target->l3_index_bytes_max = known.l3_index_bytes_max;
  target->l3_write_bytes_per_day = known.l3_write_bytes_per_day;
  target->io_bytes_in_flight_max = known.io_bytes_in_flight_max;
  target->data_file_bytes = known.data_file_bytes;
  target->l2_dirty_share_max = known.l2_dirty_share_max;
  target->io_threads = known.io_threads;
  target->prefetch_queue_max = known.prefetch_queue_max;
  target->async_queue_max = known.async_queue_max;
  target->stripe_count = known.stripe_count;
  target->l3_prewrite = known.l3_prewrite != 0;
  target->prefetch_ahead_bytes_max = known.prefetch_ahead_bytes_max;
  target->l2_bytes_min = known.l2_bytes_min;
  target->heed_memory_pressure = known.heed_memory_pressure != 0;
  target->unusable_share_max = known.unusable_share_max;
  target->move_bytes_per_second = known.move_bytes_per_second;
  target->journal_records_max =
      static_cast<uint32_t>(std::min<uint64_t>(known.journal_records_max, UINT32_MAX));
  target->prefetch_predicted = known.prefetch_predicted != 0;
  target->l2_numa_node =
      static_cast<int32_t>(std::clamp<int64_t>(known.l2_numa_node, INT32_MIN, INT32_MAX));
  target->l2_class_shares = ReadShares(known.l2_class_shares);
  target->l3_class_shares = ReadShares(known.l3_class_shares);
  if (known.log != nullptr) {
    target->log = [log = known.log, context = known.log_context](std::string_view line) {
      log(context, line.data(), line.size());
    };
  }
  return absl::OkStatus();
}

absl::Status ReadOptions(const cairn_put_options* given, PutOptions* target) {
  cairn_put_options known;
  CAIRN_RETURN_IF_ERROR(Known("cairn_put_options", given, &known));
  CAIRN_RETURN_IF_ERROR(
      ReadEnum("durability", known.durability, Durability::kFlushed, &target->durability));
  CAIRN_RETURN_IF_ERROR(
      ReadEnum("retention", known.retention, Retention::kKeep, &target->retention));
  CAIRN_RETURN_IF_ERROR(
      ReadEnum("if_exists", known.if_exists, IfExists::kKeep, &target->if_exists));
  CAIRN_RETURN_IF_ERROR(
      ReadEnum("tensor_class", known.tensor_class, TensorClass::kText, &target->tensor_class));
  target->partial_block = known.partial_block != 0;
  target->recompute_cost = absl::Nanoseconds(known.recompute_cost_ns);
  CAIRN_RETURN_IF_ERROR(ReadTime("ttl_us", known.ttl_us, &target->ttl));
  CAIRN_RETURN_IF_ERROR(ReadTime("timeout_us", known.timeout_us, &target->timeout));
  target->producer = ReadStream(known.producer);
  return absl::OkStatus();
}

absl::Status ReadOptions(const cairn_get_options* given, GetOptions* target) {
  cairn_get_options known;
  CAIRN_RETURN_IF_ERROR(Known("cairn_get_options", given, &known));
  CAIRN_RETURN_IF_ERROR(ReadEnum("want", known.want, Level::kL3Nvme, &target->want));
  CAIRN_RETURN_IF_ERROR(ReadTime("timeout_us", known.timeout_us, &target->timeout));
  target->consumer = ReadStream(known.consumer);
  if (known.gpu != kGpuNotSaid) {
    target->gpu = static_cast<int>(std::clamp<int64_t>(known.gpu, INT32_MIN, INT32_MAX));
  }
  return absl::OkStatus();
}

}  // namespace cairn::c_api

void cairn_store_options_init(cairn_store_options* options, size_t bytes) {
  cairn::c_api::Init(options, bytes);
}
void cairn_put_options_init(cairn_put_options* options, size_t bytes) {
  cairn::c_api::Init(options, bytes);
}
void cairn_get_options_init(cairn_get_options* options, size_t bytes) {
  cairn::c_api::Init(options, bytes);
}
