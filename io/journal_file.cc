#include "io/journal_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/little_endian.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

constexpr std::string_view kJournalMagic = "CAIRNJNL";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeadBytes = 40;
constexpr size_t kFileBytesMax = size_t{1} << 30;
constexpr uint32_t kDecisionBits = 8;

std::string PathIn(const std::string& directory) {
  return absl::StrCat(directory, "/", kJournalName);
}

std::string Encode(const StoreUuid& uuid, absl::Span<const JournalRecord> records) {
  std::string bytes(JournalFileBytes(records.size()), '\0');
  FieldWriter writer(bytes.data(), bytes.size());
  writer.Bytes(kJournalMagic);
  writer.U32(kVersion);
  writer.U32(0);
  writer.Bytes({reinterpret_cast<const char*>(uuid.data()), uuid.size()});
  writer.U64(records.size());
  for (const JournalRecord& record : records) {
    writer.U64(record.key_hash);
    writer.U64(static_cast<uint64_t>(record.unix_ms) << kDecisionBits |
               static_cast<uint64_t>(record.decision));
    writer.U64(record.bytes);
  }
  writer.U64(StructureChecksum(writer.written()));
  return bytes;
}

}  // namespace

size_t JournalFileBytes(size_t records) {
  return kHeadBytes + records * kJournalRecordBytes + kStructureSumBytes;
}

size_t JournalRecordsWithin(uint64_t index_bytes_max) {
  return (index_bytes_max / 64 - JournalFileBytes(0)) / kJournalRecordBytes;
}

absl::Status WriteJournal(const std::string& directory, const StoreUuid& uuid,
                          absl::Span<const JournalRecord> records) {
  const std::string path = PathIn(directory);
  const std::string beside = path + ".new";
  CAIRN_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(beside, O_WRONLY | O_CREAT | O_TRUNC));
  absl::Status status = WriteAt(file.get(), 0, Encode(uuid, records), beside);
  if (status.ok() && std::rename(beside.c_str(), path.c_str()) != 0) {
    status = ErrnoStatus(errno, "replacing", path);
  }
  if (!status.ok()) unlink(beside.c_str());
  return status;
}

absl::StatusOr<std::vector<JournalRecord>> ReadJournal(const std::string& directory,
                                                       const StoreUuid& uuid) {
  const std::string path = PathIn(directory);
  CAIRN_ASSIGN_OR_RETURN(const std::string bytes, ReadStart(path, kFileBytesMax));
  const absl::Status damaged = absl::DataLossError(absl::StrCat(path, " does not verify"));
  if (bytes.size() < JournalFileBytes(0)) return damaged;
  const std::string_view body =
      std::string_view(bytes).substr(0, bytes.size() - kStructureSumBytes);
  FieldReader reader(bytes);
  const std::string_view magic = reader.Bytes(kJournalMagic.size());
  const uint32_t version = reader.U32();
  const uint32_t reserved = reader.U32();
  const std::string_view owner = reader.Bytes(uuid.size());
  const uint64_t count = reader.U64();
  if (magic != kJournalMagic || count > kFileBytesMax || bytes.size() != JournalFileBytes(count) ||
      StructureChecksum(body) != FieldReader(std::string_view(bytes).substr(body.size())).U64()) {
    return damaged;
  }
  if (version != kVersion || reserved != 0 ||
      owner != std::string_view(reinterpret_cast<const char*>(uuid.data()), uuid.size())) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is of another store or version, ", version));
  }
  std::vector<JournalRecord> records(count);
  for (JournalRecord& record : records) {
    record.key_hash = reader.U64();
    const uint64_t time_and_decision = reader.U64();
    record.bytes = reader.U64();
    const uint64_t decision = time_and_decision & ((1U << kDecisionBits) - 1);
    if (decision >= kDecisions) return damaged;
    record.decision = static_cast<Decision>(decision);
    record.unix_ms = static_cast<int64_t>(time_and_decision >> kDecisionBits);
  }
  return records;
}

}  // namespace cairn
