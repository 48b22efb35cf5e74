#include "bench/policy/workload.h"

#include "absl/container/flat_hash_map.h"

namespace cairn::policy {

Workload::Workload(const offload::Trace& trace) {
  absl::flat_hash_map<uint64_t, uint32_t> numbers;
  requests.reserve(trace.requests.size());
  for (const offload::Request& request : trace.requests) {
    std::vector<uint32_t>& numbered = requests.emplace_back();
    numbered.reserve(request.block_ids.size());
    for (const uint64_t id : request.block_ids) {
      numbered.push_back(
          numbers.try_emplace(id, static_cast<uint32_t>(numbers.size())).first->second);
    }
    accesses += numbered.size();
  }
  blocks = static_cast<uint32_t>(numbers.size());
}

}  // namespace cairn::policy
