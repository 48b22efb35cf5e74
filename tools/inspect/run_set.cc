#include "tools/inspect/run_set.h"

#include <algorithm>
#include <iterator>

namespace cairn::inspect {

bool RunSet::Overlaps(const Run& run) const {
  const auto behind = ends_.lower_bound(run.end());
  return behind != ends_.begin() && std::prev(behind)->second > run.offset;
}

void RunSet::Add(const Run& run) {
  uint64_t begin = run.offset;
  uint64_t end = run.end();
  auto behind = ends_.upper_bound(end);
  while (behind != ends_.begin() && std::prev(behind)->second >= begin) {
    const auto joined = std::prev(behind);
    begin = std::min(begin, joined->first);
    end = std::max(end, joined->second);
    behind = ends_.erase(joined);
  }
  ends_.emplace(begin, end);
}

}  // namespace cairn::inspect
