#include "tools/offload/progress.h"

#include <unistd.h>

#include <cstdio>
#include <string>

#include "absl/strings/str_format.h"

namespace cairn::offload {
namespace {

constexpr auto kBarPeriod = std::chrono::milliseconds(100);
constexpr size_t kBarWidth = 40;

void Write(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

Progress::Progress(uint64_t requests)
    : requests_(requests), terminal_(isatty(STDERR_FILENO) == 1), begin_(Clock::now()) {}

void Progress::RequestDone() {
  MutexLock lock(mutex_);
  ++done_;
  const Clock::time_point now = Clock::now();
  if (!terminal_) {
    PrintTenth(now);
  } else if (now - bar_drawn_at_ >= kBarPeriod || done_ == requests_) {
    DrawBar(now);
  }
}

void Progress::Line(std::string_view text) {
  MutexLock lock(mutex_);
  ClearBar();
  Write(absl::StrFormat("kv-offload: %s\n", text));
}

void Progress::End() {
  MutexLock lock(mutex_);
  ClearBar();
}

void Progress::DrawBar(Clock::time_point now) {
  const size_t filled = kBarWidth * done_ / requests_;
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  Write(absl::StrFormat("\r[%s%s] %3d %%  %d of %d requests  %.1f s\x1b[K",
                        std::string(filled, '#'), std::string(kBarWidth - filled, '.'),
                        100 * done_ / requests_, done_, requests_, seconds));
  bar_drawn_ = true;
  bar_drawn_at_ = now;
}

void Progress::ClearBar() {
  if (bar_drawn_) Write("\r\x1b[K");
  bar_drawn_ = false;
}

void Progress::PrintTenth(Clock::time_point now) {
  const uint64_t tenth = 10 * done_ / requests_;
  if (tenth == 10 * (done_ - 1) / requests_) return;
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  Write(absl::StrFormat("kv-offload: %3d %%  %d of %d requests  %.1f s\n", 10 * tenth, done_,
                        requests_, seconds));
}

}  // namespace cairn::offload
