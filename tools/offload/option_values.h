#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "src/base/strings.h"

namespace cairn::offload {

// What is typed behind an option, made a value. Mistakes are kInvalidArgument and name the option
// and what was typed.

absl::Status Mistake(const char* option, std::string_view what);

// "2GiB", "16G", "1.5GiB", "512MiB", "4096": K, M, G, T with or without iB are powers of 1024,
// with B alone powers of 1000. kInvalidArgument for anything else, and for 0.
absl::StatusOr<uint64_t> ParseSize(std::string_view text);
absl::StatusOr<uint64_t> SizeOf(const char* option, std::string_view text);

struct CountRange {
  uint64_t min = 1;
  uint64_t max = UINT32_MAX;
};
absl::StatusOr<uint64_t> CountOf(const char* option, std::string_view text, CountRange range);

absl::StatusOr<double> NumberOver0(const char* option, std::string_view text);

// The value that has the name.
template <typename Value, size_t count>
absl::StatusOr<Value> OneOf(const char* option, std::string_view text,
                            const std::pair<const char*, Value> (&names)[count]) {
  std::string list;
  for (size_t i = 0; i < count; ++i) {
    if (text == names[i].first) return names[i].second;
    absl::StrAppend(&list, i == 0 ? "" : i + 1 < count ? ", " : " or ", names[i].first);
  }
  return Mistake(option, absl::StrCat("\"", ToAbsl(text), "\" is not ", list));
}

}  // namespace cairn::offload
