#include "io/superblock.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/checksum.h"
#include "io/little_endian.h"
#include "src/base/check.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

constexpr std::string_view kSuperblockMagic = "CAIRNSUP";
constexpr std::string_view kDataFileMagic = "CAIRNDAT";
constexpr uint64_t kDataFileBytesMax = uint64_t{1} << 40;
constexpr uint32_t kFileCountMax = uint32_t{1} << 20;

FieldWriter BeginBlock(std::string_view magic, uint32_t version, const StoreUuid& uuid,
                       std::string& block) {
  block.assign(kBlockBytes, '\0');
  FieldWriter writer(block.data(), block.size());
  writer.Bytes(magic);
  writer.U32(version);
  writer.U32(0);
  writer.Bytes({reinterpret_cast<const char*>(uuid.data()), uuid.size()});
  return writer;
}

void EndBlock(FieldWriter& writer) {
  writer.Zeros(kBlockBytes - kStructureSumBytes - writer.position());
  writer.U64(StructureChecksum(writer.written()));
}

// Checks what both kinds of blocks share, up to and with the UUID; the reader is left behind it.
absl::StatusOr<FieldReader> OpenBlock(std::string_view what, std::string_view magic,
                                      uint32_t version_max, std::string_view bytes, StoreUuid& uuid,
                                      uint32_t& version) {
  if (bytes.size() < kBlockBytes) {
    return absl::DataLossError(absl::StrCat(ToAbsl(what), " is cut off"));
  }
  bytes = bytes.substr(0, kBlockBytes);
  if (bytes.substr(0, magic.size()) != magic) {
    return absl::DataLossError(absl::StrCat(ToAbsl(what), " is damaged, or not one of a store"));
  }
  FieldReader reader(bytes.substr(magic.size()));
  version = reader.U32();
  // Before the checksum: where that is may change with the version.
  if (version < kFormatVersion || version > version_max) {
    return absl::FailedPreconditionError(
        absl::StrCat(ToAbsl(what), " has format version ", version, ", this build reads ",
                     kFormatVersion, version_max > kFormatVersion ? " to " : "",
                     version_max > kFormatVersion ? absl::StrCat(version_max) : ""));
  }
  const std::string_view body = bytes.substr(0, kBlockBytes - kStructureSumBytes);
  if (FieldReader(bytes.substr(body.size())).U64() != StructureChecksum(body)) {
    return absl::DataLossError(
        absl::StrCat(ToAbsl(what), " is damaged: the checksum does not match"));
  }
  reader = FieldReader(body.substr(magic.size() + 4));
  if (!reader.Zeros(4)) {
    return absl::DataLossError(
        absl::StrCat(ToAbsl(what), " is damaged: reserved bytes are not zero"));
  }
  const std::string_view uuid_bytes = reader.Bytes(uuid.size());
  std::copy(uuid_bytes.begin(), uuid_bytes.end(), uuid.begin());
  return reader;
}

bool ValidDataFileBytes(uint64_t bytes) {
  return bytes % kBlockBytes == 0 && bytes >= kDataFileBytesMin && bytes <= kDataFileBytesMax;
}

// False: what cannot be the paths of a store, or their weights.
bool ReadDataPaths(FieldReader& reader, bool weighted, Superblock& superblock) {
  const uint32_t count = reader.U32();
  if (weighted && count == 0) return false;
  for (uint32_t left = count; left > 0; --left) {
    const uint32_t size = reader.U16();
    const uint32_t weight = reader.U16();
    if (weighted ? weight == 0 || weight > kDataWeightMax : weight != 0) return false;
    if (weighted) superblock.data_weights.push_back(weight);
    const std::string_view path = reader.Bytes(size);
    if (!path.starts_with('/') || path.find('\0') != std::string_view::npos) return false;
    superblock.data_paths.emplace_back(path);
  }
  return true;
}

}  // namespace

std::string EncodeSuperblock(const Superblock& superblock) {
  std::string block;
  const bool weighted = !superblock.data_weights.empty();
  CAIRN_CHECK(!weighted || superblock.data_weights.size() == superblock.data_paths.size());
  FieldWriter writer = BeginBlock(
      kSuperblockMagic, weighted ? kWeightedFormatVersion : kFormatVersion, superblock.uuid, block);
  writer.U64(superblock.data_file_bytes);
  writer.U32(superblock.file_count);
  writer.U32(static_cast<uint32_t>(superblock.data_paths.size()));
  for (size_t i = 0; i < superblock.data_paths.size(); ++i) {
    writer.U16(static_cast<uint16_t>(superblock.data_paths[i].size()));
    writer.U16(weighted ? static_cast<uint16_t>(superblock.data_weights[i]) : uint16_t{0});
    writer.Bytes(superblock.data_paths[i]);
  }
  EndBlock(writer);
  return block;
}

std::string EncodeDataFileHeader(const DataFileHeader& header) {
  std::string block;
  FieldWriter writer = BeginBlock(kDataFileMagic, kFormatVersion, header.uuid, block);
  writer.U64(header.data_file_bytes);
  writer.U64(header.bytes);
  writer.U32(header.number);
  EndBlock(writer);
  return block;
}

absl::StatusOr<Superblock> DecodeSuperblock(std::string_view bytes) {
  Superblock superblock;
  uint32_t version = 0;
  absl::StatusOr<FieldReader> reader = OpenBlock(
      "the superblock", kSuperblockMagic, kWeightedFormatVersion, bytes, superblock.uuid, version);
  if (!reader.ok()) return reader.status();
  superblock.data_file_bytes = reader->U64();
  superblock.file_count = reader->U32();
  if (!ValidDataFileBytes(superblock.data_file_bytes) || superblock.file_count == 0 ||
      superblock.file_count > kFileCountMax) {
    return absl::DataLossError("the superblock is damaged: it has impossible sizes");
  }
  if (!ReadDataPaths(*reader, version == kWeightedFormatVersion, superblock) ||
      !reader->Zeros(reader->left())) {
    return absl::DataLossError("the superblock is damaged: its data paths are none");
  }
  return superblock;
}

absl::StatusOr<DataFileHeader> DecodeDataFileHeader(std::string_view bytes) {
  DataFileHeader header;
  uint32_t version = 0;
  absl::StatusOr<FieldReader> reader = OpenBlock("the data file's header", kDataFileMagic,
                                                 kFormatVersion, bytes, header.uuid, version);
  if (!reader.ok()) return reader.status();
  header.data_file_bytes = reader->U64();
  header.bytes = reader->U64();
  header.number = reader->U32();
  if (!ValidDataFileBytes(header.data_file_bytes) || !ValidDataFileBytes(header.bytes) ||
      header.bytes > header.data_file_bytes || header.number >= kFileCountMax ||
      !reader->Zeros(reader->left())) {
    return absl::DataLossError("the data file's header is damaged: it has impossible sizes");
  }
  return header;
}

std::string UuidText(const StoreUuid& uuid) {
  std::string text;
  for (size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text.push_back('-');
    absl::StrAppendFormat(&text, "%02x", uuid[i]);
  }
  return text;
}

}  // namespace cairn
