#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace cairn {

// What the tuned policy's cache (tuned.cc) would hit if its probation had another size: bookkeeping
// of five of them, keys only, over the requests that the real one gets. No fixed share suits small
// and large caches both: small ones want a short probation, so that it does not flush what is
// proven; large ones a long one.
//
// Of a large cache only a sample of the keys is followed, by their hashes and in a cache that is
// smaller by as much (SHARDS, FAST '15): each shadow holds some thousand keys whatever the cache
// holds, so time and memory are bounded.
class ShadowCaches {
 public:
  static constexpr std::array<double, 5> kProbationShares = {1, .90, .60, .30, .05};
  // As many keys are remembered after they left as the cache holds, times this.
  static constexpr uint64_t kGhostsPerCopy = 4;
  // The same five, of these sizes instead and all of one probation: what a larger or smaller part
  // of the cache would hit (class_pools.h). Followed by fewer keys, as that asks for less detail.
  static constexpr std::array<double, 5> kSizes = {1. / 16, 1. / 8, 1. / 4, 1. / 2, 1};
  enum class Compare : uint8_t { kProbations, kSizes };

  explicit ShadowCaches(Compare compare = Compare::kProbations);

  // As EvictionPolicy::Request. A hit is a key before which no other was missing.
  void Request(absl::Span<const uint64_t> key_hashes);
  // The real cache holds so many. Until this is first said there is room for all.
  void SetCapacity(uint64_t copies);

  // What has been found out so far, as numbers: without the shadows' keys where these would be more
  // than `words_max`. And takes it back, before the first request: false, and nothing is changed,
  // where it cannot be from here.
  std::vector<uint64_t> Findings(size_t words_max) const;
  bool TakeFindings(absl::Span<const uint64_t> findings);

  // ---- Of sizes ----
  // The probation of all from here on.
  void SetProbationShare(double share) { probation_share_ = share; }
  // What each hit lately, of all keys.
  std::array<double, 5> Hits() const;
  // Makes what was hit so far count for so much.
  void Decay(double factor);

  // The share of probation that had the most hits lately.
  double best_share() const { return kProbationShares[best_]; }

 private:
  static constexpr size_t kShadows = kProbationShares.size();
  static constexpr uint64_t kResidentMin = 128;
  static constexpr uint64_t kResidentMax = 4096;
  static constexpr uint64_t kResidentMaxOfSizes = 1024;
  static constexpr uint32_t kNone = UINT32_MAX;

  // Which list of a shadow a key is in. The first slots are the lists' ends.
  enum List : uint8_t { kProbation, kMain, kGhosts, kLists, kAbsent = kLists };
  struct Link {
    uint32_t colder = 0;
    uint32_t warmer = 0;
  };
  // A key and its places in all shadows, together, as all are looked at for every request.
  struct Slot {
    uint64_t key_hash = 0;
    std::array<List, kShadows> where = {};
    std::array<Link, kShadows> links = {};
  };
  struct Shadow {
    std::array<uint64_t, kLists> sizes = {};
    double hits = 0;  // Of late: decays.
    uint64_t resident() const { return sizes[kProbation] + sizes[kMain]; }
  };

  // One key in eight is enough to go by, and an eighth of the work; fewer only for memory's sake.
  uint64_t ResidentMax() const {
    if (compare_ == Compare::kSizes) return kResidentMaxOfSizes;
    return sample_mask_ < 7 ? kResidentMin : kResidentMax;
  }
  bool Sampled(uint64_t key_hash) const { return (key_hash & sample_mask_) == 0; }
  uint64_t Capacity() const;
  uint64_t CapacityOf(size_t shadow) const;
  double ProbationShare(size_t shadow) const {
    return compare_ == Compare::kSizes ? probation_share_ : kProbationShares[shadow];
  }
  void ChooseFirst();
  void HalveSample();
  void EndEpoch();

  void Use(size_t shadow, uint32_t slot);
  void Evict(size_t shadow);
  void DemoteSurplus(size_t shadow);
  void Push(size_t shadow, List list, uint32_t slot);
  void Unlink(size_t shadow, uint32_t slot);
  uint32_t Coldest(size_t shadow, List list) const { return slots_[list].links[shadow].warmer; }

  uint32_t FindOrAdd(uint64_t key_hash);
  void FreeIfAbsent(uint32_t slot);
  void Rehash(size_t size);
  size_t Home(uint64_t key_hash) const {
    return static_cast<size_t>((key_hash * 0x9e3779b97f4a7c15U) >> index_shift_);
  }

  const Compare compare_;
  double probation_share_ = 1;
  std::array<Shadow, kShadows> shadows_;
  size_t best_ = 0;
  uint64_t copies_ = UINT64_MAX;
  uint64_t sample_mask_ = 0;  // One key in this and one more.
  uint64_t epoch_requests_ = 0;
  uint64_t epoch_uses_ = 0;
  uint64_t uses_ = 0;  // Of sampled keys, and those of them that were known.
  uint64_t uses_again_ = 0;

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  std::vector<uint32_t> index_;  // Slots by hash; linear probing, at most half full.
  int index_shift_ = 64;
  uint64_t keys_ = 0;

  // Of the request in hand.
  std::vector<uint32_t> requested_;
  std::vector<uint32_t> left_;  // Forgotten by a shadow.
};

}  // namespace cairn
