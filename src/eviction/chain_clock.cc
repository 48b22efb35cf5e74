#include "src/eviction/chain_clock.h"

namespace cairn {

void ChainClock::Request(absl::Span<const uint64_t> key_hashes) {
  if (expected_.empty()) expected_.resize(kExpectedMax);
  ++requests_;
  for (size_t i = key_hashes.size(); i-- > 0;) {
    expected_[key_hashes[i] % kExpectedMax] = {Tag(key_hashes[i]), Now(), requests_};
  }
}

ChainClock::Use ChainClock::UseOf(uint64_t key_hash, uint8_t worth) {
  const Expected* const expected = Find(key_hash);
  if (expected == nullptr) return {Now(), worth};
  RequestWorth& of_request = worths_[expected->request % kRequestsMax];
  if (of_request.request != expected->request) of_request = {expected->request, worth};
  return {expected->time, of_request.worth};
}

}  // namespace cairn
