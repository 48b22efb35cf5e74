#pragma once

#include <pthread.h>

#include <cstddef>
#include <latch>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace cairn {

// Starts `body` on `thread`, named for ps and debuggers (at most 15 characters). The one place
// where the standard library throws at us: kResourceExhausted when the system has no thread left.
template <typename Body>
absl::Status StartThread(std::jthread& thread, const char* name, Body body) {
  try {
    thread = std::jthread(std::move(body));
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot start thread ", name, ": ", error.what(), " (see ulimit -u and the pids limit)"));
  }
  pthread_setname_np(thread.native_handle(), name);
  return absl::OkStatus();
}

// Whether the system has so many threads left, by having them all at once: to be asked before a
// library begins that ends the process when it cannot start one.
inline absl::Status CheckThreadsLeft(size_t count) {
  std::latch checked(1);
  absl::Status status;
  std::vector<std::jthread> threads(count);
  for (std::jthread& thread : threads) {
    status = StartThread(thread, "cairn-check", [&checked] { checked.wait(); });
    if (!status.ok()) break;
  }
  checked.count_down();
  return status;
}

}  // namespace cairn
