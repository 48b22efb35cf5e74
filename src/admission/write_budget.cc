#include "src/admission/write_budget.h"

#include <algorithm>

namespace cairn {

WriteBudget::WriteBudget(const Options& options)
    : bytes_per_ms_(static_cast<double>(options.bytes_per_day) / kMillisecondsADay),
      burst_bytes_(static_cast<double>(options.burst_bytes)),
      in_hand_bytes_(std::min(static_cast<double>(options.in_hand_bytes), burst_bytes_)),
      granted_bytes_(in_hand_bytes_),
      now_ms_(options.now_ms) {}

void WriteBudget::AdvanceTo(int64_t now_ms) {
  if (now_ms <= now_ms_) return;
  const double filled = bytes_per_ms_ * static_cast<double>(now_ms - now_ms_);
  const double fits = std::min(filled, std::max(0.0, burst_bytes_ - in_hand_bytes_));
  in_hand_bytes_ += fits;
  granted_bytes_ += fits;
  now_ms_ = now_ms;
}

}  // namespace cairn
