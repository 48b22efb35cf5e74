#include "bench/tier/unit_order.h"

#include <algorithm>
#include <numeric>

#include "src/base/check.h"
#include "tools/offload/block_content.h"

namespace cairn::bench {

UnitOrder::UnitOrder(const Job& job, uint32_t clone, uint64_t units)
    : mixed_(job.reads() && job.writes()),
      writes_(job.writes()),
      read_percent_(job.read_percent),
      units_(units),
      random_(offload::Scramble(job.seed) + clone) {
  CAIRN_CHECK(units > 0 && units <= UINT32_MAX);
  if (!job.random()) return;
  shuffled_.resize(units);
  std::iota(shuffled_.begin(), shuffled_.end(), 0u);
  std::shuffle(shuffled_.begin(), shuffled_.end(), random_);
}

UnitOrder::Step UnitOrder::Next() {
  const uint64_t at = next_;
  next_ = next_ + 1 == units_ ? 0 : next_ + 1;
  Step step = {.unit = shuffled_.empty() ? at : shuffled_[at], .write = writes_};
  if (mixed_) step.write = random_() % 100 >= read_percent_;
  return step;
}

}  // namespace cairn::bench
