#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace cairn {

// What survives what.
enum class Survives : uint8_t { kNothing, kKill, kPowerCut };

// One change of a key on its way or done. Steps of the run order what happens.
struct KeyWrite {
  static constexpr uint64_t kPending = UINT64_MAX;
  enum class Effect : uint8_t {
    kDone,   // Took effect between start and end.
    kMaybe,  // May take effect, or may have, at any time from its start on; and be lost again.
    kNone,   // Refused: its bytes are nowhere.
  };

  uint64_t content = 0;  // Of History::NewContent; 0: no tensor.
  uint64_t start = 0;
  uint64_t end = kPending;
  Effect effect = Effect::kMaybe;
  Survives survives = Survives::kNothing;
  bool keep = false;                  // Retention::kKeep.
  bool lost = false;                  // It failed: the key may hold nothing for it.
  bool damaged = false;               // Of no tensor: may answer kDataLoss.
  bool unflushed = false;             // A flush of it failed: no later one makes it survive more.
  int64_t expires_first_unix_ms = 0;  // At the earliest and at the latest; 0: never.
  int64_t expires_last_unix_ms = 0;
};

// What a read may answer, by all that was written: the register of every key, with writes of any
// threads at once. A value may be read when no write that took effect lies between it and the
// read.
class History {
 public:
  struct Content {
    int key = 0;
    uint64_t bytes = 0;
  };
  // How the answer of a read is to be judged.
  struct Read {
    int key = 0;
    uint64_t start = 0;  // Step at which it began.
    int64_t start_unix_ms = 0;
    int64_t end_unix_ms = 0;
    bool fails = false;         // The device may have failed a write.
    bool evicted_some = false;  // The store has dropped tensors of Retention::kCache.
    uint64_t leased_at = 0;     // Step at which it was leased by the reader; 0: not.
  };

  explicit History(int keys);

  static constexpr uint64_t kContentBytesMin = 8;
  uint64_t NewContent(int key, uint64_t bytes);
  // The bytes begin with the number of the content, and follow from it.
  static void Fill(uint64_t content, absl::Span<std::byte> target);
  // The content that these bytes are, or 0 with `why`.
  uint64_t Recognize(int key, absl::Span<const std::byte> bytes, std::string* why) const;
  uint64_t bytes_of(uint64_t content) const { return contents_[content].bytes; }

  // The number of the write, for End.
  size_t Begin(int key, const KeyWrite& write);
  KeyWrite& At(int key, size_t number) { return keys_[static_cast<size_t>(key)][number]; }

  // Empty, or why the answer cannot be.
  std::string CheckFound(const Read& read, uint64_t content) const;
  std::string CheckAbsent(const Read& read) const;
  bool MayBeDamaged(const Read& read) const;

  // All puts that took effect before this step survive loss of power, and so do the erases that
  // would survive a kill, or all. Not those of a key that is being written at or after the step.
  void Flushed(uint64_t step, bool all_erases);
  // A flush failed, and the store that knew of it has ended: what was not acknowledged as flushed
  // may be lost with the power, whatever a later store flushes.
  void FlushFailed();
  // The power was lost: what is there now is on the medium.
  void PowerLost();
  // The store ended at this step, and only what survives that end is certain. After a loss of power
  // what was evicted can be named by the index again, its bytes used by others.
  void Ended(uint64_t step, Survives needed, bool evicted_some);
  // Read from an idle store right after it: so it is. Nothing: no tensor.
  void Observed(int key, std::optional<uint64_t> content, uint64_t step, Survives survives,
                bool damaged);
  // Whether a put that was to survive was replaced by one that need not have when the store ended
  // last: then both may be lost.
  bool ReplacedByLess(int key) const { return replaced_by_less_[static_cast<size_t>(key)]; }

  std::string Describe(int key) const;

 private:
  using Writes = std::vector<KeyWrite>;

  const Writes& Of(int key) const { return keys_[static_cast<size_t>(key)]; }
  static bool Superseded(const Writes& writes, const KeyWrite& write, uint64_t read_start);
  static void EndedOf(Writes& writes, uint64_t step, Survives needed, bool evicted_some,
                      bool* replaced_by_less);

  std::vector<Writes> keys_;
  std::vector<bool> replaced_by_less_;
  std::vector<Content> contents_;
};

}  // namespace cairn
