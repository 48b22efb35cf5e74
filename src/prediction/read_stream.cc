#include "src/prediction/read_stream.h"

#include <algorithm>

namespace cairn {

bool ReadStream::Read(uint64_t key, Successors& successors) {
  if (last_ != 0 && last_ != key) successors.Learn(last_, key);
  last_ = key;
  if (count_ == 0) return true;
  if (guesses_[first_] != key) {
    count_ = 0;
    return false;
  }
  first_ = (first_ + 1) % kAheadMax;
  --count_;
  return true;
}

uint64_t ReadStream::Next(size_t ahead, const Successors& successors) {
  if (last_ == 0 || count_ >= std::min(ahead, kAheadMax)) return 0;
  const uint64_t from = count_ == 0 ? last_ : guesses_[(first_ + count_ - 1) % kAheadMax];
  const uint64_t next = successors.After(from);
  if (next == 0) return 0;
  guesses_[(first_ + count_) % kAheadMax] = next;
  ++count_;
  return next;
}

}  // namespace cairn
