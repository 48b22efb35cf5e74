#include "io/io_refusal.h"

#include <sys/resource.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "src/base/strings.h"

namespace cairn {

std::string ErrnoText(int error) {
  return absl::StrCat(std::system_category().message(error), " (errno ", error, ")");
}

std::string MemlockAdvice() {
  rlimit limit = {};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  const std::string bytes =
      limit.rlim_cur == RLIM_INFINITY ? "unlimited" : FormatBytes(limit.rlim_cur);
  return absl::StrCat("RLIMIT_MEMLOCK is ", bytes,
                      "; raise it (ulimit -l unlimited, LimitMEMLOCK=infinity in a systemd unit, "
                      "docker run --ulimit memlock=-1)");
}

absl::Status UringRefused(const char* call, int error) {
  std::string cause = "unexpected";
  switch (error) {
    case EPERM:
    case EACCES:
      cause =
          "a seccomp filter (the default of Docker and containerd) or the sysctl "
          "kernel.io_uring_disabled forbids it; allow io_uring_setup, io_uring_enter and "
          "io_uring_register in the container's seccomp profile, and set "
          "kernel.io_uring_disabled=0";
      break;
    case ENOSYS:
      cause =
          "the kernel has no io_uring (Linux 5.6 is needed), or a sandbox hides it; allow "
          "io_uring_setup, io_uring_enter and io_uring_register there";
      break;
    case EINVAL:
    case EOPNOTSUPP:
      cause = "the kernel's io_uring is too old; Linux 5.6 is needed, 6.1 is best";
      break;
    case ENOMEM:
      cause = absl::StrCat("no memory left that may be locked: ", MemlockAdvice());
      break;
    case EMFILE:
    case ENFILE:
      cause = "no file descriptor is left; raise the limit (ulimit -n)";
      break;
    default:
      break;
  }
  return absl::UnavailableError(absl::StrCat(call, ": ", ErrnoText(error), ": ", cause));
}

std::string SubmissionPollingRefusal(int error) {
  const bool forbidden = error == EPERM || error == EACCES;
  return absl::StrCat(
      "no polling for requests (SQPOLL): ", ErrnoText(error), ": ",
      forbidden ? "a security module forbids it, or the kernel is older than Linux 5.11 and wants "
                  "CAP_SYS_ADMIN"
                : "Linux 5.11 is needed");
}

std::string CompletionPollingRefusal(int error) {
  return absl::StrCat(
      "no polling for completions (IOPOLL): ", ErrnoText(error),
      ": the drive has no queues for it (nvme.poll_queues=N on the kernel's command line; "
      "/sys/block/DEVICE/queue/io_poll tells), its file system cannot, or the kernel is too old");
}

}  // namespace cairn
