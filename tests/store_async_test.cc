// The asynchronous verbs, and those on the caller's own memory.

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <latch>

#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;
using StoreAsyncTest = StoreTest;

TEST_F(StoreAsyncTest, PrefetchBringsToL2) {
  Open();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Put("k" + std::to_string(i), kMiB).ok());
  Reopen();
  EXPECT_EQ(store_->Prefetch({"k0", "k1", "none", "k2"}, {}), 3u);
  for (int i = 0; i < 3; ++i) Expect("k" + std::to_string(i), kMiB);
  EXPECT_EQ(store_->Stats().fills, 3u);
  EXPECT_EQ(store_->Prefetch({"k0"}, {}), 0u);
  EXPECT_EQ(store_->Stats().prefetches, 3u);
}

TEST_F(StoreAsyncTest, GetAsyncCallsBackOnce) {
  Open();
  ASSERT_TRUE(Put("k", kMiB).ok());
  Reopen();
  std::latch done(3);
  std::atomic<int> found = 0;
  for (const char* key : {"k", "k", "none"}) {
    ASSERT_TRUE(store_
                    ->GetAsync(key, {},
                               [&](absl::StatusOr<TensorHandle> handle) {
                                 if (handle.ok() && handle->view().size == kMiB) ++found;
                                 done.count_down();
                               })
                    .ok());
  }
  done.wait();
  EXPECT_EQ(found, 2);
  EXPECT_EQ(store_->Stats().fills, 1u);
}

TEST_F(StoreAsyncTest, AnEventFdAskedForLateSaysWhatIsThere) {
  Open();
  ASSERT_TRUE(Put("k", kMiB).ok());
  auto queue = CompletionQueue::Create(4);
  ASSERT_TRUE(queue.ok());
  Completion done[1];
  ASSERT_TRUE(store_->GetAsync({"k", "k"}, {}, **queue, 1).ok());
  ASSERT_EQ((*queue)->Wait(absl::MakeSpan(done), absl::Seconds(30)), 1u);
  pollfd poll_fd = {.fd = (*queue)->event_fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&poll_fd, 1, 30000), 1);
  ASSERT_EQ((*queue)->Drain(absl::MakeSpan(done)), 1u);
  EXPECT_EQ(poll(&poll_fd, 1, 0), 0);
}

TEST_F(StoreAsyncTest, CompletionQueueSignalsAndBounds) {
  Open();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Put("k" + std::to_string(i), kMiB).ok());
  Reopen();
  auto queue = CompletionQueue::Create(4);
  ASSERT_TRUE(queue.ok());
  ASSERT_TRUE(store_->GetAsync({"k0", "k1", "k2", "none"}, {}, **queue, 10).ok());
  ExpectStatus(store_->GetAsync({"k3"}, {}, **queue, 99), StatusCode::kResourceExhausted,
               "completion queue is full");
  std::vector<bool> seen(4);
  size_t count = 0;
  while (count < 4) {
    pollfd poll_fd = {.fd = (*queue)->event_fd(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&poll_fd, 1, 30000), 1);
    Completion done[2];
    const size_t drained = (*queue)->Drain(absl::MakeSpan(done));
    for (size_t i = 0; i < drained; ++i) {
      ASSERT_GE(done[i].tag, 10u);
      ASSERT_LT(done[i].tag, 14u);
      seen[done[i].tag - 10] = true;
      EXPECT_EQ(done[i].status.ok(), done[i].tag != 13) << done[i].status;
      EXPECT_EQ(done[i].handle.valid(), done[i].tag != 13);
    }
    count += drained;
  }
  EXPECT_EQ((*queue)->outstanding(), 0u);
  EXPECT_EQ(seen, std::vector<bool>(4, true));
  pollfd poll_fd = {.fd = (*queue)->event_fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&poll_fd, 1, 0), 0);
  Completion none;
  EXPECT_EQ((*queue)->Wait({&none, 1}, absl::Milliseconds(1)), 0u);
}

// ---- The caller's own memory ----

class BorrowedMemoryTest : public StoreTest {
 protected:
  static AlignedBuffer& Filled(AlignedBuffer& buffer, std::string_view key, uint64_t size,
                               uint64_t shift = 0) {
    const std::vector<std::byte> content = ContentOf(key, size);
    std::memcpy(buffer.data() + shift, content.data(), size);
    return buffer;
  }
  void ExpectBytes(const std::byte* data, std::string_view key, uint64_t size) {
    EXPECT_EQ(std::memcmp(data, ContentOf(key, size).data(), size), 0) << key;
  }
};

TEST_F(BorrowedMemoryTest, AlignedPiecesGoStraightBothWays) {
  Open();
  constexpr uint64_t kSize = 2 * kMiB + 64 * kKiB;
  AlignedBuffer buffer(kSize);
  Filled(buffer, "k", kSize);
  // One slice a layer, as hosts have them.
  std::vector<ConstPiece> slices;
  for (uint64_t offset = 0; offset < kSize; offset += 64 * kKiB) {
    slices.push_back({buffer.data() + offset, 64 * kKiB});
  }
  const TensorMeta meta = TensorMeta::Of(DType::kBf16, {33, 32 * 1024});
  ASSERT_TRUE(store_->PutFrom({{.key = "k", .meta = meta, .pieces = slices}}, {})[0].ok());
  EXPECT_TRUE(store_->Describe("k")->in_l3);
  EXPECT_FALSE(store_->Describe("k")->in_l2);
  AlignedBuffer target(kSize);
  const std::vector<Piece> pieces = {{target.data() + 4096, kSize - 4096}, {target.data(), 4096}};
  ASSERT_TRUE(store_->GetInto({{.key = "k", .pieces = pieces}}, {})[0].ok());
  const std::vector<std::byte> content = ContentOf("k", kSize);
  EXPECT_EQ(std::memcmp(target.data() + 4096, content.data(), kSize - 4096), 0);
  EXPECT_EQ(std::memcmp(target.data(), content.data() + kSize - 4096, 4096), 0);
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.l2.bytes_written, 0u) << "went through L2";
  EXPECT_EQ(stats.l2.bytes_used, 0u);
  EXPECT_EQ(stats.l3.hits, 1u);
}

TEST_F(BorrowedMemoryTest, OddPiecesGoThroughL2) {
  Open();
  constexpr uint64_t kSize = 100001;
  AlignedBuffer buffer(104 * kKiB);
  Filled(buffer, "k", kSize, /*shift=*/3);
  const std::vector<ConstPiece> pieces = {{buffer.data() + 3, 1001},
                                          {buffer.data() + 1004, kSize - 1001}};
  ASSERT_TRUE(
      store_->PutFrom({{.key = "k", .meta = TensorMeta::Bytes(kSize), .pieces = pieces}}, {})[0]
          .ok());
  Reopen();
  AlignedBuffer target(104 * kKiB);
  const Piece piece = {target.data() + 1, kSize};
  ASSERT_TRUE(store_->GetInto({{.key = "k", .pieces = {&piece, 1}}}, {})[0].ok());
  ExpectBytes(target.data() + 1, "k", kSize);
}

TEST_F(BorrowedMemoryTest, EachRequestOfABatchHasItsOwnEnd) {
  Open();
  AlignedBuffer buffer(64 * kKiB);
  Filled(buffer, "good", 64 * kKiB);
  const ConstPiece whole = {buffer.data(), 64 * kKiB};
  const TensorMeta meta = TensorMeta::Bytes(64 * kKiB);
  const std::string long_key(256, 'k');
  const std::vector<absl::Status> put =
      store_->PutFrom({{.key = "good", .meta = meta, .pieces = {&whole, 1}},
                       {.key = "short", .meta = TensorMeta::Bytes(1), .pieces = {&whole, 1}},
                       {.key = long_key, .meta = meta, .pieces = {&whole, 1}}},
                      {});
  EXPECT_TRUE(put[0].ok()) << put[0];
  ExpectStatus(put[1], StatusCode::kInvalidArgument, "short: the view has 65536 bytes");
  ExpectStatus(put[2], StatusCode::kInvalidArgument, "256 bytes");
  AlignedBuffer target(64 * kKiB);
  const Piece all = {target.data(), 64 * kKiB};
  const Piece half = {target.data(), 32 * kKiB};
  const Piece nothing = {nullptr, 4096};
  const std::vector<absl::Status> got = store_->GetInto({{.key = "none", .pieces = {&all, 1}},
                                                         {.key = "good", .pieces = {&half, 1}},
                                                         {.key = "good", .pieces = {&nothing, 1}},
                                                         {.key = "good", .pieces = {&all, 1}}},
                                                        {});
  ExpectStatus(got[0], StatusCode::kNotFound, "none");
  ExpectStatus(got[1], StatusCode::kInvalidArgument, "has 65536 bytes and the pieces take 32768");
  ExpectStatus(got[2], StatusCode::kInvalidArgument, "empty");
  EXPECT_TRUE(got[3].ok()) << got[3];
  ExpectBytes(target.data(), "good", 64 * kKiB);
}

TEST_F(BorrowedMemoryTest, AsynchronousBatchesEndInTheQueue) {
  Open();
  constexpr uint64_t kSize = 256 * kKiB;
  constexpr int kCount = 40;
  AlignedBuffer buffer(kCount * kSize);
  const bool registered = store_->RegisterMemory({buffer.data(), buffer.size()}).ok();
  auto queue = CompletionQueue::Create(kCount);
  std::vector<std::string> keys;
  std::vector<ConstPiece> sources;
  std::vector<Piece> targets;
  for (int i = 0; i < kCount; ++i) {
    keys.push_back("k" + std::to_string(i));
    std::byte* const data = buffer.data() + static_cast<uint64_t>(i) * kSize;
    const std::vector<std::byte> content = ContentOf(keys.back(), kSize);
    std::memcpy(data, content.data(), kSize);
    // Every fifth is not as the device takes it.
    const uint64_t odd = i % 5 == 0 ? 1 : 0;
    sources.push_back({data, kSize - odd});
    targets.push_back({data, kSize - odd});
  }
  std::vector<PutRequest> puts;
  std::vector<GetRequest> gets;
  for (int i = 0; i < kCount; ++i) {
    puts.push_back({.key = keys[i],
                    .meta = TensorMeta::Bytes(sources[i].size),
                    .pieces = {&sources[i], 1},
                    .tag = static_cast<uint64_t>(i)});
    gets.push_back({.key = keys[i], .pieces = {&targets[i], 1}, .tag = static_cast<uint64_t>(i)});
  }
  const auto drain = [&] {
    std::vector<bool> seen(kCount);
    for (int left = kCount; left > 0; --left) {
      Completion completion;
      ASSERT_EQ((*queue)->Wait({&completion, 1}, absl::Seconds(60)), 1u);
      EXPECT_TRUE(completion.status.ok()) << completion.status;
      seen[completion.tag] = true;
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), true), kCount);
  };
  ASSERT_TRUE(store_->PutFrom(puts, {}, **queue).ok());
  ExpectStatus(store_->GetInto(gets, {}, **queue), StatusCode::kResourceExhausted, "queue is full");
  drain();
  std::memset(buffer.data(), 0, buffer.size());
  ASSERT_TRUE(store_->GetInto(gets, {}, **queue).ok());
  drain();
  for (int i = 0; i < kCount; ++i) {
    const std::vector<std::byte> content = ContentOf(keys[i], kSize);
    EXPECT_EQ(std::memcmp(targets[i].data, content.data(), targets[i].size), 0) << i;
  }
  if (registered) {
    EXPECT_TRUE(store_->UnregisterMemory({buffer.data(), buffer.size()}).ok());
  }
  ExpectStatus(store_->RegisterMemory({buffer.data() + 1, 4096}), StatusCode::kInvalidArgument,
               "aligned");
}

}  // namespace
}  // namespace cairn
