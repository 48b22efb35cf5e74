#include "io/data_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

absl::Status Bad(const std::string& path, std::string_view what) {
  return absl::DataLossError(absl::StrCat(path, ": ", ToAbsl(what)));
}

// Of ext4 with blocks of 4 KiB; smaller ones make more extents.
constexpr uint64_t kExtentsInInode = 4;
constexpr uint64_t kExtentBytesMax = uint64_t{128} << 20;
constexpr uint64_t kTailFrom = uint64_t{64} << 20;

// As many extents of one block as it takes besides the fewest that the file can have.
uint64_t TailBlocks(uint64_t file_bytes) {
  const uint64_t extents_min = (file_bytes + kExtentBytesMax - 1) / kExtentBytesMax;
  if (file_bytes < kTailFrom || extents_min > kExtentsInInode) return 0;
  return kExtentsInInode + 1 - extents_min;
}

// The store does as well without them, only slower at times.
void AllocateTail(int fd, uint64_t file_bytes) {
  struct statfs file_system;
  if (fstatfs(fd, &file_system) != 0 || file_system.f_type != EXT4_SUPER_MAGIC) return;
  for (uint64_t i = 0; i < TailBlocks(file_bytes); ++i) {
    const uint64_t offset = file_bytes + (2 * i + 1) * kBlockBytes;
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), kBlockBytes) != 0) return;
  }
}

}  // namespace

uint64_t DataFileTailBytes(uint64_t file_bytes) {
  const uint64_t blocks = TailBlocks(file_bytes);
  return blocks == 0 ? 0 : (blocks + 1) * kBlockBytes;  // With the one that has the extents.
}

std::string DataFilePath(const std::string& data_path, uint32_t number) {
  return absl::StrFormat("%s/%06d.data", data_path, number);
}

int64_t DataFileNumber(const std::string& name) {
  constexpr std::string_view kSuffix = ".data";
  if (name.size() < 6 + kSuffix.size()) return -1;
  const std::string digits = name.substr(0, name.size() - kSuffix.size());
  uint32_t number = 0;
  if (!absl::SimpleAtoi(digits, &number)) return -1;
  // Only the one spelling that DataFilePath has.
  return absl::StrFormat("%06d.data", number) == name ? int64_t{number} : -1;
}

absl::StatusOr<DataFile> OpenDataFile(const std::string& path, const DataFileHeader& expected,
                                      bool read_only) {
  absl::StatusOr<FileDescriptor> fd = OpenFile(path, read_only ? O_RDONLY : O_RDWR);
  if (absl::IsFailedPrecondition(fd.status())) return Bad(path, "not a regular file");
  if (!fd.ok()) return fd.status();
  std::string block(kBlockBytes, '\0');
  const absl::Status read =
      ReadAt(fd->get(), 0, {reinterpret_cast<std::byte*>(block.data()), block.size()});
  if (!read.ok()) return Bad(path, ToStd(read.message()));
  const absl::StatusOr<DataFileHeader> header = DecodeDataFileHeader(block);
  if (!header.ok()) return Bad(path, ToStd(header.status().message()));
  if (header->uuid != expected.uuid) return Bad(path, "of another store");
  if (header->number != expected.number || header->data_file_bytes != expected.data_file_bytes) {
    return Bad(path, absl::StrCat("is data file ", header->number, " of this store"));
  }
  struct stat file;
  if (fstat(fd->get(), &file) != 0) return ErrnoStatus(errno, "cannot look at", path);
  if (static_cast<uint64_t>(file.st_size) < header->bytes) {
    return Bad(path, absl::StrCat("truncated: ", file.st_size, " of ", header->bytes, " bytes"));
  }
  return DataFile{.fd = *std::move(fd), .bytes = header->bytes};
}

absl::Status FormatDataFile(int fd, const std::string& path, const DataFileHeader& header,
                            bool prewrite) {
  CAIRN_RETURN_IF_ERROR(AllocateFile(fd, header.bytes, path));
  AllocateTail(fd, header.bytes);
  if (prewrite) CAIRN_RETURN_IF_ERROR(WriteZeros(fd, header.bytes, path));
  CAIRN_RETURN_IF_ERROR(WriteAt(fd, 0, EncodeDataFileHeader(header), path));
  CAIRN_RETURN_IF_ERROR(SyncFile(fd, path));
  // Buffered pages must not stand beside direct I/O.
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  return absl::OkStatus();
}

absl::StatusOr<Leftover> ClassifyLeftover(const std::string& path, const StoreUuid& uuid) {
  absl::StatusOr<std::string> start = ReadStart(path, 2 * kBlockBytes);
  if (absl::IsFailedPrecondition(start.status())) return Leftover::kForeign;
  if (!start.ok()) return start.status();
  if (start->find_first_not_of('\0') == std::string::npos) return Leftover::kBlank;
  const absl::StatusOr<DataFileHeader> header = DecodeDataFileHeader(*start);
  if (!header.ok()) return Leftover::kForeign;
  if (header->uuid == uuid) return Leftover::kFilled;
  const std::string_view behind = std::string_view(*start).substr(kBlockBytes);
  return behind.find_first_not_of('\0') == std::string_view::npos ? Leftover::kBlank
                                                                  : Leftover::kForeign;
}

}  // namespace cairn
