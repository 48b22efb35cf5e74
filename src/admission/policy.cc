#include "src/admission/policy.h"

#include <algorithm>

namespace cairn {
namespace {

// Chains and their keys under way at a time.
constexpr size_t kChainsMax = 1024;
constexpr size_t kMembersMax = 8192;
constexpr uint64_t kHistoryMin = 1024;

}  // namespace

AdmissionPolicy::AdmissionPolicy(const Options& options)
    : l3_bytes_max_(options.l3_bytes_max), budget_(options.budget) {}

void AdmissionPolicy::Request(absl::Span<const uint64_t> key_hashes) {
  if (chains_.empty()) {
    chains_.resize(kChainsMax);
    members_.resize(kMembersMax);
  }
  ++last_chain_;
  chains_[last_chain_ % kChainsMax] = {.number = last_chain_};
  for (const uint64_t key_hash : key_hashes) {
    members_[key_hash % kMembersMax] = {key_hash, last_chain_};
  }
}

AdmissionPolicy::Chain* AdmissionPolicy::ChainOf(uint64_t key_hash) {
  if (chains_.empty()) return nullptr;
  const Member& member = members_[key_hash % kMembersMax];
  if (member.key_hash != key_hash) return nullptr;
  Chain& chain = chains_[member.chain % kChainsMax];
  return chain.number == member.chain && chain.number != 0 ? &chain : nullptr;
}

AdmissionReason AdmissionPolicy::Decide(const Tensor& tensor, int64_t now_ms) {
  budget_.AdvanceTo(now_ms);
  ++seen_tensors_;
  seen_bytes_ += tensor.bytes;
  const AdmissionReason reason = Judge(tensor);
  ++counts_[static_cast<size_t>(reason)];
  if (Admitted(reason)) {
    budget_.Spend(tensor.bytes);
    written_bytes_ += tensor.bytes;
  } else if (reason != AdmissionReason::kPartial) {
    Remember(tensor.key_hash);
  }
  return reason;
}

AdmissionReason AdmissionPolicy::Judge(const Tensor& tensor) {
  const bool seen_before = history_.Take(tensor.key_hash);
  if (tensor.promised) return AdmissionReason::kPromised;
  if (tensor.partial) return AdmissionReason::kPartial;
  Chain* const chain = ChainOf(tensor.key_hash);
  if (seen_before) {
    return Affords(chain == nullptr ? nullptr : &chain->second_sights, BorrowedBytesMax())
               ? AdmissionReason::kSecondSight
               : AdmissionReason::kOverBudget;
  }
  return Affords(chain == nullptr ? nullptr : &chain->first_sights, 0)
             ? AdmissionReason::kFirstSight
             : AdmissionReason::kNotSeenBefore;
}

double AdmissionPolicy::BorrowedBytesMax() const {
  return std::clamp(kBorrowedShare * budget_.granted_bytes(), 0.0,
                    budget_.BytesIn(kBorrowedSeconds));
}

// A chain's first asks, and the others have its answer, as long as what is owed is bounded.
bool AdmissionPolicy::Affords(Verdict* verdict, double owed_bytes_max) const {
  const bool affordable = budget_.in_hand_bytes() > -owed_bytes_max;
  if (verdict == nullptr) return affordable;
  if (*verdict == Verdict::kOpen) *verdict = affordable ? Verdict::kAdmit : Verdict::kRefuse;
  return *verdict == Verdict::kAdmit && budget_.in_hand_bytes() > -2 * BorrowedBytesMax();
}

void AdmissionPolicy::Return(const Tensor& tensor, AdmissionReason reason) {
  budget_.Return(tensor.bytes);
  written_bytes_ -= tensor.bytes;
  --counts_[static_cast<size_t>(reason)];
}

bool AdmissionPolicy::Spare(uint64_t bytes, int64_t now_ms) {
  budget_.AdvanceTo(now_ms);
  if (budget_.in_hand_bytes() < static_cast<double>(bytes)) return false;
  budget_.Spend(bytes);
  written_bytes_ += bytes;
  return true;
}

void AdmissionPolicy::Remember(uint64_t key_hash) {
  const uint64_t tensor_bytes =
      std::max<uint64_t>(1, seen_bytes_ / std::max<uint64_t>(1, seen_tensors_));
  history_.Add(key_hash, std::max(kHistoryMin, kHistoryPerTensor * (l3_bytes_max_ / tensor_bytes)));
}

}  // namespace cairn
