#include "src/eviction/shadow_caches.h"

#include <algorithm>
#include <bit>

namespace cairn {
namespace {

// Long enough to tell the shadows apart, short enough to follow the hour.
constexpr uint64_t kEpochRequestsMin = 100;
constexpr uint64_t kEpochUsesMin = 2000;
constexpr double kHitDecay = 0.98;
constexpr double kHysteresis = 1.02;
constexpr double kUsesAgainMin = 0.15;

}  // namespace

ShadowCaches::ShadowCaches(Compare compare) : compare_(compare) {
  slots_.resize(kLists);
  for (uint32_t list = 0; list < kLists; ++list) slots_[list].links.fill({list, list});
}

uint64_t ShadowCaches::Capacity() const {
  if (copies_ == UINT64_MAX) return UINT64_MAX;
  return std::max<uint64_t>(1, copies_ / (sample_mask_ + 1));
}

uint64_t ShadowCaches::CapacityOf(size_t shadow) const {
  if (compare_ == Compare::kProbations || copies_ == UINT64_MAX) return Capacity();
  const double copies = kSizes[shadow] * static_cast<double>(Capacity());
  return std::max<uint64_t>(1, static_cast<uint64_t>(copies));
}

std::array<double, 5> ShadowCaches::Hits() const {
  std::array<double, 5> hits = {};
  for (size_t i = 0; i < kShadows; ++i) {
    hits[i] = shadows_[i].hits * static_cast<double>(sample_mask_ + 1);
  }
  return hits;
}

void ShadowCaches::Decay(double factor) {
  for (Shadow& shadow : shadows_) shadow.hits *= factor;
}

void ShadowCaches::SetCapacity(uint64_t copies) {
  if (copies == copies_) return;
  if (copies_ == UINT64_MAX) ChooseFirst();
  copies_ = copies;
  while (Capacity() > ResidentMax()) HalveSample();
}

// Full before much of it was used again: then it is small beside what will be, and without a short
// probation nothing would stay until then. The shadows take a while to show it.
void ShadowCaches::ChooseFirst() {
  const bool small = static_cast<double>(uses_again_) < kUsesAgainMin * static_cast<double>(uses_);
  best_ = small ? kShadows - 1 : 0;
}

void ShadowCaches::Request(absl::Span<const uint64_t> key_hashes) {
  ++epoch_requests_;
  epoch_uses_ += key_hashes.size();
  requested_.clear();
  const uint64_t keys_before = keys_;
  for (const uint64_t key_hash : key_hashes) {
    if (Sampled(key_hash)) requested_.push_back(FindOrAdd(key_hash));
  }
  uses_ += requested_.size();
  uses_again_ += requested_.size() - (keys_ - keys_before);
  for (size_t i = 0; i < kShadows; ++i) {
    for (const uint32_t slot : requested_) {
      if (slots_[slot].where[i] >= kGhosts) break;
      shadows_[i].hits += 1;
    }
    // The last first: of a chain it is to leave first.
    for (size_t at = requested_.size(); at-- > 0;) Use(i, requested_[at]);
  }
  for (const uint32_t slot : left_) FreeIfAbsent(slot);
  left_.clear();
  if (copies_ == UINT64_MAX && shadows_.back().resident() > ResidentMax()) HalveSample();
  if (compare_ == Compare::kSizes) return;
  if (epoch_requests_ >= kEpochRequestsMin && epoch_uses_ >= kEpochUsesMin) EndEpoch();
}

// Numbers first, then the keys of each list, the coldest first, behind their number.
std::vector<uint64_t> ShadowCaches::Findings(size_t words_max) const {
  std::vector<uint64_t> findings = {best_,       copies_, sample_mask_, epoch_requests_,
                                    epoch_uses_, uses_,   uses_again_};
  size_t keys = 0;
  for (const Shadow& shadow : shadows_) {
    findings.push_back(std::bit_cast<uint64_t>(shadow.hits));
    keys += shadow.resident() + shadow.sizes[kGhosts];
  }
  if (findings.size() + kShadows * kLists + keys > words_max) return findings;
  for (size_t i = 0; i < kShadows; ++i) {
    for (uint32_t list = 0; list < kLists; ++list) {
      findings.push_back(shadows_[i].sizes[list]);
      for (uint32_t at = slots_[list].links[i].warmer; at != list;
           at = slots_[at].links[i].warmer) {
        findings.push_back(slots_[at].key_hash);
      }
    }
  }
  return findings;
}

bool ShadowCaches::TakeFindings(absl::Span<const uint64_t> findings) {
  constexpr size_t kNumbers = 7;
  if (keys_ != 0 || findings.size() < kNumbers + kShadows || findings[0] >= kShadows ||
      !std::has_single_bit(findings[2] + 1)) {
    return false;
  }
  best_ = findings[0];
  copies_ = findings[1];
  sample_mask_ = findings[2];
  epoch_requests_ = findings[3];
  epoch_uses_ = findings[4];
  uses_ = findings[5];
  uses_again_ = findings[6];
  for (size_t i = 0; i < kShadows; ++i) {
    shadows_[i].hits = std::bit_cast<double>(findings[kNumbers + i]);
  }
  findings.remove_prefix(kNumbers + kShadows);
  for (size_t number = 0; number < kShadows * kLists && !findings.empty(); ++number) {
    const size_t keys = std::min<uint64_t>(findings[0], findings.size() - 1);
    for (const uint64_t key_hash : findings.subspan(1, keys)) {
      const uint32_t slot = FindOrAdd(key_hash);
      const size_t shadow = number / kLists;
      if (slots_[slot].where[shadow] != kAbsent) continue;
      Push(shadow, static_cast<List>(number % kLists), slot);
    }
    findings.remove_prefix(1 + keys);
  }
  return true;
}

void ShadowCaches::EndEpoch() {
  epoch_requests_ = epoch_uses_ = 0;
  const auto most = std::max_element(shadows_.begin(), shadows_.end(),
                                     [](const auto& a, const auto& b) { return a.hits < b.hits; });
  // One that is hardly better is no reason to change.
  if (most->hits > kHysteresis * shadows_[best_].hits) {
    best_ = static_cast<size_t>(most - shadows_.begin());
  }
  for (Shadow& shadow : shadows_) shadow.hits *= kHitDecay;
}

void ShadowCaches::Use(size_t shadow, uint32_t slot) {
  const List where = slots_[slot].where[shadow];
  if (where != kAbsent) Unlink(shadow, slot);
  if (where >= kGhosts) {
    while (shadows_[shadow].resident() >= CapacityOf(shadow)) Evict(shadow);
  }
  Push(shadow, where == kAbsent ? kProbation : kMain, slot);
  if (where != kAbsent) DemoteSurplus(shadow);
}

void ShadowCaches::DemoteSurplus(size_t shadow) {
  Shadow& cache = shadows_[shadow];
  const double main_max = (1 - ProbationShare(shadow)) *
                          static_cast<double>(std::min(CapacityOf(shadow), cache.resident()));
  while (static_cast<double>(cache.sizes[kMain]) > main_max) {
    const uint32_t slot = Coldest(shadow, kMain);
    Unlink(shadow, slot);
    Push(shadow, kProbation, slot);
  }
}

void ShadowCaches::Evict(size_t shadow) {
  Shadow& cache = shadows_[shadow];
  const uint32_t slot = Coldest(shadow, cache.sizes[kProbation] > 0 ? kProbation : kMain);
  Unlink(shadow, slot);
  Push(shadow, kGhosts, slot);
  while (cache.sizes[kGhosts] > kGhostsPerCopy * CapacityOf(shadow)) {
    const uint32_t oldest = Coldest(shadow, kGhosts);
    Unlink(shadow, oldest);
    left_.push_back(oldest);
  }
}

void ShadowCaches::Push(size_t shadow, List list, uint32_t slot) {
  const uint32_t warmest = slots_[list].links[shadow].colder;
  slots_[slot].links[shadow] = {warmest, list};
  slots_[warmest].links[shadow].warmer = slot;
  slots_[list].links[shadow].colder = slot;
  slots_[slot].where[shadow] = list;
  ++shadows_[shadow].sizes[list];
}

void ShadowCaches::Unlink(size_t shadow, uint32_t slot) {
  const Link link = slots_[slot].links[shadow];
  slots_[link.colder].links[shadow].warmer = link.warmer;
  slots_[link.warmer].links[shadow].colder = link.colder;
  --shadows_[shadow].sizes[slots_[slot].where[shadow]];
  slots_[slot].where[shadow] = kAbsent;
}

uint32_t ShadowCaches::FindOrAdd(uint64_t key_hash) {
  if (index_.empty()) {
    // In one piece: what a store takes is then seen at its first tensor and not a little later.
    slots_.reserve(2 * kResidentMax);
    Rehash(4 * kResidentMax);
  }
  if ((keys_ + 1) * 2 > index_.size()) Rehash(index_.size() * 2);
  const size_t mask = index_.size() - 1;
  size_t at = Home(key_hash);
  for (; index_[at] != kNone; at = (at + 1) & mask) {
    if (slots_[index_[at]].key_hash == key_hash) return index_[at];
  }
  uint32_t slot = 0;
  if (free_.empty()) {
    slot = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  slots_[slot].key_hash = key_hash;
  slots_[slot].where.fill(kAbsent);
  index_[at] = slot;
  ++keys_;
  return slot;
}

void ShadowCaches::FreeIfAbsent(uint32_t slot) {
  const auto& where = slots_[slot].where;
  if (!std::all_of(where.begin(), where.end(), [](List list) { return list == kAbsent; })) return;
  const size_t mask = index_.size() - 1;
  size_t hole = Home(slots_[slot].key_hash);
  while (index_[hole] != slot) {
    if (index_[hole] == kNone) return;  // Freed already: it left two shadows.
    hole = (hole + 1) & mask;
  }
  // What would no longer be found past the hole moves back.
  for (size_t next = (hole + 1) & mask; index_[next] != kNone; next = (next + 1) & mask) {
    const size_t home = Home(slots_[index_[next]].key_hash);
    if (((next - home) & mask) < ((next - hole) & mask)) continue;
    index_[hole] = index_[next];
    hole = next;
  }
  index_[hole] = kNone;
  free_.push_back(slot);
  --keys_;
}

void ShadowCaches::Rehash(size_t size) {
  std::vector<uint32_t> old(size, kNone);
  old.swap(index_);
  index_shift_ = 64 - std::countr_zero(size);
  for (const uint32_t slot : old) {
    if (slot == kNone) continue;
    size_t at = Home(slots_[slot].key_hash);
    while (index_[at] != kNone) at = (at + 1) & (size - 1);
    index_[at] = slot;
  }
}

void ShadowCaches::HalveSample() {
  sample_mask_ = sample_mask_ * 2 + 1;
  for (const uint32_t slot : std::vector<uint32_t>(index_)) {
    if (slot == kNone || Sampled(slots_[slot].key_hash)) continue;
    for (size_t i = 0; i < kShadows; ++i) {
      if (slots_[slot].where[i] != kAbsent) Unlink(i, slot);
    }
    FreeIfAbsent(slot);
  }
}

}  // namespace cairn
