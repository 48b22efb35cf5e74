#include "tools/offload/option_values.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"

namespace cairn::offload {

absl::Status Mistake(const char* option, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(option, ": ", ToAbsl(what)));
}

absl::StatusOr<uint64_t> ParseSize(std::string_view text) {
  const absl::Status mistake = absl::InvalidArgumentError(
      absl::StrCat("\"", ToAbsl(text), "\" is not a size over 0, such as 512MiB, 2GiB or 1.5G"));
  const size_t number_size = std::min(text.find_first_not_of("0123456789."), text.size());
  double number = 0;
  uint64_t whole = 0;
  const absl::string_view number_text = ToAbsl(text.substr(0, number_size));
  const bool is_whole = absl::SimpleAtoi(number_text, &whole);
  if (!is_whole && !absl::SimpleAtod(number_text, &number)) return mistake;

  absl::string_view unit = absl::StripAsciiWhitespace(ToAbsl(text.substr(number_size)));
  uint64_t factor = 1;
  if (!unit.empty() && !absl::EqualsIgnoreCase(unit, "B")) {
    const size_t power = std::string_view("kmgt").find(absl::ascii_tolower(unit.front()));
    if (power == std::string_view::npos) return mistake;
    unit.remove_prefix(1);
    const bool decimal = absl::EqualsIgnoreCase(unit, "B");
    if (!decimal && !unit.empty() && !absl::EqualsIgnoreCase(unit, "iB")) return mistake;
    for (size_t i = 0; i <= power; ++i) factor *= decimal ? 1000 : 1024;
  }
  if (is_whole) number = static_cast<double>(whole);
  const double bytes = number * static_cast<double>(factor);
  if (bytes < 1 || bytes >= 0x1p63) return mistake;
  return is_whole ? whole * factor : static_cast<uint64_t>(bytes);
}

absl::StatusOr<uint64_t> SizeOf(const char* option, std::string_view text) {
  absl::StatusOr<uint64_t> size = ParseSize(text);
  if (!size.ok()) return Mistake(option, ToStd(size.status().message()));
  return size;
}

absl::StatusOr<uint64_t> CountOf(const char* option, std::string_view text, CountRange range) {
  uint64_t count = 0;
  if (absl::SimpleAtoi(ToAbsl(text), &count) && count >= range.min && count <= range.max)
    return count;
  return Mistake(option, absl::StrCat("\"", ToAbsl(text), "\" is not a whole number from ",
                                      range.min, " to ", range.max));
}

absl::StatusOr<double> NumberOver0(const char* option, std::string_view text) {
  double number = 0;
  if (absl::SimpleAtod(ToAbsl(text), &number) && std::isfinite(number) && number > 0) return number;
  return Mistake(option, absl::StrCat("\"", ToAbsl(text), "\" is not a number over 0"));
}

}  // namespace cairn::offload
