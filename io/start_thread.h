#pragma once

#include <pthread.h>

#include <system_error>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace cairn {

// Starts `body` on `thread`, named for ps and debuggers (at most 15 characters). The one place
// where the standard library throws at us: kUnavailable when the system has no thread left.
template <typename Body>
absl::Status StartThread(std::jthread& thread, const char* name, Body body) {
  try {
    thread = std::jthread(std::move(body));
  } catch (const std::system_error& error) {
    return absl::UnavailableError(absl::StrCat("cannot start a thread: ", error.what(),
                                               " (see ulimit -u and the pids limit)"));
  }
  pthread_setname_np(thread.native_handle(), name);
  return absl::OkStatus();
}

}  // namespace cairn
