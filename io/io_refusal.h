#pragma once

#include <string>

#include "absl/status/status.h"

namespace cairn {

// Text for operators: why the kernel refuses io_uring, and what would allow it.

// "Operation not permitted (errno 1)".
std::string ErrnoText(int error);

// The limit on locked memory as it is, and how to raise it.
std::string MemlockAdvice();

// kUnavailable: "CALL: what happened: the likely cause; what to do".
absl::Status UringRefused(const char* call, int error);

}  // namespace cairn
