#include "tools/inspect/output.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "src/base/strings.h"

namespace cairn::inspect {

Output::Output() { std::signal(SIGPIPE, SIG_IGN); }

void Output::Write(std::string_view text) {
  if (!wanted_) return;
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size()) return;
  wanted_ = false;
  error_ = errno;
}

void Output::Line(std::string_view text) {
  Write(text);
  Write("\n");
}

void Output::Json(const nlohmann::ordered_json& json) {
  // A path need not be UTF-8.
  Line(json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

absl::Status Output::Close() {
  if (wanted_ && std::fflush(stdout) != 0) {
    wanted_ = false;
    error_ = errno;
  }
  if (error_ == 0 || error_ == EPIPE) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("cannot write the output: ", std::system_category().message(error_)));
}

std::string UtcText(int64_t unix_ms) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::FromUnixMillis(unix_ms),
                          absl::UTCTimeZone());
}

void PrintError(std::string_view message) {
  std::string line(message);
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::fputs(absl::StrCat("store-inspect: ", line, "\n").c_str(), stderr);
}

}  // namespace cairn::inspect
