#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "io/async_io.h"

namespace cairn {

// The engines behind AsyncIo::Open, which has checked the options. kUnavailable: the kernel
// refuses; the message says which call, why that may be, and what would allow it.
absl::StatusOr<std::unique_ptr<AsyncIo>> OpenUringIo(const AsyncIo::Options& options);
absl::StatusOr<std::unique_ptr<AsyncIo>> OpenPosixIo(const AsyncIo::Options& options);

}  // namespace cairn
