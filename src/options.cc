#include "cairn/options.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "io/superblock.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

absl::Status Invalid(std::string_view field, uint64_t value, std::string_view rule) {
  return absl::InvalidArgumentError(absl::StrCat("StoreOptions::", std::string(field), " is ",
                                                 value, ": must be ", std::string(rule)));
}

absl::Status ValidateGpus(const std::vector<int>& gpus) {
  if (gpus.empty()) {
    return absl::InvalidArgumentError("StoreOptions::gpus names no GPU: must be their numbers");
  }
  if (gpus.size() > StoreOptions::kGpusMax) {
    return absl::InvalidArgumentError(absl::StrCat("StoreOptions::gpus names ", gpus.size(),
                                                   ": must be at most ", StoreOptions::kGpusMax));
  }
  for (auto gpu = gpus.begin(); gpu != gpus.end(); ++gpu) {
    if (*gpu < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("StoreOptions::gpus has ", *gpu, ": must be numbers of GPUs"));
    }
    if (std::find(gpus.begin(), gpu, *gpu) == gpu) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("StoreOptions::gpus has ", *gpu, " twice: each has one L1"));
  }
  return absl::OkStatus();
}

absl::Status ValidateShares(std::string_view field, const ClassShares& shares) {
  double mins = 0;
  double maxes = 0;
  for (size_t i = 0; i < kTensorClasses; ++i) {
    const auto tensor_class = static_cast<TensorClass>(i);
    const ClassShare& share = shares.of(tensor_class);
    if (!(share.min >= 0 && share.min <= share.max && share.max <= 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("StoreOptions::", std::string(field), " has ", share.min, " to ", share.max,
                       " for ", TensorClassName(tensor_class), ": must be 0 <= min <= max <= 1"));
    }
    mins += share.min;
    maxes += share.max;
  }
  // So that 0.3 + 0.6 is 0.9.
  constexpr double kRounding = 1e-9;
  if (mins <= StoreOptions::kClassMinsMax + kRounding && maxes >= 1 - kRounding) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "StoreOptions::", std::string(field), " has ", mins, " as the sum of all min and ", maxes,
      " of all max: must be at most ", StoreOptions::kClassMinsMax, " and at least 1"));
}

static_assert(StoreOptions::kDataWeightMax == kDataWeightMax, "what the superblock may hold");

absl::Status ValidateWeights(const StoreOptions& options) {
  const size_t count = options.data_weights.size();
  if (count != 0 && count != options.data_paths.size()) {
    return Invalid(
        "data_weights.size()", count,
        absl::StrCat("0, or one for each of ", options.data_paths.size(), " data_paths"));
  }
  for (const uint32_t weight : options.data_weights) {
    if (weight >= 1 && weight <= StoreOptions::kDataWeightMax) continue;
    return Invalid("data_weights", weight, absl::StrCat("1 to ", StoreOptions::kDataWeightMax));
  }
  return absl::OkStatus();
}

absl::Status ValidatePolling(absl::Duration submission) {
  constexpr absl::Duration kMax = StoreOptions::kIoSubmissionPollingMax;
  if (submission >= absl::ZeroDuration() && submission <= kMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("StoreOptions::io_submission_polling is ",
                                                 absl::FormatDuration(submission),
                                                 ": must be 0 to ", absl::FormatDuration(kMax)));
}

}  // namespace

ClassShare& ClassShares::of(TensorClass tensor_class) {
  switch (tensor_class) {
    case TensorClass::kGeneral:
      return general;
    case TensorClass::kKv:
      return kv;
    case TensorClass::kVision:
      return vision;
    case TensorClass::kText:
      return text;
  }
  return general;
}

const ClassShare& ClassShares::of(TensorClass tensor_class) const {
  return const_cast<ClassShares*>(this)->of(tensor_class);
}

absl::Status StoreOptions::Validate() const {
  constexpr uint64_t kMiB = uint64_t{1} << 20;
  if (path.empty()) return absl::InvalidArgumentError("StoreOptions::path is empty");
  for (const std::string& data_path : data_paths) {
    if (!data_path.empty()) continue;
    return absl::InvalidArgumentError("StoreOptions::data_paths has an empty one");
  }
  CAIRN_RETURN_IF_ERROR(ValidateWeights(*this));
  if (fingerprint.size() > kFingerprintBytesMax) {
    return Invalid("fingerprint", fingerprint.size(), "at most 255 bytes long");
  }
  if (l1_bytes_max != 0 && l1_bytes_max < kL1BytesMin) {
    return Invalid("l1_bytes_max", l1_bytes_max, absl::StrCat("0, or at least ", kL1BytesMin));
  }
  if (l1_memory > L1Memory::kManaged) {
    return Invalid("l1_memory", static_cast<uint64_t>(l1_memory), "one of L1Memory");
  }
  if (const absl::Status status = ValidateGpus(gpus); !status.ok()) return status;
  if (l2_bytes_max < kL2BytesMin) {
    return Invalid("l2_bytes_max", l2_bytes_max, absl::StrCat("at least ", kL2BytesMin));
  }
  if (l2_bytes_min > l2_bytes_max) {
    return Invalid("l2_bytes_min", l2_bytes_min,
                   absl::StrCat("at most l2_bytes_max, ", l2_bytes_max));
  }
  if (l2_numa_node < -1) {
    return absl::InvalidArgumentError(
        absl::StrCat("StoreOptions::l2_numa_node is ", l2_numa_node, ": must be -1 or a node"));
  }
  if (l3_bytes_max < kL3BytesMin) {
    return Invalid("l3_bytes_max", l3_bytes_max, absl::StrCat("at least ", kL3BytesMin));
  }
  if (l3_index_bytes_max != 0 &&
      (l3_index_bytes_max < kIndexBytesMin || l3_index_bytes_max > l3_bytes_max / 2)) {
    return Invalid("l3_index_bytes_max", l3_index_bytes_max,
                   absl::StrCat("0, or ", kIndexBytesMin, " to half of l3_bytes_max"));
  }
  for (const auto& [field, share] : {std::pair("l2_dirty_share_max", l2_dirty_share_max),
                                     std::pair("unusable_share_max", unusable_share_max)}) {
    if (share > 0 && share <= 1) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("StoreOptions::", field, " is ", share, ": must be in (0, 1]"));
  }
  for (const auto& [field, shares] : {std::pair("l2_class_shares", &l2_class_shares),
                                      std::pair("l3_class_shares", &l3_class_shares)}) {
    if (const absl::Status status = ValidateShares(field, *shares); !status.ok()) return status;
  }
  if (move_bytes_per_second == 0) return Invalid("move_bytes_per_second", 0, "at least 1");
  if (io_bytes_in_flight_max < kMiB) {
    return Invalid("io_bytes_in_flight_max", io_bytes_in_flight_max, "at least 1 MiB");
  }
  if (io_threads < 1 || io_threads > 256) return Invalid("io_threads", io_threads, "1 to 256");
  CAIRN_RETURN_IF_ERROR(ValidatePolling(io_submission_polling));
  if (data_file_bytes != 0 && (data_file_bytes < 16 * kMiB || data_file_bytes > 1024 * kMiB ||
                               data_file_bytes % (2 * kMiB) != 0)) {
    return Invalid("data_file_bytes", data_file_bytes,
                   "0, or 16 MiB to 1 GiB and a multiple of 2 MiB");
  }
  if (prefetch_queue_max == 0) return Invalid("prefetch_queue_max", 0, "at least 1");
  if (async_queue_max == 0) return Invalid("async_queue_max", 0, "at least 1");
  if (stripe_count < 2 || stripe_count > 65536 || !std::has_single_bit(stripe_count)) {
    return Invalid("stripe_count", stripe_count, "a power of two from 2 to 65536");
  }
  if (journal_records_max > kJournalRecordsMax) {
    return Invalid("journal_records_max", journal_records_max,
                   absl::StrCat("at most ", kJournalRecordsMax));
  }
  return absl::OkStatus();
}

}  // namespace cairn
