#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "src/base/mutex.h"
#include "src/entry.h"
#include "src/eviction/class_pools.h"
#include "src/eviction/node_queue.h"
#include "src/eviction/policy.h"
#include "src/eviction/snapshot.h"

namespace cairn {

// A tier's eviction policies, one for each class, behind their lock, which ranks below the
// directory's stripes. A tracked node's entry is alive: entries are forgotten, under this lock,
// before they die.
class TierEviction {
 public:
  // Which entry to try: by value, for when Pick returns nothing protects the entry.
  struct Candidate {
    uint32_t fingerprint_id = 0;
    std::string key;
    uint64_t hash = 0;
    uint64_t sequence = 0;
  };

  // Whose place in the tier's order a node is.
  using EntryOf = const Entry& (*)(const EvictionNode& node);
  static const Entry& EntryOfL1(const EvictionNode& node) {
    return *static_cast<const L1Copy&>(node).entry;
  }
  static const Entry& EntryOfL2(const EvictionNode& node) {
    return *static_cast<const HotPart&>(node).entry;
  }
  static const Entry& EntryOfL3(const EvictionNode& node) {
    return static_cast<const Entry&>(node);
  }

  // No chain is named to L1: what was used last stays.
  static TierEviction OfL1() {
    return {EvictionKind::kLru, Describe<EntryOfL1>, EntryOfL1, {.by_class = false}};
  }
  static TierEviction OfL2(EvictionKind kind, const ClassShares& shares) {
    return {kind, Describe<EntryOfL2>, EntryOfL2, {.shares = shares}};
  }
  static TierEviction OfL3(EvictionKind kind, const ClassShares& shares) {
    return {kind, Describe<EntryOfL3>, EntryOfL3, {.shares = shares}};
  }

  // As EvictionPolicy::SetBytesMax. Before that no class has a share.
  void SetBytesMax(uint64_t bytes_max) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    pools_.SetBytesMax(bytes_max);
  }

  // As EvictionPolicy::Request.
  void Request(absl::Span<const uint64_t> key_hashes) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    pools_.Request(key_hashes);
  }
  // A use when it is tracked already: whoever was about to evict it may have put it back.
  void Track(EvictionNode* node) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    ++changes_;
    node->tracked() ? pools_.Touch(node) : pools_.Track(node);
  }
  // One that was picked stays. Nothing to do when it is tracked again by now.
  void Keep(EvictionNode* node) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    if (!node->tracked()) pools_.Keep(node);
  }
  void Touch(EvictionNode* node) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    ++changes_;
    pools_.Touch(node);
  }
  void Forget(EvictionNode* node) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    ++changes_;
    pools_.Forget(node);
  }
  // One of a search, which has options of its own.
  std::optional<Candidate> Pick(ClassPools::PickOptions& options) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    ++changes_;
    if (!options.begun.has_value()) options.begun = pools_.now();
    EvictionNode* node = pools_.Pick(options);
    if (node == nullptr) return std::nullopt;
    const Entry& entry = entry_of_(*node);
    return Candidate{entry.fingerprint_id(), std::string(entry.key()), entry.hash(),
                     entry.sequence()};
  }
  // A copy is the same under another node from here on, with the place of the old one. Where that
  // has been picked just now, the new one stays.
  void Replace(EvictionNode* node, EvictionNode* successor) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    ++changes_;
    node->tracked() ? pools_.Replace(node, successor) : pools_.Keep(successor);
  }
  // The hashes of the keys that have so many bytes and would be among the next to leave: 4096 at
  // most.
  absl::flat_hash_set<uint64_t> Coldest(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_) {
    constexpr size_t kCountMax = 4096;
    absl::flat_hash_set<uint64_t> hashes;
    MutexLock lock(mutex_);
    const EvictionPolicy::Parts parts = pools_.parts();
    uint64_t found_bytes = 0;
    parts.next->Visit(*parts.clock, [&](const EvictionNode& node) {
      if (found_bytes >= bytes || hashes.size() == kCountMax) return false;
      const Entry& entry = entry_of_(node);
      found_bytes += entry.bytes();
      hashes.insert(entry.hash());
      return true;
    });
    return hashes;
  }
  uint64_t size() const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return pools_.size();
  }
  std::array<uint64_t, kTensorClasses> sizes() const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return pools_.sizes();
  }

  // ---- What the policy knows, for who keeps it over restarts (snapshot.h) ----
  // Counts what changes it.
  uint64_t changes() const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return changes_;
  }
  // One at a time; not longer than this.
  SnapshotReader BeginSnapshot(uint64_t words_max) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return {&pools_, words_max};
  }
  bool NextPiece(SnapshotReader& reader, SnapshotPiece* piece) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return reader.Next(piece);
  }
  // Before the policy is used.
  void Restore(const SnapshotPiece& piece, absl::Span<EvictionNode* const> nodes)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    cairn::Restore(&pools_, piece, nodes);
  }

 private:
  TierEviction(EvictionKind kind, EvictionPolicy::Describe describe, EntryOf entry_of,
               const PoolOptions& options)
      : entry_of_(entry_of), pools_(kind, describe, options) {}

  template <EntryOf kEntryOf>
  static EvictionPolicy::Copy Describe(const EvictionNode& node) {
    const Entry& entry = kEntryOf(node);
    return {entry.hash(), entry.bytes(), entry.tensor_class(), WorthOf(entry.recompute_level())};
  }

  const EntryOf entry_of_;
  mutable Mutex mutex_;
  ClassPools pools_ ABSL_GUARDED_BY(mutex_);
  uint64_t changes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace cairn
