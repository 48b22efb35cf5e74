#include "src/eviction/chain_clock.h"

namespace cairn {
namespace {

// Chains under way at a time, all together.
constexpr size_t kExpectedMax = 8192;

}  // namespace

void ChainClock::Request(absl::Span<const uint64_t> key_hashes) {
  if (expected_.empty()) expected_.resize(kExpectedMax);
  ++requests_;
  for (size_t i = key_hashes.size(); i-- > 0;) {
    Slot(key_hashes[i]) = {Tag(key_hashes[i]), Now(), requests_};
  }
}

ChainClock::Use ChainClock::UseOf(uint64_t key_hash, uint8_t worth) {
  if (!Expects(key_hash)) return {Now(), worth};
  const Expected& expected = Slot(key_hash);
  RequestWorth& of_request = worths_[expected.request % kRequestsMax];
  if (of_request.request != expected.request) of_request = {expected.request, worth};
  return {expected.time, of_request.worth};
}

bool ChainClock::Expects(uint64_t key_hash) const {
  if (expected_.empty()) return false;
  const Expected& expected = Slot(key_hash);
  // A request so long ago is of no chain that is under way.
  return expected.tag == Tag(key_hash) && ((now_ - expected.time) & kTimeMax) <= kExpectedMax;
}

}  // namespace cairn
