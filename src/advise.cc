// Advise: where a tensor that is put now would be a while from now, from the figures that decide
// it.

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "io/record.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "src/store_impl.h"

namespace cairn {
namespace {

// What a class can come to have of a tier: its share, and no more than the others' minima leave.
uint64_t BytesOfClass(const ClassShares& shares, TensorClass tensor_class, uint64_t bytes_max) {
  double minima_of_others = 0;
  for (size_t i = 0; i < kTensorClasses; ++i) {
    const auto other = static_cast<TensorClass>(i);
    if (other != tensor_class) minima_of_others += shares.of(other).min;
  }
  const double share = std::min(shares.of(tensor_class).max, 1 - minima_of_others);
  return static_cast<uint64_t>(share * static_cast<double>(bytes_max));
}

std::string OverShare(TensorClass tensor_class, const char* tier, uint64_t bytes) {
  return absl::StrCat("tensors of class ", TensorClassName(tensor_class), " may have ",
                      FormatBytes(bytes), " of ", tier);
}

}  // namespace

std::string StoreImpl::WhyNotInL2(uint64_t bytes, TensorClass tensor_class) const {
  const uint64_t of_class = BytesOfClass(core_->options.l2_class_shares, tensor_class,
                                         core_->l2_sections->bytes_usable());
  if (bytes > of_class) return OverShare(tensor_class, "L2", of_class);
  if (core_->pressure != nullptr && core_->pressure->Stats().level == PressureLevel::kHigh) {
    return "the host is short of memory, L2 gives way";
  }
  const uint64_t bytes_free = core_->l2->bytes_free();
  if (bytes <= bytes_free) return "";
  return absl::StrCat(FormatBytes(bytes_free),
                      " of it are free, what is new pushes out what is old");
}

std::string StoreImpl::WhyNotOnL3(uint64_t extent_bytes, TensorClass tensor_class) const {
  const absl::Status last_write = core_->spill_tracker.last_status();
  if (!last_write.ok()) return absl::StrCat("its writes fail: ", last_write.message());
  const uint64_t bytes_max = core_->l3->bytes_max();
  const uint64_t kept = core_->directory->kept_bytes();
  // Where nothing else is there, what is free is all that there will be, in pieces or not.
  const bool all_is_kept = kept > 0 && kept >= core_->l3->bytes_used();
  if (kept + extent_bytes > bytes_max ||
      (all_is_kept && core_->l3->fragmentation().bytes_free_longest < extent_bytes)) {
    return absl::StrCat(FormatBytes(kept), " of its ", FormatBytes(bytes_max), " are to be kept");
  }
  const uint64_t of_class = BytesOfClass(core_->options.l3_class_shares, tensor_class, bytes_max);
  if (extent_bytes > of_class) return OverShare(tensor_class, "L3", of_class);
  const bool promised = Resolve(Durability::kStoreDefault) != Durability::kInMemory;
  if (promised || !core_->admission->limited()) return "";
  const WriteBudgetStats budget = core_->admission->Stats();
  if (budget.bytes_in_hand > 0) return "";
  return absl::StrCat("the write budget of ", FormatBytes(budget.bytes_per_day),
                      " a day has nothing in hand for what is new");
}

absl::StatusOr<PlacementAdvice> StoreImpl::Advise(uint64_t bytes, TensorClass tensor_class) const {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  if (bytes == 0) return absl::InvalidArgumentError("advice on a tensor of 0 bytes");
  if (static_cast<size_t>(tensor_class) >= kTensorClasses) {
    return absl::InvalidArgumentError(
        absl::StrCat("advice on a tensor of class ", static_cast<int>(tensor_class)));
  }
  const uint64_t l2_bytes_max = core_->l2->bytes_max();
  if (bytes > l2_bytes_max) {
    return PlacementAdvice{.reason = absl::StrCat("its ", bytes, " bytes are more than L2's ",
                                                  l2_bytes_max, ": a put refuses it")};
  }
  // With the longest key that it might have, lest the advice be too good.
  const uint64_t extent_bytes =
      RecordHeaderBytes(core_->options.fingerprint.size(), TensorKey::kBytesMax, bytes) +
      RoundUpToBlock(bytes);
  if (extent_bytes > core_->l3->extent_bytes_max()) {
    return PlacementAdvice{.reason = absl::StrCat("its ", bytes,
                                                  " bytes do not fit a data file of L3, which "
                                                  "takes ",
                                                  core_->l3->extent_bytes_max(),
                                                  " with a record's header: a put refuses it")};
  }
  const std::string not_in_l2 = WhyNotInL2(bytes, tensor_class);
  const std::string not_on_l3 = WhyNotOnL3(extent_bytes, tensor_class);
  if (not_in_l2.empty()) {
    return PlacementAdvice{
        .level = Level::kL2Pinned,
        .reason = absl::StrCat("L2 has room; ",
                               not_on_l3.empty() ? "on L3 too" : "not on L3: ", not_on_l3),
        .arrival = absl::ZeroDuration()};
  }
  if (not_on_l3.empty()) {
    return PlacementAdvice{.level = Level::kL3Nvme,
                           .reason = absl::StrCat("L3 takes it; not long in L2: ", not_in_l2),
                           .arrival = core_->l3->reads().Arrival(bytes, SteadyNow())};
  }
  return PlacementAdvice{
      .reason = absl::StrCat("not on L3: ", not_on_l3, "; not long in L2: ", not_in_l2)};
}

}  // namespace cairn
