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

// Why the kernel does not poll for requests (SQPOLL), and why not for the completions (IOPOLL) of a
// ring or of a request of it: "what: what happened: the likely cause; what to do".
std::string SubmissionPollingRefusal(int error);
std::string CompletionPollingRefusal(int error);

}  // namespace cairn
