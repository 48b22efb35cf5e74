#include "bench/policy/workload.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "io/index.h"
#include "tools/offload/replay.h"

namespace cairn::policy {
namespace {

// Of the first fingerprint that a store sees.
constexpr uint32_t kFingerprintId = 1;

}  // namespace

Workload::Workload(const offload::Trace& trace) {
  absl::flat_hash_map<uint64_t, uint32_t> numbers;
  const uint32_t block_tokens = offload::DefaultBlockTokens(trace.format);
  requests.reserve(trace.requests.size());
  for (const offload::Request& request : trace.requests) {
    std::vector<uint32_t>& numbered = requests.emplace_back();
    numbered.reserve(request.block_ids.size());
    for (const uint64_t id : request.block_ids) {
      const auto [found, is_new] = numbers.try_emplace(id, static_cast<uint32_t>(numbers.size()));
      if (is_new) key_hashes.push_back(HashKey({kFingerprintId, offload::BlockKey(id)}));
      numbered.push_back(found->second);
    }
    accesses += numbered.size();
    const double time_ms = (request.timestamp_s - trace.requests.front().timestamp_s) * 1e3;
    times_ms.push_back(std::max(span_ms(), static_cast<int64_t>(time_ms)));
    ends_in_partial.push_back(request.input_tokens % block_tokens != 0 &&
                              request.input_tokens / block_tokens < numbered.size());
  }
  blocks = static_cast<uint32_t>(numbers.size());
}

}  // namespace cairn::policy
