#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/strings/string_view.h"

namespace cairn {

// Debian's Abseil has its own string_view, upstream's is std's: the only bridge between the two.
inline absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view ToStd(absl::string_view text) { return {text.data(), text.size()}; }

// The key as text for messages: printable ASCII as it is, other bytes as \xNN.
std::string PrintableKey(std::string_view key);

// "1.5 GiB": binary units, at most three significant digits after the number's unit is chosen.
std::string FormatBytes(uint64_t bytes);

}  // namespace cairn
