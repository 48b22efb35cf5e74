#include <algorithm>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "bench/policy/simulation.h"

namespace cairn::policy {
namespace {

constexpr uint32_t kNever = std::numeric_limits<uint32_t>::max();

// For every access, in order, the number of the request that uses the block next.
std::vector<uint32_t> NextUses(const Workload& workload) {
  std::vector<uint32_t> next_uses(workload.accesses);
  std::vector<uint32_t> next_of_block(workload.blocks, kNever);
  uint64_t access = workload.accesses;
  for (size_t i = workload.requests.size(); i-- > 0;) {
    const std::vector<uint32_t>& request = workload.requests[i];
    for (size_t j = request.size(); j-- > 0;) {
      next_uses[--access] = next_of_block[request[j]];
    }
    for (const uint32_t block : request) next_of_block[block] = static_cast<uint32_t>(i);
  }
  return next_uses;
}

}  // namespace

Outcome SimulateBelady(const Workload& workload, uint64_t blocks_max) {
  const std::vector<uint32_t> next_uses = NextUses(workload);
  Outcome outcome;
  // Of what is present: its next use and, of one chain, how far it is from the first block; so the
  // last in the set is the first to go.
  struct Present {
    uint32_t next_use = 0;
    uint32_t depth = 0;
    uint32_t block = 0;
    auto operator<=>(const Present&) const = default;
  };
  std::set<Present> order;
  std::vector<Present> present(workload.blocks);
  std::vector<bool> is_present(workload.blocks);
  uint64_t access = 0;
  for (const std::vector<uint32_t>& request : workload.requests) {
    size_t hits = 0;
    while (hits < request.size() && is_present[request[hits]]) ++hits;
    outcome.hits += hits;
    for (uint32_t depth = 0; depth < request.size(); ++depth) {
      const uint32_t block = request[depth];
      const Present now = {next_uses[access++], depth, block};
      if (is_present[block]) {
        order.erase(present[block]);
      } else {
        if (now.next_use == kNever) continue;
        if (order.size() >= blocks_max) {
          if (!(now < *order.rbegin())) continue;
          is_present[order.rbegin()->block] = false;
          order.erase(std::prev(order.end()));
        }
        ++outcome.writes;
      }
      is_present[block] = true;
      present[block] = now;
      order.insert(now);
    }
  }
  return outcome;
}

}  // namespace cairn::policy
