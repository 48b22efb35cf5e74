#include "bench/policy/workload.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "io/index.h"
#include "tools/offload/block_content.h"
#include "tools/offload/replay.h"

namespace cairn::policy {
namespace {

// Of the first fingerprint that a store sees.
constexpr uint32_t kFingerprintId = 1;
constexpr uint32_t kModels = 4;

// Conversations often begin alike and differ from the second block on.
uint32_t ModelOf(const offload::Request& request) {
  const size_t block = std::min<size_t>(1, request.block_ids.size() - 1);
  return static_cast<uint32_t>(offload::Scramble(request.block_ids[block]) % kModels);
}

}  // namespace

Workload::Workload(const offload::Trace& trace, double cost_spread) {
  absl::flat_hash_map<std::pair<uint32_t, uint64_t>, uint32_t> numbers;
  const uint32_t block_tokens = offload::DefaultBlockTokens(trace.format);
  requests.reserve(trace.requests.size());
  for (const offload::Request& request : trace.requests) {
    std::vector<uint32_t>& numbered = requests.emplace_back();
    numbered.reserve(request.block_ids.size());
    const uint32_t model = cost_spread > 0 && !request.block_ids.empty() ? ModelOf(request) : 0;
    for (const uint64_t id : request.block_ids) {
      const auto [found, is_new] =
          numbers.try_emplace({model, id}, static_cast<uint32_t>(numbers.size()));
      if (is_new) {
        key_hashes.push_back(HashKey({kFingerprintId + model, offload::BlockKey(id)}));
        if (cost_spread > 0) costs.push_back(std::pow(cost_spread, model / (kModels - 1.)));
      }
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
