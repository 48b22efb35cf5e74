// How long Open takes and how much memory it leaves taken, by the number of tensors in the index:
//
//   open_bench DIRECTORY TENSORS
//
// Makes a store of so many tensors of 4 KiB in DIRECTORY, which must not exist, opens it and
// removes it. Only the index is written: an Open looks at nothing else. The data files give their
// blocks back, so that ten million tensors need 3 GiB of disk and not 44. Heap is what the
// allocator has handed out, with its own overhead, RocksDB's share included.

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "bench/peers/usage.h"
#include "cairn/store.h"
#include "io/index.h"
#include "io/pack.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

constexpr uint64_t kTensorBytes = 4096;
constexpr uint64_t kKeyBytes = 32;
constexpr uint64_t kPackMembers = 250;
constexpr uint64_t kFileBytes = uint64_t{1} << 28;
constexpr uint64_t kEvictionBytes = 18;  // Of each, beside the index (DESIGN.md).
constexpr uint64_t kTensorsMax = 100'000'000;

double Seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

uint64_t HeapBytes() {
  const struct mallinfo2 heap = mallinfo2();
  return heap.uordblks + heap.hblkhd;
}

// As keys that are hashes are: in an order that has nothing to do with that of the writes.
std::string KeyOf(uint64_t number) {
  std::string key(kKeyBytes, '\0');
  uint64_t state = number;
  for (uint64_t i = 0; i < kKeyBytes; i += 8) {
    state += 0x9e3779b97f4a7c15;
    uint64_t word = state;
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
    word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
    word ^= word >> 31;
    std::memcpy(&key[i], &word, 8);
  }
  return key;
}

uint64_t TableBytes() { return PackTableBytes(0, kPackMembers * PackMemberBytes(kKeyBytes, 1)); }
uint64_t PackBytes() { return kPackMembers * kTensorBytes + TableBytes(); }
// A file that ended the store while it was smaller may be a little shorter than the others.
uint64_t PacksPerFile() { return (kFileBytes - (uint64_t{8} << 20)) / PackBytes(); }

StoreOptions OptionsFor(const std::string& path, uint64_t files, uint64_t tensors) {
  StoreOptions options;
  options.path = path;
  options.l2_bytes_max = StoreOptions::kL2BytesMin;
  // Measured is the store, not how it spares the drive.
  options.l3_write_bytes_per_day = StoreOptions::kL3WritesUnlimited;
  options.data_file_bytes = kFileBytes;
  options.l3_index_bytes_max =
      std::max(StoreOptions::kIndexBytesMin,
               tensors * (IndexFootprintBytes(kKeyBytes, 1) + kEvictionBytes) / 7 * 8);
  options.l3_bytes_max = options.l3_index_bytes_max + (files + 1) * kFileBytes;
  // A store whose index has more than half of it is refused.
  options.l3_bytes_max = std::max(options.l3_bytes_max, 2 * options.l3_index_bytes_max);
  return options;
}

absl::Status GiveBlocksBack(const std::string& path) {
  for (const auto& file : std::filesystem::recursive_directory_iterator(path)) {
    if (!file.is_regular_file() || file.file_size() < kFileBytes / 2) continue;
    const int fd = open(file.path().c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return absl::ErrnoToStatus(errno, file.path().string());
    const int refused = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kTensorBytes,
                                  static_cast<off_t>(file.file_size() - kTensorBytes));
    close(fd);
    if (refused != 0) return absl::ErrnoToStatus(errno, file.path().string());
  }
  return absl::OkStatus();
}

// Some files at a time: the blocks are taken before they are given back.
absl::Status MakeFiles(const std::string& path, uint64_t tensors) {
  const uint64_t packs = (tensors + kPackMembers - 1) / kPackMembers;
  const uint64_t files_wanted = (packs + PacksPerFile() - 1) / PacksPerFile();
  for (uint64_t files = 0; files < files_wanted;) {
    files = std::min(files + 16, files_wanted);
    CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store,
                           Store::Open(OptionsFor(path, files, tensors)));
    CAIRN_RETURN_IF_ERROR(store->Close());
    CAIRN_RETURN_IF_ERROR(GiveBlocksBack(path));
  }
  return absl::OkStatus();
}

IndexRecord RecordOf(uint64_t number) {
  const uint64_t pack = number / kPackMembers;
  const uint64_t start =
      pack / PacksPerFile() * kFileBytes + kTensorBytes + pack % PacksPerFile() * PackBytes();
  IndexRecord record;
  record.sequence = number + 1;
  record.offset = start + number % kPackMembers * kTensorBytes;
  record.pack_offset = start + kPackMembers * kTensorBytes;
  record.header_bytes = static_cast<uint32_t>(TableBytes());
  record.payload_bytes = kTensorBytes;
  record.checksum = number;
  record.meta = TensorMeta::Bytes(kTensorBytes);
  return record;
}

RocksDbIndexOptions IndexOptionsFor(const std::string& path, uint64_t tensors) {
  return {.path = path + "/index", .bytes_max = OptionsFor(path, 1, tensors).l3_index_bytes_max};
}

absl::Status FillIndex(const std::string& path, uint64_t tensors) {
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Index> index,
                         OpenRocksDbIndex(IndexOptionsFor(path, tensors)));
  CAIRN_ASSIGN_OR_RETURN(const uint32_t fingerprint_id, index->FingerprintId(""));
  for (uint64_t number = 0; number < tensors;) {
    std::vector<std::string> keys;
    std::vector<IndexEdit> edits;
    keys.reserve(kPackMembers);
    for (uint64_t i = 0; i < kPackMembers && number < tensors; ++i, ++number) {
      keys.push_back(KeyOf(number));
      edits.push_back({.key = {fingerprint_id, keys.back()}, .record = RecordOf(number)});
    }
    CAIRN_RETURN_IF_ERROR(index->Commit(edits, /*sync=*/false));
  }
  return index->Sync();
}

// What of an Open is RocksDB's and the decoding's: the index alone, opened and read.
absl::Status MeasureIndex(const std::string& path, uint64_t tensors) {
  const auto start = std::chrono::steady_clock::now();
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Index> index,
                         OpenRocksDbIndex(IndexOptionsFor(path, tensors)));
  const auto opened = std::chrono::steady_clock::now();
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(
      index->ForEach({.record = [&count](IndexKey, const IndexRecord&) { return ++count > 0; },
                      .damaged = [](std::string_view, const absl::Status&) { return false; }}));
  const auto read = std::chrono::steady_clock::now();
  if (count != tensors) return absl::InternalError(absl::StrCat("the index has ", count));
  std::printf("index alone: open %.3f s, read %.3f s\n", Seconds(opened - start),
              Seconds(read - opened));
  return absl::OkStatus();
}

absl::Status MeasureOpen(const std::string& path, uint64_t tensors) {
  const uint64_t packs = (tensors + kPackMembers - 1) / kPackMembers;
  const StoreOptions options =
      OptionsFor(path, (packs + PacksPerFile() - 1) / PacksPerFile(), tensors);
  const uint64_t heap_before = HeapBytes();
  // Of this thread: without what RocksDB compacts meanwhile, and what others do with the cores.
  const double cpu_start = peers::ThreadCpuSeconds();
  const auto start = std::chrono::steady_clock::now();
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, Store::Open(options));
  const double seconds = Seconds(std::chrono::steady_clock::now() - start);
  const double cpu_seconds = peers::ThreadCpuSeconds() - cpu_start;
  const double heap = static_cast<double>(HeapBytes() - heap_before);
  if (store->Stats().recovered_tensors != tensors) {
    return absl::InternalError(
        absl::StrCat(store->Stats().recovered_tensors, " of ", tensors, " tensors came back"));
  }
  const double count = static_cast<double>(tensors);
  std::printf(
      "%llu tensors: open %.3f s, of CPU %.3f s, %.0f ns a tensor; heap %.1f bytes a tensor, "
      "%.1f of them beside the key\n",
      static_cast<unsigned long long>(tensors), seconds, cpu_seconds, seconds * 1e9 / count,
      heap / count, heap / count - static_cast<double>(kKeyBytes));
  const auto closing = std::chrono::steady_clock::now();
  CAIRN_RETURN_IF_ERROR(store->Close());
  std::printf("close %.3f s\n", Seconds(std::chrono::steady_clock::now() - closing));
  return absl::OkStatus();
}

absl::Status Run(const std::string& path, uint64_t tensors) {
  if (std::filesystem::exists(path)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is there already"));
  }
  CAIRN_RETURN_IF_ERROR(MakeFiles(path, tensors));
  CAIRN_RETURN_IF_ERROR(FillIndex(path, tensors));
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  for (int i = 0; i < 3; ++i) {
    CAIRN_RETURN_IF_ERROR(MeasureIndex(path, tensors));
    CAIRN_RETURN_IF_ERROR(MeasureOpen(path, tensors));
  }
  std::filesystem::remove_all(path);
  return absl::OkStatus();
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  uint64_t tensors = 0;
  if (argc != 3 || !absl::SimpleAtoi(argv[2], &tensors) || tensors == 0 ||
      tensors > cairn::kTensorsMax) {
    std::fprintf(stderr, "usage: open_bench DIRECTORY TENSORS\n");
    return 2;
  }
  const absl::Status status = cairn::Run(argv[1], tensors);
  if (status.ok()) return 0;
  std::fprintf(stderr, "open_bench: %s\n", status.ToString().c_str());
  return 1;
}
