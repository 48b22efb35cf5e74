#include "tests/simulation/history.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

using Effect = KeyWrite::Effect;

constexpr uint64_t kContentsMax = uint64_t{1} << 32;

uint64_t Word(uint64_t content, uint64_t i) {
  return i == 0 ? content : (content * 0x9e3779b97f4a7c15 + i) * 0xd6e8feb86659fd93;
}

}  // namespace

History::History(int keys)
    : keys_(static_cast<size_t>(keys)), replaced_by_less_(static_cast<size_t>(keys)), contents_(1) {
  for (Writes& writes : keys_) {
    writes.push_back({.end = 0, .effect = Effect::kDone, .survives = Survives::kPowerCut});
  }
}

uint64_t History::NewContent(int key, uint64_t bytes) {
  contents_.push_back({key, bytes});
  return contents_.size() - 1;
}

void History::Fill(uint64_t content, absl::Span<std::byte> target) {
  const uint64_t words = target.size() / 8;
  for (uint64_t i = 0; i < words; ++i) {
    const uint64_t word = Word(content, i);
    std::memcpy(target.data() + i * 8, &word, 8);
  }
  const uint64_t word = Word(content, words);
  std::memcpy(target.data() + words * 8, &word, target.size() % 8);
}

uint64_t History::Recognize(int key, absl::Span<const std::byte> bytes, std::string* why) const {
  uint64_t content = 0;
  if (bytes.size() >= 8) std::memcpy(&content, bytes.data(), 8);
  if (content == 0 || content >= std::min<uint64_t>(contents_.size(), kContentsMax)) {
    *why = absl::StrCat("bytes that nobody put (", content, ")");
    return 0;
  }
  if (contents_[content].key != key || contents_[content].bytes != bytes.size()) {
    *why = absl::StrCat("the bytes of content ", content, " of key ", contents_[content].key, ", ",
                        contents_[content].bytes, " bytes, as ", bytes.size());
    return 0;
  }
  uint64_t wrong = 0;
  const uint64_t words = bytes.size() / 8;
  for (uint64_t i = 0; i < words; ++i) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i * 8, 8);
    wrong |= word ^ Word(content, i);
  }
  const uint64_t word = Word(content, words);
  if (wrong != 0 || std::memcmp(bytes.data() + words * 8, &word, bytes.size() % 8) != 0) {
    *why = absl::StrCat("content ", content, " with wrong bytes in it");
    return 0;
  }
  return content;
}

size_t History::Begin(int key, const KeyWrite& write) {
  Writes& writes = keys_[static_cast<size_t>(key)];
  writes.push_back(write);
  return writes.size() - 1;
}

bool History::Superseded(const Writes& writes, const KeyWrite& write, uint64_t read_start) {
  return std::any_of(writes.begin(), writes.end(), [&](const KeyWrite& other) {
    return &other != &write && other.effect == Effect::kDone && write.end <= other.start &&
           other.end <= read_start;
  });
}

std::string History::CheckFound(const Read& read, uint64_t content) const {
  std::string why = "was never put";
  for (const KeyWrite& write : Of(read.key)) {
    if (write.content != content) continue;
    if (write.effect == Effect::kNone) {
      why = "was refused";
    } else if (write.expires_last_unix_ms != 0 &&
               write.expires_last_unix_ms <= read.start_unix_ms) {
      why = "was past its time";
    } else if (Superseded(Of(read.key), write, read.start)) {
      why = "was replaced or removed before";
    } else {
      return "";
    }
  }
  return absl::StrCat("content ", content, " was read, which ", why);
}

std::string History::CheckAbsent(const Read& read) const {
  for (const KeyWrite& write : Of(read.key)) {
    if (write.effect == Effect::kNone || Superseded(Of(read.key), write, read.start)) continue;
    if (write.content == 0) return "";
    const bool leased = read.leased_at != 0 && write.end <= read.leased_at;
    if (write.lost && !leased) return "";
    if (write.end == KeyWrite::kPending && read.fails) return "";
    if (write.expires_first_unix_ms != 0 && write.expires_first_unix_ms <= read.end_unix_ms) {
      return "";
    }
    if (!write.keep && read.evicted_some && !leased) return "";
  }
  return "nothing was found, where nothing can have removed it";
}

bool History::MayBeDamaged(const Read& read) const {
  const Writes& writes = Of(read.key);
  return std::any_of(writes.begin(), writes.end(), [&](const KeyWrite& write) {
    return write.damaged && !Superseded(writes, write, read.start);
  });
}

void History::Flushed(uint64_t step, bool all_erases) {
  for (Writes& writes : keys_) {
    const bool changes = std::any_of(writes.begin(), writes.end(), [step](const KeyWrite& write) {
      return write.effect != Effect::kNone && write.end > step;
    });
    if (changes) continue;
    for (KeyWrite& write : writes) {
      if (write.effect != Effect::kDone || write.unflushed) continue;
      const bool erase = write.content == 0;
      if (erase && !all_erases && write.survives == Survives::kNothing) continue;
      write.survives = Survives::kPowerCut;
    }
  }
}

void History::FlushFailed() {
  for (Writes& writes : keys_) {
    for (KeyWrite& write : writes) {
      write.unflushed |= write.content != 0 && write.survives != Survives::kPowerCut;
    }
  }
}

void History::PowerLost() {
  for (Writes& writes : keys_) {
    for (KeyWrite& write : writes) write.unflushed = false;
  }
}

void History::Ended(uint64_t step, Survives needed, bool evicted_some) {
  for (size_t key = 0; key < keys_.size(); ++key) {
    bool replaced_by_less = false;
    EndedOf(keys_[key], step, needed, evicted_some, &replaced_by_less);
    replaced_by_less_[key] = replaced_by_less;
  }
}

void History::EndedOf(Writes& writes, uint64_t step, Survives needed, bool evicted_some,
                      bool* replaced_by_less) {
  // The last that is certain to have been written down.
  const KeyWrite* last = nullptr;
  for (const KeyWrite& write : writes) {
    const bool certain = write.effect == Effect::kDone && write.survives >= needed;
    if (certain && (last == nullptr || write.end > last->end)) last = &write;
  }
  const KeyWrite certain = *last;
  bool overtaken = evicted_some && certain.content != 0 && !certain.keep;
  for (KeyWrite& write : writes) {
    if (&write == last || write.effect == Effect::kNone || write.end <= certain.start) continue;
    overtaken = true;
    *replaced_by_less |= certain.content != 0 && write.content != 0;
  }
  for (KeyWrite& write : writes) {
    const bool certain_one = write.survives >= needed;
    if (write.effect == Effect::kDone && !certain_one) write.effect = Effect::kMaybe;
    if (write.effect == Effect::kMaybe) write.end = std::min(write.end, step);
  }
  if (!overtaken) return;
  writes.push_back({.start = step,
                    .end = step,
                    .effect = Effect::kMaybe,
                    .damaged = needed == Survives::kPowerCut});
}

void History::Observed(int key, std::optional<uint64_t> content, uint64_t step, Survives survives,
                       bool damaged) {
  KeyWrite seen = {.start = step, .end = step, .effect = Effect::kDone, .survives = survives};
  seen.damaged = damaged;
  if (content.has_value()) {
    for (const KeyWrite& write : Of(key)) {
      if (write.content != *content) continue;
      seen.content = *content;
      seen.keep = write.keep;
      seen.unflushed = write.unflushed;
      seen.expires_first_unix_ms = write.expires_first_unix_ms;
      seen.expires_last_unix_ms = write.expires_last_unix_ms;
    }
  }
  if (seen.unflushed) seen.survives = std::min(seen.survives, Survives::kKill);
  Writes& writes = keys_[static_cast<size_t>(key)];
  writes.push_back(seen);
}

std::string History::Describe(int key) const {
  static constexpr const char* kEffects[] = {"done", "maybe", "refused"};
  static constexpr const char* kSurvives[] = {"nothing", "a kill", "a power cut"};
  std::string text;
  for (const KeyWrite& write : Of(key)) {
    absl::StrAppend(
        &text, "    ", write.content == 0 ? "none" : absl::StrCat(write.content), " [", write.start,
        ", ", write.end == KeyWrite::kPending ? "pending" : absl::StrCat(write.end), "] ",
        kEffects[static_cast<size_t>(write.effect)], ", survives ",
        kSurvives[static_cast<size_t>(write.survives)], write.keep ? ", kept" : "",
        write.damaged ? ", may be damaged" : "", write.unflushed ? ", unflushed" : "",
        write.lost ? ", may be lost" : "",
        write.expires_first_unix_ms != 0 ? absl::StrCat(", until ", write.expires_first_unix_ms)
                                         : "",
        "\n");
  }
  return text;
}

}  // namespace cairn
