// One file for each tensor, past the page cache.

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/peers/crew.h"
#include "bench/peers/peer_store.h"
#include "src/base/status_macros.h"

namespace cairn::peers {
namespace {

absl::Status Failed(const char* what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

class FilePeer final : public PeerStore {
 public:
  FilePeer(std::string directory, bool sync) : directory_(std::move(directory)), sync_(sync) {}

  absl::Status Put(absl::Span<const PutItem> batch) override {
    return crew_.ForEach(batch.size(), [this, batch](size_t i) { return PutOne(batch[i]); });
  }

  absl::Status Flush() override {
    const File directory(open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory.fd() < 0 || syncfs(directory.fd()) != 0) return Failed("syncfs", directory_);
    return absl::OkStatus();
  }

  absl::Status Get(absl::Span<const GetItem> batch) override {
    return crew_.ForEach(batch.size(), [this, batch](size_t i) { return GetOne(batch[i]); });
  }

  absl::Status Close() override { return absl::OkStatus(); }

 private:
  std::string PathOf(std::string_view key) const {
    std::string path = directory_;
    path.append("/").append(key.substr(key.rfind('/') + 1));
    return path;
  }

  absl::Status PutOne(const PutItem& item) {
    const std::string path = PathOf(item.key);
    const File file(open(path.c_str(), O_WRONLY | O_CREAT | O_DIRECT | O_CLOEXEC, 0600));
    if (file.fd() < 0) return Failed("open", path);
    for (size_t done = 0; done < item.bytes.size();) {
      const ssize_t count = pwrite(file.fd(), item.bytes.data() + done, item.bytes.size() - done,
                                   static_cast<off_t>(done));
      if (count <= 0) return Failed("write", path);
      done += static_cast<size_t>(count);
    }
    if (sync_ && fdatasync(file.fd()) != 0) return Failed("fdatasync", path);
    return absl::OkStatus();
  }

  absl::Status GetOne(const GetItem& item) {
    const std::string path = PathOf(item.key);
    const File file(open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (file.fd() < 0) return Failed("open", path);
    for (size_t done = 0; done < item.target.size();) {
      const ssize_t count = pread(file.fd(), item.target.data() + done, item.target.size() - done,
                                  static_cast<off_t>(done));
      if (count == 0) return absl::DataLossError(absl::StrCat(path, ": too short"));
      if (count < 0) return Failed("read", path);
      done += static_cast<size_t>(count);
    }
    return absl::OkStatus();
  }

  const std::string directory_;
  const bool sync_;
  Crew crew_{kPeerThreads};
};

PeerKind FileKind(const char* name, const char* what, bool sync) {
  const auto open =
      [sync](const PeerOptions& options) -> absl::StatusOr<std::unique_ptr<PeerStore>> {
    return std::make_unique<FilePeer>(options.directory, sync);
  };
  return {name, what, sync, open};
}

}  // namespace

std::vector<PeerKind> FileKinds() {
  return {FileKind("files", "a file each, `O_DIRECT`; 4 threads put and get; no checksums", false),
          FileKind("files-synced", "a file each, `O_DIRECT`, fdatasync; 4 threads; no checksums",
                   true)};
}

}  // namespace cairn::peers
