#pragma once

#include <algorithm>
#include <cstdint>

#include "io/async_io.h"
#include "io/io_queue.h"
#include "io/io_result.h"
#include "src/base/check.h"

namespace cairn {

// What the device has in hand, and what it may get next. Thread-compatible.
//
// At most `bytes_max` (and one op more), of which writes and everything else below demand reads
// take half: a demand read never finds the device's own queue full of them, where no priority
// counts any more. Half of the depth that saturates a device comes close to saturating it.
class IoWindow {
 public:
  explicit IoWindow(uint64_t bytes_max) : bytes_max_(bytes_max) {}

  bool MayTake(const IoQueue& queue) const {
    if (queue.empty() || (ops_ > 0 && bytes_ >= bytes_max_)) return false;
    return queue.has_demand_read() || OthersMay();
  }

  // The next op, now in hand; null when none may go.
  IoOp* Take(IoQueue& queue) {
    if (!MayTake(queue)) return nullptr;
    IoOp* const op = OthersMay() ? queue.Pop() : queue.PopDemandRead();
    ++ops_;
    bytes_ += op->bytes_total_;
    if (!IoQueue::IsDemandRead(*op)) other_bytes_ += op->bytes_total_;
    op->service_us_ = -SteadyNowUs();
    return op;
  }

  // The device is done with the op, or never got it.
  void GiveBack(IoOp& op) {
    op.service_us_ += SteadyNowUs();
    CAIRN_CHECK(ops_ > 0 && bytes_ >= op.bytes_total_);
    --ops_;
    bytes_ -= op.bytes_total_;
    if (!IoQueue::IsDemandRead(op)) other_bytes_ -= op.bytes_total_;
  }

 private:
  bool OthersMay() const { return other_bytes_ == 0 || other_bytes_ < bytes_max_ / 2; }

  const uint64_t bytes_max_;
  uint64_t ops_ = 0;
  uint64_t bytes_ = 0;
  uint64_t other_bytes_ = 0;
};

}  // namespace cairn
