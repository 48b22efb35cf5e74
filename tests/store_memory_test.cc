// What a stored tensor takes of the heap, all of the store's own structures included: at most
// 128 bytes and its key. Counted by the allocator, with what it adds itself.

#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "io/index.h"
#include "io/pack.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

constexpr uint64_t kTensorBytes = 4 * kKiB;
constexpr uint64_t kKeyBytes = 32;
constexpr uint64_t kBytesMax = 128 + kKeyBytes;
constexpr uint64_t kPackMembers = 250;
constexpr uint64_t kDataFileBytes = 256 * kMiB;

std::string KeyOf(uint64_t number) { return absl::StrFormat("%0*d", kKeyBytes, number); }

int64_t HeapBytes() {
  const struct mallinfo2 heap = mallinfo2();
  return static_cast<int64_t>(heap.uordblks + heap.hblkhd);
}

// False under a sanitizer, whose allocator says nothing.
bool HeapIsCounted() {
  const int64_t before = HeapBytes();
  const std::vector<std::byte> block(kMiB);
  return HeapBytes() - before >= static_cast<int64_t>(block.size());
}

// Names so many tensors in packs and takes no memory for it; what is written to it is gone.
class MadeUpIndex final : public Index {
 public:
  explicit MadeUpIndex(uint64_t count) : count_(count) {}

  absl::StatusOr<IndexRecord> Find(IndexKey) const override {
    return absl::NotFoundError("not asked by a store");
  }
  absl::Status Commit(absl::Span<const IndexEdit>, bool) override { return absl::OkStatus(); }
  absl::Status ForEach(const Visitor& visitor) const override {
    for (uint64_t number = 0; number < count_; ++number) {
      if (!visitor.record({1, KeyOf(number)}, RecordOf(number))) break;
    }
    return absl::OkStatus();
  }
  absl::Status DeleteRaw(std::string_view) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<Fingerprint>> Fingerprints() const override {
    return std::vector<Fingerprint>{{1, ""}};
  }
  absl::StatusOr<uint32_t> FingerprintId(std::string_view) override { return 1; }
  absl::Status RestoreFingerprint(const Fingerprint&) override { return absl::OkStatus(); }
  absl::Status DropFingerprint(uint32_t) override { return absl::OkStatus(); }
  absl::Status Sync() override { return absl::OkStatus(); }
  absl::Status Reopen() override { return absl::OkStatus(); }

 private:
  static IndexRecord RecordOf(uint64_t number) {
    const uint64_t table_bytes = PackTableBytes(0, kPackMembers * PackMemberBytes(kKeyBytes, 1));
    const uint64_t pack_bytes = kPackMembers * kTensorBytes + table_bytes;
    const uint64_t pack = number / kPackMembers;
    const uint64_t packs_a_file = (kDataFileBytes - kTensorBytes) / pack_bytes;
    const uint64_t start =
        pack / packs_a_file * kDataFileBytes + kTensorBytes + pack % packs_a_file * pack_bytes;
    IndexRecord record;
    record.sequence = number * 7919 % 100'003 + 1;  // In another order than the keys.
    record.offset = start + number % kPackMembers * kTensorBytes;
    record.pack_offset = start + kPackMembers * kTensorBytes;
    record.header_bytes = static_cast<uint32_t>(table_bytes);
    record.payload_bytes = kTensorBytes;
    record.meta = TensorMeta::Of(DType::kFp32, {1, kTensorBytes / 4});
    return record;
  }

  const uint64_t count_;
};

class StoreMemoryTest : public StoreTest {
 protected:
  void SetUp() override {
    if (!HeapIsCounted()) GTEST_SKIP() << "this allocator does not say what is in use";
    options_.data_file_bytes = kDataFileBytes;
    options_.l3_bytes_max = 640 * kMiB;
    options_.l3_index_bytes_max = 64 * kMiB;
  }

  // What the store takes once it is open with so many tensors in its index.
  int64_t OpenedBytes(uint64_t tensors) {
    StoreSeams seams;
    seams.open_index = [tensors](const RocksDbIndexOptions&) {
      return std::make_unique<MadeUpIndex>(tensors);
    };
    const int64_t before = HeapBytes();
    Open(std::move(seams));
    if (store_ == nullptr) return 0;
    EXPECT_EQ(store_->Stats().recovered_tensors, tensors);
    return HeapBytes() - before;
  }

  void PutAll(uint64_t tensors) {
    constexpr uint64_t kBatch = 250;
    const std::unique_ptr<void, decltype(&std::free)> memory(
        std::aligned_alloc(kTensorBytes, kTensorBytes), &std::free);
    std::memset(memory.get(), 7, kTensorBytes);
    const ConstPiece piece = {static_cast<const std::byte*>(memory.get()), kTensorBytes};
    for (uint64_t number = 0; number < tensors; number += kBatch) {
      std::vector<std::string> keys;
      std::vector<PutRequest> requests;
      keys.reserve(kBatch);
      for (uint64_t i = 0; i < kBatch; ++i) {
        keys.push_back(KeyOf(number + i));
        requests.push_back(
            {.key = keys.back(), .meta = TensorMeta::Bytes(kTensorBytes), .pieces = {&piece, 1}});
      }
      for (const absl::Status& status : store_->PutFrom(requests, {})) {
        ASSERT_TRUE(status.ok()) << status;
      }
    }
  }
};

TEST_F(StoreMemoryTest, ATensorFoundAtOpenTakes128BytesAndItsKey) {
  constexpr uint64_t kTensors = 100'000;
  const int64_t empty = OpenedBytes(0);
  Close();
  const int64_t full = OpenedBytes(kTensors);
  const int64_t bytes = (full - empty) / static_cast<int64_t>(kTensors);
  RecordProperty("bytes_a_tensor", std::to_string(bytes));
  EXPECT_LE(bytes, kBytesMax);
  EXPECT_GT(bytes, kKeyBytes) << "not counted";
}

// Also when it was written by this process, and read: what moving took is given back.
TEST_F(StoreMemoryTest, ATensorThatWasPutAndReadTakesNoMore) {
  constexpr uint64_t kTensors = 30'000;
  constexpr uint64_t kRead = 3'000;
  OpenedBytes(0);
  PutAll(250);
  const int64_t before = HeapBytes();
  PutAll(kTensors);
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_EQ(store_->Stats().l3.tensors, kTensors);
  EXPECT_LE((HeapBytes() - before) / static_cast<int64_t>(kTensors), kBytesMax);
  const auto read = [this](uint64_t begin) {
    for (uint64_t number = begin; number < begin + kRead; ++number) {
      ASSERT_TRUE(store_->Get(KeyOf(number), {}).ok());
      ASSERT_TRUE(store_->Evict(KeyOf(number), Level::kL3Nvme).ok());
    }
  };
  // What L2's policy keeps of keys it has seen, which is bounded, has grown after this.
  read(kRead);
  const int64_t once = HeapBytes();
  read(0);
  EXPECT_LE((HeapBytes() - once) / static_cast<int64_t>(kRead), 16);
}

}  // namespace
}  // namespace cairn
