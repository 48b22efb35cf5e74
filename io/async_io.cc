#include "io/async_io.h"

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "io/io_engines.h"

namespace cairn {
namespace {

absl::Status CheckOptions(const AsyncIo::Options& options) {
  if (options.bytes_in_flight_max == 0) {
    return absl::InvalidArgumentError("AsyncIo: bytes_in_flight_max is 0");
  }
  if (options.depth_max == 0) return absl::InvalidArgumentError("AsyncIo: depth_max is 0");
  if (options.threads == 0) return absl::InvalidArgumentError("AsyncIo: threads is 0");
  if (options.files_max == 0) return absl::InvalidArgumentError("AsyncIo: files_max is 0");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<AsyncIo>> AsyncIo::Open(const Options& options) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  if (options.kind == IoEngineKind::kPosix) return OpenPosixIo(options);
  absl::StatusOr<std::unique_ptr<AsyncIo>> uring = OpenUringIo(options);
  if (uring.ok() || options.kind == IoEngineKind::kUring) return uring;
  if (options.log) {
    options.log(absl::StrCat("I/O by a pool of ", options.threads,
                             " threads instead of io_uring: ", uring.status().message()));
  }
  return OpenPosixIo(options);
}

}  // namespace cairn
