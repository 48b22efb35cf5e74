#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "src/prediction/successors.h"

namespace cairn {

// One reader's keys, read one after the other, and how far it is followed ahead. Thread-compatible.
class ReadStream {
 public:
  // How far one is followed that reads key by key: enough for the device to be busy with. One that
  // reads many at a time is followed by as many, up to the second.
  static constexpr size_t kAhead = 8;
  static constexpr size_t kAheadMax = 64;

  // The key is read: it follows the one before. False when another was guessed: what was is of no
  // use any more.
  bool Read(uint64_t key, Successors& successors);
  // Of what comes next, the first that was not guessed yet, if no more than `ahead` were and are
  // not read yet; 0: none.
  uint64_t Next(size_t ahead, const Successors& successors);
  // Something is guessed that was not read yet.
  bool guessing() const { return count_ > 0; }
  // What is read next follows nothing.
  void Break() { last_ = 0; }

 private:
  uint64_t last_ = 0;
  // The guesses from the last key on, in a ring.
  std::array<uint64_t, kAheadMax> guesses_ = {};
  size_t first_ = 0;
  size_t count_ = 0;
};

}  // namespace cairn
