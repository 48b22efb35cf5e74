#include "tools/inspect/record_choice.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <tuple>

namespace cairn::inspect {
namespace {

using Found = RecordMap::Found;

// Bytes that a write has taken: those of a tensor, or of the table of a pack.
struct Claim {
  Run run;
  uint64_t sequence = 0;
  size_t tensor = 0;
  bool table = false;
};

// The later writes first. A table has the sequence of its last member.
std::vector<Claim> ClaimsOf(const std::vector<Found>& found, const std::vector<bool>& unverified) {
  std::vector<Claim> claims;
  std::map<uint64_t, Claim> tables;
  for (size_t i = 0; i < found.size(); ++i) {
    if (unverified[i]) continue;
    const IndexRecord& record = found[i].record;
    claims.push_back({{record.offset, record.extent_bytes()}, record.sequence, i});
    if (!record.packed()) continue;
    Claim& table = tables[record.pack_offset];
    table = {{record.pack_offset, record.header_bytes},
             std::max(table.sequence, record.sequence),
             i,
             /*table=*/true};
  }
  for (const auto& [offset, table] : tables) claims.push_back(table);
  std::sort(claims.begin(), claims.end(), [](const Claim& a, const Claim& b) {
    return std::tie(b.sequence, a.run.offset) < std::tie(a.sequence, b.run.offset);
  });
  return claims;
}

// Whether a later write has used each tensor's place, or that of its table, again.
std::vector<bool> UsedAgain(const std::vector<Found>& found, const std::vector<bool>& unverified) {
  std::vector<bool> used_again(found.size(), false);
  std::set<uint64_t> lost_tables;
  RunSet places;
  for (const Claim& claim : ClaimsOf(found, unverified)) {
    if (places.Overlaps(claim.run)) {
      if (claim.table) {
        lost_tables.insert(claim.run.offset);
      } else {
        used_again[claim.tensor] = true;
      }
    }
    places.Add(claim.run);
  }
  for (size_t i = 0; i < found.size(); ++i) {
    const IndexRecord& record = found[i].record;
    if (record.packed() && lost_tables.contains(record.pack_offset)) used_again[i] = true;
  }
  return used_again;
}

// What the latest of several writes says.
template <typename Value>
struct Latest {
  uint64_t sequence = 0;
  Value value = {};

  void Take(uint64_t other_sequence, const Value& other) {
    if (other_sequence < sequence) return;
    sequence = other_sequence;
    value = other;
  }
};

// Of a fingerprint that was purged and came back, the number that was written under last is the one
// in use.
class Numbers {
 public:
  explicit Numbers(const std::vector<Found>& found) {
    for (const Found& one : found) {
      texts_[one.fingerprint_id].Take(one.record.sequence, one.fingerprint);
      numbers_[one.fingerprint].Take(one.record.sequence, one.fingerprint_id);
    }
  }

  bool InUse(const Found& one) const {
    return texts_.at(one.fingerprint_id).value == one.fingerprint &&
           numbers_.at(one.fingerprint).value == one.fingerprint_id;
  }
  const std::map<uint32_t, Latest<std::string>>& texts() const { return texts_; }

 private:
  std::map<uint32_t, Latest<std::string>> texts_;
  std::map<std::string, Latest<uint32_t>> numbers_;
};

// In order of keys, of each the latest first. Of a write that failed in one place and went well in
// another the one that verifies.
std::vector<size_t> ByKey(const std::vector<Found>& found, const std::vector<bool>& unverified) {
  std::vector<size_t> order(found.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const Found& left = found[a];
    const Found& right = found[b];
    const bool left_unverified = unverified[a];
    const bool right_unverified = unverified[b];
    return std::tie(left.fingerprint_id, left.key, right.record.sequence, left_unverified) <
           std::tie(right.fingerprint_id, right.key, left.record.sequence, right_unverified);
  });
  return order;
}

bool SameKey(const Found& a, const Found& b) {
  return a.fingerprint_id == b.fingerprint_id && a.key == b.key;
}

}  // namespace

std::map<uint32_t, std::string> FingerprintsSeen(const std::vector<Found>& found) {
  const Numbers numbers(found);
  std::map<uint32_t, std::string> seen;
  for (const auto& [number, text] : numbers.texts()) seen.emplace(number, text.value);
  return seen;
}

RecordChoice ChooseRecords(const std::vector<Found>& found, const std::vector<bool>& unverified,
                           int64_t now_unix_ms) {
  RecordChoice choice;
  const std::vector<bool> used_again = UsedAgain(found, unverified);
  const Numbers numbers(found);
  const std::vector<size_t> order = ByKey(found, unverified);
  for (size_t i = 0; i < order.size(); ++i) {
    const size_t number = order[i];
    const Found& one = found[number];
    const int64_t expires = one.record.expires_unix_ms;
    if (i > 0 && SameKey(found[order[i - 1]], one)) {
      ++choice.older_writes;
    } else if (!numbers.InUse(one)) {
      ++choice.purged_fingerprint;
    } else if (expires != 0 && expires <= now_unix_ms) {
      ++choice.expired;
    } else if (unverified[number]) {
      choice.unverified.push_back(number);
    } else if (used_again[number]) {
      ++choice.place_used_again;
    } else {
      choice.chosen.push_back(number);
      choice.taken.Add({one.record.offset, one.record.extent_bytes()});
      choice.taken.Add({one.record.header_offset(), one.record.header_bytes});
    }
  }
  std::sort(choice.chosen.begin(), choice.chosen.end(), [&found](size_t a, size_t b) {
    return found[a].record.offset < found[b].record.offset;
  });
  return choice;
}

}  // namespace cairn::inspect
