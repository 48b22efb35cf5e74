#include "src/eviction_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/little_endian.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

constexpr std::string_view kMagic = "CAIRNEVI";
constexpr uint32_t kVersion = 2;
constexpr size_t kFileHeadBytes = 40;
constexpr size_t kWriteBytes = size_t{512} << 10;
constexpr size_t kEvictionFileBytesMax = size_t{1} << 31;

}  // namespace

EvictionFile::EvictionFile(Options options)
    : options_(std::move(options)), path_(absl::StrCat(options_.directory, "/", kName)) {}

EvictionFile::~EvictionFile() { Stop(); }

std::string EvictionFile::Head() const {
  std::string head(kFileHeadBytes, '\0');
  FieldWriter writer(head.data(), head.size());
  writer.Bytes(kMagic);
  writer.U32(kVersion);
  writer.U32(static_cast<uint32_t>(options_.kind));
  writer.Bytes({reinterpret_cast<const char*>(options_.uuid.data()), options_.uuid.size()});
  writer.U64(StructureChecksum(writer.written()));
  return head;
}

absl::Status EvictionFile::Read(absl::FunctionRef<void(const SnapshotPiece&)> visit) const {
  CAIRN_ASSIGN_OR_RETURN(const std::string bytes, ReadStart(path_, kEvictionFileBytesMax));
  if (bytes.size() < kFileHeadBytes) {
    return absl::DataLossError(absl::StrCat(path_, " has no more than ", bytes.size(), " bytes"));
  }
  const std::string_view head = std::string_view(bytes).substr(0, kFileHeadBytes);
  if (head != Head()) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, " is of another store, policy or version"));
  }
  return DecodePieces(std::string_view(bytes).substr(kFileHeadBytes), visit);
}

absl::Status EvictionFile::Start() {
  return saver_.Start("cairn-eviction", UntilNext(), [this] {
    Save();
    return UntilNext();
  });
}

void EvictionFile::Stop() {
  if (saver_.Stop()) Save();
}

std::chrono::milliseconds EvictionFile::UntilNext() const {
  const std::chrono::milliseconds spared(saved_bytes_ * 1000 / kBytesPerSecondMax);
  return std::max(options_.save_every, spared);
}

void EvictionFile::Save() {
  const uint64_t changes = options_.tier->changes();
  if (changes == saved_changes_) return;
  const absl::StatusOr<uint64_t> bytes = Write();
  if (bytes.ok()) {
    saved_changes_ = changes;
    saved_bytes_ = *bytes;
  }
  const std::string failure(bytes.status().message());
  if (!failure.empty() && failure != failure_logged_) {
    options_.log(absl::StrCat("the order of eviction is not kept over restarts: ", failure));
  }
  failure_logged_ = failure;
}

// Beside the last, which stays until this one is on the device.
absl::StatusOr<uint64_t> EvictionFile::Write() const {
  const std::string beside = path_ + ".new";
  CAIRN_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(beside, O_WRONLY | O_CREAT | O_TRUNC));
  std::string bytes = Head();
  uint64_t written = 0;
  const auto write = [&] {
    const absl::Status status = WriteAt(file.get(), written, bytes, beside);
    written += bytes.size();
    bytes.clear();
    return status;
  };
  const uint64_t words_max = options_.index_bytes_max / (2 * kIndexShare) / sizeof(uint64_t);
  SnapshotReader reader = options_.tier->BeginSnapshot(words_max);
  SnapshotPiece piece;
  uint32_t pieces = 0;
  absl::Status status;
  while (status.ok() && options_.tier->NextPiece(reader, &piece)) {
    AppendPiece(piece, bytes);
    ++pieces;
    if (bytes.size() >= kWriteBytes) status = write();
  }
  AppendEnd(pieces, bytes);
  if (status.ok()) status = write();
  if (status.ok()) status = SyncFile(file.get(), beside);
  if (status.ok() && std::rename(beside.c_str(), path_.c_str()) != 0) {
    status = ErrnoStatus(errno, "replacing", path_);
  }
  if (status.ok()) return written;
  unlink(beside.c_str());
  return status;
}

}  // namespace cairn
