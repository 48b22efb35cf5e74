#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "src/admission/write_budget.h"
#include "src/eviction/ghost_list.h"

namespace cairn {

// Why a tensor is written to L3, or is not.
enum class AdmissionReason : uint8_t {
  kPromised,       // Written: whoever put it was promised that, whatever the budget says.
  kSecondSight,    // Written: it was refused before, or has left L3, and is wanted again.
  kFirstSight,     // Written: seen for the first time, and the budget had bytes in hand.
  kPartial,        // Refused: the block is not full yet, and will come again as another.
  kNotSeenBefore,  // Refused: seen for the first time, and the budget had nothing in hand.
  kOverBudget,     // Refused: wanted again, but as much is owed to the budget as may be.
};
inline constexpr size_t kAdmissionReasons = 6;
inline bool Admitted(AdmissionReason reason) { return reason <= AdmissionReason::kFirstSight; }

// What is written to L3, where each byte wears the drive: so much that the bytes written keep to a
// budget, and of what comes that which is likely to be wanted again. Bookkeeping only, as the
// eviction policies: no lock, no clock of its own; the simulator and the store run the same code.
//
// What comes back is worth most: a tensor that was refused, or left L3, is remembered, and written
// when it comes, or is used, again (second sight). What is left of the budget is for first sights:
// they are written when it has bytes in hand. Second sights may overdraw it by kBorrowedShare of
// what it has granted so far, and no more than it gains in kBorrowedSeconds. Both is decided once
// for each chain (Request), for a chain with holes is worth no more than the part before the first;
// what has begun may overdraw it by twice as much. So at any time what was written without a
// promise is at most 1.1 times what was granted, and one tensor.
class AdmissionPolicy {
 public:
  static constexpr double kBorrowedShare = 0.05;
  static constexpr double kBorrowedSeconds = 60;
  // Keys remembered, for each tensor that L3 has room for.
  static constexpr uint64_t kHistoryPerTensor = 10;

  struct Options {
    WriteBudget::Options budget;
    uint64_t l3_bytes_max = 0;
  };
  struct Tensor {
    uint64_t key_hash = 0;
    uint64_t bytes = 0;     // That writing it takes.
    bool promised = false;  // It must be written.
    bool partial = false;   // A block that is not full yet.
  };

  explicit AdmissionPolicy(const Options& options);

  // As EvictionPolicy::Request: these are one chain.
  void Request(absl::Span<const uint64_t> key_hashes);
  // Whether to write it, now that it came or, refused before, is used again. Spends its bytes when
  // it is admitted.
  AdmissionReason Decide(const Tensor& tensor, int64_t now_ms);
  // What was admitted is not written after all.
  void Return(const Tensor& tensor, AdmissionReason reason);
  // Whether so many bytes are in hand for what nobody has put; spends them then.
  bool Spare(uint64_t bytes, int64_t now_ms);
  // It left L3 for lack of room.
  void Left(uint64_t key_hash) { Remember(key_hash); }

  void AdvanceTo(int64_t now_ms) { budget_.AdvanceTo(now_ms); }
  const WriteBudget& budget() const { return budget_; }
  uint64_t written_bytes() const { return written_bytes_; }
  uint64_t count(AdmissionReason reason) const { return counts_[static_cast<size_t>(reason)]; }

 private:
  enum class Verdict : uint8_t { kOpen, kAdmit, kRefuse };
  struct Chain {
    uint64_t number = 0;
    Verdict first_sights = Verdict::kOpen;
    Verdict second_sights = Verdict::kOpen;
  };
  // Which chain a key was requested in last.
  struct Member {
    uint64_t key_hash = 0;
    uint64_t chain = 0;
  };

  AdmissionReason Judge(const Tensor& tensor);
  // Null: it came by itself, or so long after its chain that that is forgotten.
  Chain* ChainOf(uint64_t key_hash);
  double BorrowedBytesMax() const;
  bool Affords(Verdict* verdict, double owed_bytes_max) const;
  void Remember(uint64_t key_hash);

  const uint64_t l3_bytes_max_;
  WriteBudget budget_;
  GhostList history_;
  uint64_t written_bytes_ = 0;
  std::array<uint64_t, kAdmissionReasons> counts_ = {};
  uint64_t seen_tensors_ = 0;
  uint64_t seen_bytes_ = 0;

  // Both by number modulo their size, a later one in an earlier one's place. Empty until the first
  // chain.
  uint64_t last_chain_ = 0;
  std::vector<Chain> chains_;
  std::vector<Member> members_;
};

}  // namespace cairn
