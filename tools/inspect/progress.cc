#include "tools/inspect/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_format.h"

namespace cairn::inspect {

Progress::Progress(uint64_t bytes_total)
    : terminal_(isatty(STDERR_FILENO) != 0), bytes_total_(bytes_total) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void Progress::Add(uint64_t bytes) {
  bytes_ += bytes;
  const Clock::time_point now = Clock::now();
  if (!terminal_ || now - drawn_at_ < std::chrono::milliseconds(200)) return;
  drawn_at_ = now;
  drawn_ = true;
  std::fputs(absl::StrFormat("\r\033[K%d %%  %.0f MiB/s",
                             bytes_total_ == 0 ? 100 : bytes_ * 100 / bytes_total_, MibPerSecond())
                 .c_str(),
             stderr);
}

double Progress::Seconds() const {
  return std::chrono::duration<double>(Clock::now() - begin_).count();
}

double Progress::MibPerSecond() const {
  return static_cast<double>(bytes_) / (1 << 20) / std::max(Seconds(), 1e-9);
}

}  // namespace cairn::inspect
