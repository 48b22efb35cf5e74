// PATH/superblock and block 0 of data files (io/superblock.h).

#include "io/superblock.h"
#include "src/base/check.h"
#include "tests/fuzz/repair.h"
#include "tests/fuzz/target.h"

namespace cairn::fuzz {
namespace {

bool IsRefusal(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsFailedPrecondition(status);
}

// What is accepted has one spelling: the format's reserved bytes are zero and must be found so.
bool Decodes(std::string_view bytes) {
  const absl::StatusOr<Superblock> superblock = DecodeSuperblock(bytes);
  const absl::StatusOr<DataFileHeader> header = DecodeDataFileHeader(bytes);
  CAIRN_CHECK(superblock.ok() || IsRefusal(superblock.status()));
  CAIRN_CHECK(header.ok() || IsRefusal(header.status()));
  CAIRN_CHECK(!superblock.ok() || !header.ok());
  if (superblock.ok()) {
    CAIRN_CHECK(EncodeSuperblock(*superblock) == bytes.substr(0, kBlockBytes));
    CAIRN_CHECK(superblock->data_file_bytes % kBlockBytes == 0);
    // A place on L3 is one number of 64 bits.
    CAIRN_CHECK(superblock->data_file_bytes <= (uint64_t{1} << 62) / superblock->file_count);
  }
  if (header.ok()) {
    CAIRN_CHECK(EncodeDataFileHeader(*header) == bytes.substr(0, kBlockBytes));
    CAIRN_CHECK(header->bytes % kBlockBytes == 0 && header->bytes <= header->data_file_bytes);
  }
  return superblock.ok() || header.ok();
}

}  // namespace

bool Examine(std::string_view input) {
  const bool as_it_is = Decodes(input);
  std::string repaired(input.substr(0, kBlockBytes));
  repaired.resize(kBlockBytes);
  PutSum("", repaired);
  return Decodes(repaired) || as_it_is;
}

std::vector<std::string> Seeds() {
  StoreUuid uuid = {};
  uuid.fill(0xa5);
  const std::vector<std::string> blocks = {
      EncodeSuperblock({.uuid = uuid, .data_file_bytes = kDataFileBytesMin, .file_count = 1}),
      EncodeSuperblock({.uuid = uuid, .data_file_bytes = uint64_t{1} << 30, .file_count = 4096}),
      EncodeSuperblock({.uuid = uuid,
                        .data_file_bytes = uint64_t{1} << 28,
                        .file_count = 64,
                        .data_paths = {"/nvme0", "/nvme1/kv"}}),
      EncodeSuperblock({.uuid = uuid,
                        .data_file_bytes = uint64_t{1} << 28,
                        .file_count = 64,
                        .data_paths = {"/nvme0", "/nvme1/kv"},
                        .data_weights = {kDataWeightMax, 1}}),
      EncodeDataFileHeader({.uuid = uuid,
                            .data_file_bytes = kDataFileBytesMin,
                            .bytes = kDataFileBytesMin,
                            .number = 0}),
      EncodeDataFileHeader({.uuid = uuid,
                            .data_file_bytes = uint64_t{1} << 30,
                            .bytes = uint64_t{3} << 20,
                            .number = 4095}),
  };
  std::vector<std::string> seeds = {blocks.front()};
  for (const std::string& block : blocks) seeds.push_back(WithoutPadding(block));
  return seeds;
}

}  // namespace cairn::fuzz
