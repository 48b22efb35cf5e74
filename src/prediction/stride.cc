#include "src/prediction/stride.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_format.h"
#include "io/index.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

constexpr size_t kDigitsMax = 18;
constexpr uint32_t kStepsMin = 2;

size_t DigitsOf(std::string_view key) {
  const size_t digits_max = std::min(key.size(), kDigitsMax);
  size_t digits = 0;
  while (digits < digits_max && key[key.size() - digits - 1] >= '0' &&
         key[key.size() - digits - 1] <= '9') {
    ++digits;
  }
  return digits;
}

}  // namespace

void Stride::Read(std::string_view key) {
  const size_t digits = DigitsOf(key);
  const std::string_view front = key.substr(0, key.size() - digits);
  int64_t number = 0;
  std::from_chars(key.data() + front.size(), key.data() + key.size(), number);
  const uint64_t row = HashKey({.fingerprint_id = 0, .key = front});
  const int64_t step = number - number_;
  if (digits == 0 || row != row_ || step == 0) {
    steps_ = ahead_ = 0;
  } else if (steps_ == 0 || step != step_) {
    steps_ = 1;
    ahead_ = 0;
  } else {
    ++steps_;
    if (ahead_ > 0) --ahead_;
  }
  row_ = row;
  number_ = number;
  step_ = step;
}

std::optional<std::string> Stride::Next(std::string_view key) {
  if (steps_ < kStepsMin || ahead_ == kAhead) return std::nullopt;
  const int64_t number = number_ + step_ * static_cast<int64_t>(++ahead_);
  if (number < 0) return std::nullopt;
  const size_t digits = DigitsOf(key);
  const std::string_view front = key.substr(0, key.size() - digits);
  const bool padded = key[front.size()] == '0';
  return absl::StrFormat("%s%0*d", ToAbsl(front), padded ? static_cast<int>(digits) : 1, number);
}

}  // namespace cairn
