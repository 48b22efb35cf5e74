#include "io/ring_io.h"

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "io/ring.h"
#include "tests/io_fixture.h"

namespace cairn {
namespace {

constexpr size_t kBlock = kTestBlockBytes;
constexpr size_t kFileBytes = 64 * kBlock;

// A ring over a file in memory, which answers as a script says. The script and all else belong to
// the ring's thread from Open to Close.
class ScriptedRing final : public Ring {
 public:
  struct Script {
    uint32_t depth = 8;
    uint32_t entries = 64;  // Of the submission ring, the wake request included.
    // The result for a request that would transfer so many bytes; by default, these.
    std::function<int(const Request&, int bytes)> result = nullptr;
    std::function<int()> submit = nullptr;  // Not 0: what Submit returns, and nothing is taken.
    int repeats = 1;                        // How often each completion appears.
    // Writes end no sooner than this says, and then with the next request that is submitted.
    std::function<bool()> writes_may_end = nullptr;
  };

  ScriptedRing(Script script, std::vector<std::byte>& file)
      : script_(std::move(script)), file_(file) {}

  absl::Status Open(uint32_t depth_wanted, int wake_fd) override {
    wake_fd_ = wake_fd;
    depth_ = std::min(depth_wanted, script_.depth);
    return absl::OkStatus();
  }
  void Close() override {}
  uint32_t depth() const override { return depth_; }

  int MakeFileTable(uint32_t) override { return -EINVAL; }
  int MakeBufferTable(uint32_t) override { return -EINVAL; }
  int SetFile(uint32_t, int) override { return -EINVAL; }
  int SetBuffer(uint32_t, const iovec&) override { return -EINVAL; }

  std::optional<uint32_t> Prepare(const Request& request) override {
    if (!has_room()) return std::nullopt;
    prepared_.push_back(request);
    return sequence_++;
  }
  bool PrepareWake() override {
    Request wake;
    wake.name = kWakeName;
    return Prepare(wake).has_value();
  }
  bool has_room() const override { return prepared_.size() < script_.entries; }
  uint32_t taken() const override { return sequence_ - static_cast<uint32_t>(prepared_.size()); }

  int Submit() override {
    const int error = script_.submit ? script_.submit() : 0;
    if (error < 0) return error;
    for (const Request& request : prepared_) {
      if (request.name == kWakeName) {
        wake_armed_ = true;
      } else if (script_.writes_may_end && request.kind == IoOp::Kind::kWrite) {
        held_.push_back(request);
      } else {
        Complete({.name = request.name, .result = CarryOut(request)});
      }
    }
    prepared_.clear();
    if (held_.empty() || !script_.writes_may_end()) return 0;
    for (const Request& request : std::exchange(held_, {})) {
      Complete({.name = request.name, .result = CarryOut(request)});
    }
    return 0;
  }
  int SubmitAndWait(int64_t timeout_us) override {
    if (const int error = Submit(); error < 0) return error;
    pollfd wake = {.fd = wake_fd_, .events = POLLIN, .revents = 0};
    const int timeout_ms = timeout_us < 0 ? -1 : static_cast<int>(timeout_us / 1000 + 1);
    if (poll(&wake, 1, completions_.empty() ? timeout_ms : 0) > 0 && wake_armed_) {
      wake_armed_ = false;
      completions_.push_back({.name = kWakeName, .result = POLLIN});
    }
    return 0;
  }
  void Reap(std::vector<Completion>& completions) override {
    completions.insert(completions.end(), completions_.begin(), completions_.end());
    completions_.clear();
  }

 private:
  int CarryOut(const Request& request) {
    size_t bytes = 0;
    for (const iovec& piece : request.pieces) bytes += piece.iov_len;
    bytes = std::min(bytes, file_.size() - std::min(file_.size(), request.offset));
    const int size = static_cast<int>(bytes);
    const int result = script_.result ? script_.result(request, size) : size;
    size_t left = static_cast<size_t>(std::clamp(result, 0, size));
    std::byte* place = file_.data() + request.offset;
    for (const iovec& piece : request.pieces) {
      const size_t moved = std::min(left, piece.iov_len);
      const bool is_read = request.kind == IoOp::Kind::kRead;
      std::memcpy(is_read ? piece.iov_base : place, is_read ? place : piece.iov_base, moved);
      place += moved;
      left -= moved;
    }
    return result;
  }
  void Complete(Completion completion) {
    for (int repeat = 0; repeat < script_.repeats; ++repeat) completions_.push_back(completion);
  }

  const Script script_;
  std::vector<std::byte>& file_;
  int wake_fd_ = -1;
  uint32_t depth_ = 0;
  uint32_t sequence_ = ~uint32_t{0} - 20;  // About to wrap.
  bool wake_armed_ = false;
  std::deque<Request> prepared_;
  std::vector<Request> held_;
  std::vector<Completion> completions_;
};

class RingIoTest : public ::testing::Test {
 protected:
  void Open(ScriptedRing::Script script, TemporaryFile::Mode mode = TemporaryFile::Mode::kDirect) {
    temporary_ = std::make_unique<TemporaryFile>(mode, 0);
    options_.log = [this](std::string_view line) { lines_.emplace_back(line); };
    auto io = RingIo::Open(options_, std::make_unique<ScriptedRing>(std::move(script), file_));
    ASSERT_TRUE(io.ok()) << io.status();
    io_ = *std::move(io);
    EXPECT_EQ(lines_.size(), 2u);  // No tables.
    lines_.clear();
    ASSERT_EQ(*io_->AddFile(temporary_->fd()), 0);
    FillPattern(source_.span(), 1);
  }

  // Writes and reads the file in ops of four blocks, in two pieces each, all at once.
  void WriteAndReadBack() {
    for (const auto kind : {IoOp::Kind::kWrite, IoOp::Kind::kRead}) {
      AlignedBuffer& memory = kind == IoOp::Kind::kWrite ? source_ : target_;
      TestOp ops[16];
      std::vector<IoOp*> batch;
      for (size_t index = 0; index < 16; ++index) {
        const size_t offset = index * 4 * kBlock;
        ops[index].Set(kind, 0, offset, {});
        ops[index].pieces = {IovecOf(memory.span(offset, kBlock)),
                             IovecOf(memory.span(offset + kBlock, 3 * kBlock))};
        batch.push_back(&ops[index]);
      }
      io_->Submit(batch);
      io_->Drain();
      for (TestOp& op : ops) {
        EXPECT_EQ(op.done_count(), 1);
        EXPECT_TRUE(op.Wait().ok()) << op.Wait();
      }
    }
    EXPECT_TRUE(target_.span() == source_.span());
    EXPECT_TRUE(std::equal(file_.begin(), file_.end(), source_.data()));
    EXPECT_EQ(io_->stats().bytes_read, kFileBytes);
    EXPECT_EQ(io_->stats().bytes_written, kFileBytes);
  }

  std::vector<std::byte> file_ = std::vector<std::byte>(kFileBytes);
  AlignedBuffer source_{kFileBytes};
  AlignedBuffer target_{kFileBytes};
  AsyncIo::Options options_;
  std::vector<std::string> lines_;
  std::unique_ptr<TemporaryFile> temporary_;
  std::unique_ptr<AsyncIo> io_;
};

TEST_F(RingIoTest, Transfers) {
  Open({});
  WriteAndReadBack();
  EXPECT_EQ(io_->stats().retries, 0u);
}

TEST_F(RingIoTest, WorksWithARingOfTwoEntriesAndOneOp) {
  Open({.depth = 1, .entries = 2});
  WriteAndReadBack();
}

TEST_F(RingIoTest, WorksWhereTheRingHasFewerEntriesThanOps) {
  Open({.depth = 8, .entries = 2});
  WriteAndReadBack();
}

TEST_F(RingIoTest, GoesOnAfterShortTransfers) {
  const auto random = std::make_shared<std::mt19937>(1);
  const auto result = [random](const Ring::Request&, int bytes) {
    return 1 + static_cast<int>((*random)() % static_cast<unsigned>(bytes));
  };
  Open({.entries = 4, .result = result}, TemporaryFile::Mode::kBuffered);
  WriteAndReadBack();
  EXPECT_GT(io_->stats().retries, 0u);
}

// Writes and prefetches have what they may have of the device, and wait for more: that holds up no
// demand read, and no prefetch that is waited for now.
TEST_F(RingIoTest, DemandReadsPassWhatWaitsWhileTheRingSleeps) {
  options_.bytes_in_flight_max = 2 * kBlock;
  std::atomic<bool> writes_may_end = false;
  Open({.writes_may_end = [&writes_may_end] { return writes_may_end.load(); }});
  TestOp writes[2];
  for (uint64_t index = 0; index < 2; ++index) {
    writes[index].Set(IoOp::Kind::kWrite, 0, index * kBlock, source_.span(index * kBlock, kBlock));
    writes[index].priority = IoPriority::kWrite;
    SubmitOne(*io_, writes[index]);
  }
  TestOp prefetch(IoOp::Kind::kRead, 0, 0, target_.span(0, kBlock));
  prefetch.priority = IoPriority::kPrefetch;
  SubmitOne(*io_, prefetch);
  for (size_t index = 1; index < 5; ++index) {
    TestOp read(IoOp::Kind::kRead, 0, index * kBlock, target_.span(index * kBlock, kBlock));
    SubmitOne(*io_, read);
    EXPECT_TRUE(read.Wait().ok());
  }
  EXPECT_EQ(prefetch.done_count(), 0);
  prefetch.Raise();
  io_->RegardRaised();
  EXPECT_TRUE(prefetch.Wait().ok());
  EXPECT_EQ(writes[0].done_count(), 0);
  writes_may_end = true;
  TestOp last(IoOp::Kind::kRead, 0, 0, target_.span(0, kBlock));
  SubmitOne(*io_, last);
  for (TestOp& write : writes) EXPECT_TRUE(write.Wait().ok());
  EXPECT_TRUE(last.Wait().ok());
}

// Less than a block twice in a row would look like the end of the file.
TEST_F(RingIoTest, GoesOnAfterShortTransfersOfADirectFile) {
  const auto random = std::make_shared<std::mt19937>(2);
  Open({.result = [random](const Ring::Request&, int bytes) {
    const int least = std::min<int>(bytes, kBlock);
    return least + static_cast<int>((*random)() % static_cast<unsigned>(bytes - least + 1));
  }});
  WriteAndReadBack();
  EXPECT_GT(io_->stats().retries, 0u);
}

TEST_F(RingIoTest, AsksABusyKernelAgain) {
  const auto random = std::make_shared<std::mt19937>(3);
  Open({.result = [random](const Ring::Request&, int bytes) {
    constexpr int kErrors[] = {-EAGAIN, -EINTR, -EBUSY, -ENOMEM};
    const unsigned draw = static_cast<unsigned>((*random)() % 8);
    return draw < 4 ? kErrors[draw] : bytes;
  }});
  WriteAndReadBack();
  EXPECT_GT(io_->stats().retries, 0u);
}

TEST_F(RingIoTest, SubmitsAgainWhatWasNotTaken) {
  const auto random = std::make_shared<std::mt19937>(4);
  Open({.submit = [random] {
    constexpr int kErrors[] = {-EAGAIN, -EINTR, -EBUSY};
    const unsigned draw = static_cast<unsigned>((*random)() % 6);
    return draw < 3 ? kErrors[draw] : 0;
  }});
  WriteAndReadBack();
}

TEST_F(RingIoTest, IgnoresCompletionsItDoesNotWaitFor) {
  Open({.repeats = 3});
  WriteAndReadBack();
  EXPECT_EQ(io_->stats().unknown_completions, 2 * 32u);
}

TEST_F(RingIoTest, MoreBytesThanAskedForIsUnavailable) {
  Open({.result = [](const Ring::Request&, int bytes) { return bytes + 1; }});
  EXPECT_TRUE(absl::IsUnavailable(ReadFile(*io_, 0, 0, target_.span(0, kBlock))));
}

TEST_F(RingIoTest, AnErrorAmongManyHarmsNoOther) {
  Open({.result = [](const Ring::Request& request, int bytes) {
    return request.offset == 5 * kBlock ? -EIO : bytes;
  }});
  TestOp ops[64];
  std::vector<IoOp*> batch;
  for (size_t index = 0; index < 64; ++index) {
    ops[index].Set(IoOp::Kind::kRead, 0, index * kBlock, target_.span(index * kBlock, kBlock));
    batch.push_back(&ops[index]);
  }
  io_->Submit(batch);
  for (size_t index = 0; index < 64; ++index) {
    const absl::Status status = ops[index].Wait();
    EXPECT_EQ(status.code(), index == 5 ? absl::StatusCode::kDataLoss : absl::StatusCode::kOk);
  }
}

TEST_F(RingIoTest, FailsWhatARingThatBreaksHasNotTaken) {
  const auto submits = std::make_shared<int>(0);
  Open({.submit = [submits] { return ++*submits > 4 ? -EPERM : 0; }});
  std::vector<absl::StatusCode> codes;
  codes.reserve(8);
  for (int op = 0; op < 8; ++op) {
    codes.push_back(ReadFile(*io_, 0, 0, target_.span(0, kBlock)).code());
  }
  // All that came before the breakdown, none after.
  EXPECT_TRUE(std::is_sorted(codes.begin(), codes.end()));
  EXPECT_EQ(codes.back(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(lines_.size(), 1u);
  EXPECT_THAT(lines_[0], ::testing::HasSubstr("every I/O fails from here on: io_uring_enter"));
  EXPECT_TRUE(io_->AddFile(temporary_->fd()).ok());
  io_.reset();
}

}  // namespace
}  // namespace cairn
