// What the store's own code copies and maps. Between NVMe, L2, a GPU and a caller's memory it is
// devices that move a tensor's bytes: the processor reads them for their sums and copies none. And
// on the way of every call nobody maps memory, nor asks a driver for it.

#include <gtest/gtest.h>

#include <cinttypes>
#include <cstdio>
#include <deque>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/call_counts.h"
#include "tests/l1_fixture.h"

namespace cairn {
namespace {

// The first two share their write with others.
constexpr uint64_t kSizes[] = {4 * kKiB, 60 * kKiB, 64 * kKiB, kMiB, 3 * kMiB + 4 * kKiB};

// The mapping that the byte lies in: all of L2's arena, which no other is joined with.
absl::Span<const std::byte> MappingOf(const void* byte) {
  const auto address = reinterpret_cast<uintptr_t>(byte);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin = 0;
    uintptr_t end = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR, &begin, &end) != 2) continue;
    if (address >= begin && address < end) {
      return {static_cast<const std::byte*>(byte) - (address - begin), end - begin};
    }
  }
  return {};
}

class CountedTest : public L1Test {
 protected:
  CountedTest() { options_.heed_memory_pressure = false; }
  ~CountedTest() override {
    store_.reset();
    ForgetWatched();
  }

  void OpenWatched() {
    OpenL1();
    ASSERT_NE(store_, nullptr);
    ASSERT_TRUE(Put("first", kMiB).ok());
    const absl::StatusOr<TensorHandle> first = store_->Get("first", {});
    ASSERT_TRUE(first.ok()) << first.status();
    const absl::Span<const std::byte> arena = MappingOf(first->view().data);
    ASSERT_GE(arena.size(), options_.l2_bytes_max);
    ASSERT_FALSE(device_->arena.empty());
    WatchCopies(arena, WatchedMemory::kTensors);
    WatchCopies(device_->arena, WatchedMemory::kDevice);
  }
  // Memory of a caller's.
  absl::Span<std::byte> NewMemory(uint64_t bytes) {
    memory_.emplace_back(bytes);
    WatchCopies(memory_.back().span(), WatchedMemory::kTensors);
    return memory_.back().span();
  }

  std::deque<AlignedBuffer> memory_;
};

// Expects, from here to its end, so many bytes copied by the processor and so many by the device.
class ExpectCopies {
 public:
  ExpectCopies(std::string what, uint64_t by_processor, uint64_t by_device)
      : what_(std::move(what)), by_processor_(by_processor), by_device_(by_device) {}
  ~ExpectCopies() {
    EXPECT_EQ(CopiedBytes(WatchedMemory::kTensors) - processor_before_, by_processor_) << what_;
    // The copies of a GPU are no calls.
    EXPECT_EQ(CopiedBytes(WatchedMemory::kDevice) - device_before_, TestsGpu() ? 0 : by_device_)
        << what_;
  }
  ExpectCopies(const ExpectCopies&) = delete;
  ExpectCopies& operator=(const ExpectCopies&) = delete;

 private:
  const std::string what_;
  const uint64_t by_processor_;
  const uint64_t by_device_;
  const uint64_t processor_before_ = CopiedBytes(WatchedMemory::kTensors);
  const uint64_t device_before_ = CopiedBytes(WatchedMemory::kDevice);
};

class StoreCopiesTest : public CountedTest, public ::testing::WithParamInterface<IoEngineKind> {
 protected:
  void SetUp() override {
    if (GetParam() != IoEngineKind::kAuto) options_.io_engine = GetParam();
    options_.unusable_share_max = 1;  // Nothing is moved within L2.
    OpenWatched();
  }

  static std::string Key(uint64_t size) { return absl::StrCat("of ", size); }
  // On L3 and nowhere else.
  void PutOnL3() {
    for (const uint64_t size : kSizes) ASSERT_TRUE(Put(Key(size), size).ok()) << size;
    ASSERT_TRUE(store_->Flush().ok());
    for (const uint64_t size : kSizes) {
      ASSERT_TRUE(store_->Evict(Key(size), Level::kL3Nvme).ok()) << size;
      ASSERT_FALSE(IsInL2(Key(size)));
    }
  }
};

// What the other tests rest on.
TEST_P(StoreCopiesTest, CopiesAreSeen) {
  PutOnL3();
  const uint64_t size = kMiB;
  const TensorHandle handle = *store_->Get(Key(size), {});
  const auto* const data = reinterpret_cast<const char*>(handle.view().data);
  {
    const ExpectCopies expected("a string, by a library", size, 0);
    EXPECT_EQ(std::string(data, size).size(), size);
  }
  {
    const ExpectCopies expected("a vector, by memmove", size, 0);
    EXPECT_EQ(std::vector<char>(data, data + size).size(), size);
  }
  std::vector<std::byte> target(size);
  {
    const ExpectCopies expected("the store, out of L2", size, 0);
    EXPECT_TRUE(handle.CopyTo(absl::MakeSpan(target)).ok());
  }
  const TensorHandle in_l1 = *GetInL1(Key(size));
  const ExpectCopies expected("the device", 0, size);
  EXPECT_TRUE(in_l1.CopyTo(absl::MakeSpan(target)).ok());
}

TEST_P(StoreCopiesTest, APutIsCopiedOnceIntoL2AndNotOnItsWayDown) {
  for (const uint64_t size : kSizes) {
    const std::vector<std::byte> content = ContentOf(Key(size), size);
    const ExpectCopies expected(Key(size), size, 0);
    ASSERT_TRUE(store_->Put(Key(size), ViewOf(content), {}).ok());
    ASSERT_TRUE(store_->Flush().ok());
  }
}

TEST_P(StoreCopiesTest, FromL3ToTheGpu) {
  PutOnL3();
  for (const uint64_t size : kSizes) {
    TensorHandle handle;
    {
      const ExpectCopies expected(Key(size), 0, size);
      handle = *GetInL1(Key(size));
    }
    EXPECT_EQ(handle.found_at(), Level::kL3Nvme);
    EXPECT_TRUE(Matches(handle, Key(size), size)) << size;
  }
}

TEST_P(StoreCopiesTest, FromL3ToL2) {
  PutOnL3();
  for (const uint64_t size : kSizes) {
    TensorHandle handle;
    {
      const ExpectCopies expected(Key(size), 0, 0);
      handle = *store_->Get(Key(size), {});
    }
    EXPECT_EQ(handle.found_at(), Level::kL3Nvme);
    EXPECT_TRUE(Matches(handle, Key(size), size)) << size;
  }
}

TEST_P(StoreCopiesTest, FromL3ToL2AheadOfTime) {
  PutOnL3();
  {
    const ExpectCopies expected("hints", 0, 0);
    for (const uint64_t size : kSizes) {
      const std::string key = Key(size);
      ASSERT_TRUE(store_->WillNeed({key}, {}).ok());
      while (!IsInL2(key)) SleepFor(std::chrono::milliseconds(1));
    }
  }
  for (const uint64_t size : kSizes) Expect(Key(size), size);
}

TEST_P(StoreCopiesTest, BetweenTheCallersMemoryAndL3) {
  for (const uint64_t size : kSizes) {
    const absl::Span<std::byte> source = NewMemory(size);
    const absl::Span<std::byte> target = NewMemory(size);
    const std::vector<std::byte> content = ContentOf(Key(size), size);
    std::memcpy(source.data(), content.data(), size);
    const ConstPiece from = {source.data(), size};
    const Piece to = {target.data(), size};
    {
      const ExpectCopies expected(Key(size), 0, 0);
      ASSERT_TRUE(
          store_
              ->PutFrom({{.key = Key(size), .meta = TensorMeta::Bytes(size), .pieces = {&from, 1}}},
                        {})[0]
              .ok());
      ASSERT_TRUE(store_->GetInto({{.key = Key(size), .pieces = {&to, 1}}}, {})[0].ok());
    }
    EXPECT_EQ(std::memcmp(target.data(), content.data(), size), 0) << size;
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, StoreCopiesTest,
                         ::testing::Values(IoEngineKind::kAuto, IoEngineKind::kPosix),
                         [](const auto& tested) {
                           return tested.param == IoEngineKind::kAuto ? "Default" : "Posix";
                         });

class StoreMappingsTest : public CountedTest, public ::testing::WithParamInterface<AllocatorKind> {
 protected:
  static constexpr int kKeys = 240;

  StoreMappingsTest() {
    options_.l2_allocator = GetParam();
    options_.l2_bytes_max = 8 * kMiB;
    options_.l3_bytes_max = StoreOptions::kL3BytesMin;
  }

  static uint64_t SizeOf(int key) { return (4 + 36 * (static_cast<uint64_t>(key) % 12)) * kKiB; }

  // Puts, and gets of what is in memory and what is not; each tier is too small for them all, so
  // that room is given back and used again.
  void PutAndGetAll() {
    for (int i = 0; i < kKeys; ++i) {
      const std::string key = absl::StrCat("k", i);
      ASSERT_TRUE(Put(key, SizeOf(i)).ok()) << i;
      Expect(key, SizeOf(i));
      ASSERT_TRUE(GetInL1(key).ok()) << i;
      // Gone, by now, from the tiers above, or from all.
      const absl::Status old = GetStatus(absl::StrCat("k", (i + kKeys / 4 * 3) % kKeys));
      ASSERT_TRUE(old.ok() || absl::IsNotFound(old)) << old;
    }
  }
};

TEST_P(StoreMappingsTest, NothingIsMappedOnceAllTiersAreFull) {
  OpenWatched();
  PutAndGetAll();
  const StatsSnapshot before = store_->Stats();
  const uint64_t mappings = MappingCalls();
  const int setups = device_->setups;
  EXPECT_GT(mappings, 0u);
  EXPECT_GT(setups, 0);
  for (int round = 0; round < 3; ++round) PutAndGetAll();
  EXPECT_EQ(MappingCalls(), mappings);
  EXPECT_EQ(device_->setups, setups);
  const StatsSnapshot after = store_->Stats();
  EXPECT_GT(after.l1.evictions, before.l1.evictions);
  EXPECT_GT(after.l2.evictions, before.l2.evictions);
  EXPECT_GT(after.l3.evictions, before.l3.evictions);
  EXPECT_GT(after.fills, before.fills);
}

INSTANTIATE_TEST_SUITE_P(Allocators, StoreMappingsTest,
                         ::testing::Values(AllocatorKind::kHybrid, AllocatorKind::kBuddy,
                                           AllocatorKind::kBestFit),
                         [](const auto& tested) {
                           return tested.param == AllocatorKind::kHybrid  ? "Hybrid"
                                  : tested.param == AllocatorKind::kBuddy ? "Buddy"
                                                                          : "BestFit";
                         });

}  // namespace
}  // namespace cairn
