#pragma once

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "io/ring.h"
#include "io/ring_io.h"
#include "tests/io_fixture.h"

namespace cairn {

// A ring over a file in memory, which answers as a script says. The script and all else belong to
// the ring's thread from Open to Close.
class ScriptedRing final : public Ring {
 public:
  struct Script {
    // What Open answers; by default, OK.
    std::function<absl::Status(const Setup&)> open = nullptr;
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

  absl::Status Open(const Setup& setup) override {
    setup_ = setup;
    return script_.open ? script_.open(setup) : absl::OkStatus();
  }
  void Close() override {}
  uint32_t depth() const override { return std::min(setup_.depth, script_.depth); }

  int MakeFileTable(uint32_t) override { return -EINVAL; }
  int MakeBufferTable(uint32_t) override { return -EINVAL; }
  int SetFile(uint32_t, int) override { return -EINVAL; }
  int SetBuffer(uint32_t, const iovec&) override { return -EINVAL; }

  std::optional<uint32_t> Prepare(const Request& request) override {
    if (!has_room()) return std::nullopt;
    EXPECT_FALSE(setup_.polls_completions && request.kind == IoOp::Kind::kSync);
    prepared_.push_back(request);
    return sequence_++;
  }
  bool PrepareWake() override {
    EXPECT_FALSE(setup_.polls_completions);
    Request wake;
    wake.name = kWakeName;
    return Prepare(wake).has_value();
  }
  bool has_room() const override { return prepared_.size() < script_.entries; }
  uint32_t taken() override { return sequence_ - static_cast<uint32_t>(prepared_.size()); }

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
    EXPECT_FALSE(setup_.polls_completions);
    if (const int error = Submit(); error < 0) return error;
    pollfd wake = {.fd = setup_.wake_fd, .events = POLLIN, .revents = 0};
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
  Setup setup_;
  uint32_t sequence_ = ~uint32_t{0} - 20;  // About to wrap.
  bool wake_armed_ = false;
  std::deque<Request> prepared_;
  std::vector<Request> held_;
  std::vector<Completion> completions_;
};

class RingIoTest : public ::testing::Test {
 protected:
  static constexpr size_t kBlock = kTestBlockBytes;
  static constexpr size_t kFileBytes = 64 * kBlock;

  void Open(ScriptedRing::Script script, TemporaryFile::Mode mode = TemporaryFile::Mode::kDirect) {
    Open(std::move(script), std::nullopt, mode);
  }

  // With a second ring, whose completions are polled for.
  void Open(ScriptedRing::Script script, std::optional<ScriptedRing::Script> polled,
            TemporaryFile::Mode mode = TemporaryFile::Mode::kDirect) {
    temporary_ = std::make_unique<TemporaryFile>(mode, 0);
    options_.log = [this](std::string_view line) { lines_.emplace_back(line); };
    std::unique_ptr<Ring> polled_ring;
    if (polled.has_value()) polled_ring = std::make_unique<ScriptedRing>(*polled, file_);
    auto io = RingIo::Open(options_, std::make_unique<ScriptedRing>(std::move(script), file_),
                           std::move(polled_ring));
    ASSERT_TRUE(io.ok()) << io.status();
    io_ = *std::move(io);
    // Of tables, which are not what is tested.
    std::erase_if(lines_, [](const std::string& line) {
      return line.find("without registered files") != line.npos ||
             line.find("without fixed buffers") != line.npos;
    });
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
        const size_t offset = index * 4 * kTestBlockBytes;
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

}  // namespace cairn
