#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "nlohmann/json_fwd.hpp"

namespace cairn::inspect {

// Exit statuses.
inline constexpr int kSound = 0;
inline constexpr int kDamaged = 1;
inline constexpr int kUnreadable = 2;

// Standard output. A reader that has gone away is no error: what is printed after it is dropped.
class Output {
 public:
  // Ignores SIGPIPE, which would end the process before it has an exit status.
  Output();

  void Line(std::string_view text);
  void Json(const nlohmann::ordered_json& json);

  // False from the moment printing makes no sense any more.
  bool wanted() const { return wanted_; }

  // Flushes; kUnavailable when what was printed did not arrive for another reason than a reader
  // who left.
  absl::Status Close();

 private:
  void Write(std::string_view text);

  bool wanted_ = true;
  int error_ = 0;
};

// As 2026-11-21T17:02:03.456Z.
std::string UtcText(int64_t unix_ms);

// "store-inspect: ..." on standard error, in one line.
void PrintError(std::string_view message);

}  // namespace cairn::inspect
