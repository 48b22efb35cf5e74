#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cairn {

// Guesses keys that nobody asked for before: of those that end in a number and are alike in front
// of it, three at one distance are followed by a fourth. Thread-compatible: of one thread's reads.
class Stride {
 public:
  // How far ahead it guesses.
  static constexpr uint32_t kAhead = 8;

  // The key is asked for.
  void Read(std::string_view key);
  // After Read of `key`: one that was not guessed in this run yet.
  std::optional<std::string> Next(std::string_view key);

 private:
  uint64_t row_ = 0;  // The hash of what is in front of the number.
  int64_t number_ = 0;
  int64_t step_ = 0;
  uint32_t steps_ = 0;  // Alike, in a row.
  uint32_t ahead_ = 0;  // Guessed from the number on.
};

}  // namespace cairn
