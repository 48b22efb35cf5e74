#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "io/index.h"
#include "src/entry.h"

namespace cairn {

// A key of this store with its hash, made once at the top of a verb.
struct HashedKey {
  uint32_t fingerprint_id = 0;
  std::string_view key;
  uint64_t hash = 0;

  HashedKey(uint32_t id, std::string_view bytes) : HashedKey(id, bytes, HashKey({id, bytes})) {}
  HashedKey(uint32_t id, std::string_view bytes, uint64_t hash_of_both)
      : fingerprint_id(id), key(bytes), hash(hash_of_both) {}
  explicit HashedKey(const Entry& entry) : HashedKey(entry.fingerprint_id(), entry.key()) {}

  friend bool operator==(const HashedKey& a, const HashedKey& b) {
    return a.fingerprint_id == b.fingerprint_id && a.key == b.key;
  }
};

// One whose hash is known.
struct HashedEntry {
  Entry* entry;
  uint64_t hash;
};

// An entry whose key has this hash.
struct AnyOfHash {
  uint64_t hash;
};

inline void FetchEarly(const Entry* entry) {
  // Its fields, and the key behind them.
  __builtin_prefetch(entry);
  __builtin_prefetch(reinterpret_cast<const char*>(entry) + 64);
}

// Is equal to nothing: a look-up only has the entries fetched that it would compare.
struct FetchOfHash {
  uint64_t hash;
};

struct EntryHash {
  using is_transparent = void;
  size_t operator()(const HashedEntry& one) const { return static_cast<size_t>(one.hash); }
  size_t operator()(AnyOfHash any) const { return static_cast<size_t>(any.hash); }
  size_t operator()(FetchOfHash fetch) const { return static_cast<size_t>(fetch.hash); }
  size_t operator()(const HashedKey& key) const { return static_cast<size_t>(key.hash); }
  size_t operator()(const Entry* entry) const { return static_cast<size_t>(entry->hash()); }
};

struct EntryEqual {
  using is_transparent = void;
  bool operator()(const Entry* a, const HashedKey& b) const {
    return a->fingerprint_id() == b.fingerprint_id && a->key() == b.key;
  }
  bool operator()(const Entry* a, AnyOfHash b) const { return a->hash() == b.hash; }
  bool operator()(const Entry* a, FetchOfHash) const {
    FetchEarly(a);
    return false;
  }
  bool operator()(const Entry* a, const HashedEntry& b) const { return (*this)(a, b.entry); }
  bool operator()(const Entry* a, const Entry* b) const {
    return a->fingerprint_id() == b->fingerprint_id() && a->key() == b->key();
  }
};

// By their keys, which are their own: a slot is a pointer, as there are as many as tensors.
using EntrySet = absl::flat_hash_set<Entry*, EntryHash, EntryEqual>;

}  // namespace cairn
