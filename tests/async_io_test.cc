#include "io/async_io.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/async_io_concurrency_contract.h"
#include "tests/async_io_contract.h"
#include "tests/forbid_call.h"
#include "tests/io_fixture.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

struct Polling {
  absl::Duration submission = absl::ZeroDuration();
  bool completion = false;
};

// What of the polling is refused here the engine does without, and has to do as well.
AsyncIoParam Engine(std::string name, IoEngineKind kind, const Polling& polling = {}) {
  return {.name = std::move(name), .open = [kind, polling](AsyncIo::Options options) {
            options.kind = kind;
            options.submission_polling = polling.submission;
            options.completion_polling = polling.completion;
            return AsyncIo::Open(options);
          }};
}

INSTANTIATE_TEST_SUITE_P(
    Engines, AsyncIoContract,
    ::testing::Values(Engine("Uring", IoEngineKind::kUring),
                      // Short, so that the kernel's thread sleeps and is woken, too.
                      Engine("UringPollsSubmissions", IoEngineKind::kUring,
                             {.submission = absl::Milliseconds(1)}),
                      Engine("UringPollsCompletions", IoEngineKind::kUring, {.completion = true}),
                      Engine("UringPollsBoth", IoEngineKind::kUring,
                             {.submission = absl::Seconds(1), .completion = true}),
                      Engine("Posix", IoEngineKind::kPosix)),
    [](const auto& engine) { return engine.param.name; });

TEST(AsyncIoOpenTest, RefusesOptionsThatCannotWork) {
  EXPECT_TRUE(absl::IsInvalidArgument(AsyncIo::Open({.bytes_in_flight_max = 0}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(AsyncIo::Open({.depth_max = 0}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(AsyncIo::Open({.threads = 0}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(AsyncIo::Open({.files_max = 0}).status()));
}

TEST(AsyncIoOpenTest, WorksWithoutATableOfMemory) {
  const auto io = AsyncIo::Open({.memory_regions_max = 0});
  ASSERT_TRUE(io.ok()) << io.status();
  AlignedBuffer buffer(kTestBlockBytes);
  EXPECT_TRUE((*io)->RegisterMemory(buffer.span()).ok());
  EXPECT_TRUE((*io)->UnregisterMemory(buffer.span()).ok());
}

TEST(AsyncIoOpenTest, UringKeepsTheBooksOfRegisteredMemory) {
  const auto io = AsyncIo::Open({.kind = IoEngineKind::kUring, .memory_regions_max = 2});
  if (!io.ok()) GTEST_SKIP() << io.status().message();
  AlignedBuffer buffer(8 * kTestBlockBytes);
  const auto block = [&](size_t index) {
    return buffer.span(index * kTestBlockBytes, kTestBlockBytes);
  };
  const absl::Status first = (*io)->RegisterMemory(block(1));
  if (absl::IsUnavailable(first)) GTEST_SKIP() << first.message();
  EXPECT_TRUE(first.ok()) << first;
  EXPECT_TRUE(absl::IsInvalidArgument((*io)->RegisterMemory({})));
  EXPECT_TRUE(absl::IsInvalidArgument((*io)->RegisterMemory(buffer.span())));
  EXPECT_TRUE(absl::IsNotFound((*io)->UnregisterMemory(block(2))));
  EXPECT_TRUE((*io)->RegisterMemory(block(2)).ok());
  EXPECT_TRUE(absl::IsResourceExhausted((*io)->RegisterMemory(block(3))));
  EXPECT_TRUE((*io)->UnregisterMemory(block(1)).ok());
  EXPECT_TRUE((*io)->RegisterMemory(block(3)).ok());
}

// The tests below run in a process of their own, which they may cripple. They end it with 0 when
// all is well; EXPECT_EXIT shows what they print otherwise.
#define CHECK_OR_EXIT(condition)                                   \
  do {                                                             \
    if (!(condition)) {                                            \
      std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
      std::_Exit(1);                                               \
    }                                                              \
  } while (false)

[[noreturn]] void FallBackWhereForbidden(uint32_t call, const std::string& name) {
  CHECK_OR_EXIT(ForbidCall(call));
  std::vector<std::string> lines;
  const auto log = [&](std::string_view line) { lines.emplace_back(line); };
  CHECK_OR_EXIT(absl::IsUnavailable(AsyncIo::Open({.kind = IoEngineKind::kUring}).status()));
  auto io = AsyncIo::Open({.log = log});
  CHECK_OR_EXIT(io.ok());
  CHECK_OR_EXIT(std::string((*io)->name()) == "posix");
  CHECK_OR_EXIT(lines.size() == 1);
  CHECK_OR_EXIT(lines[0].find(name + ": Operation not permitted (errno 1)") != std::string::npos);
  CHECK_OR_EXIT(lines[0].find("seccomp") != std::string::npos);
  TemporaryFile temporary(TemporaryFile::Mode::kDirect, kTestBlockBytes);
  AlignedBuffer buffer(kTestBlockBytes);
  CHECK_OR_EXIT(WriteFile(**io, *(*io)->AddFile(temporary.fd()), 0, buffer.span()).ok());
  std::_Exit(0);
}

// After Open: nothing hangs, everything fails.
[[noreturn]] void ForbidEnterWhileOpen(const Polling& polling) {
  std::vector<std::string> lines;
  const auto log = [&](std::string_view line) { lines.emplace_back(line); };
  auto io = AsyncIo::Open({.kind = IoEngineKind::kUring,
                           .depth_max = 2,
                           .submission_polling = polling.submission,
                           .completion_polling = polling.completion,
                           .log = log});
  if (!io.ok()) std::_Exit(0);
  TemporaryFile temporary(TemporaryFile::Mode::kDirect, kTestBlockBytes);
  AlignedBuffer buffer(kTestBlockBytes);
  const int file = *(*io)->AddFile(temporary.fd());
  CHECK_OR_EXIT(WriteFile(**io, file, 0, buffer.span()).ok());
  lines.clear();  // What polling was refused.
  CHECK_OR_EXIT(ForbidCall(SYS_io_uring_enter));
  for (int round = 0; round < 3; ++round) {
    TestOp ops[5];
    IoOp* const batch[] = {&ops[0], &ops[1], &ops[2], &ops[3], &ops[4]};
    for (TestOp& op : ops) op.Set(IoOp::Kind::kRead, file, 0, buffer.span());
    (*io)->Submit(batch);
    (*io)->Drain();
    // The thread may have been waiting in the call when it was forbidden; what it submits with
    // that call is the last to succeed.
    for (TestOp& op : ops) CHECK_OR_EXIT(round == 0 || absl::IsUnavailable(op.Wait()));
  }
  (*io)->RemoveFile(file);
  io->reset();
  CHECK_OR_EXIT(lines.size() == 1);
  CHECK_OR_EXIT(lines[0].find("io_uring_enter") != std::string::npos);
  std::_Exit(0);
}

[[noreturn]] void RegisterMoreThanTheLimit() {
  const rlimit limit = {.rlim_cur = 64 << 10, .rlim_max = 64 << 10};
  CHECK_OR_EXIT(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
  // The limit does not bind root.
  if (geteuid() == 0) CHECK_OR_EXIT(setresuid(65534, 65534, 65534) == 0);
  auto io = AsyncIo::Open({.kind = IoEngineKind::kUring});
  if (!io.ok()) std::_Exit(0);
  AlignedBuffer buffer(size_t{16} << 20);
  const absl::Status status = (*io)->RegisterMemory(buffer.span());
  CHECK_OR_EXIT(absl::IsUnavailable(status));
  const std::string message(status.message());
  CHECK_OR_EXIT(message.find("RLIMIT_MEMLOCK is 64 KiB; raise it") != std::string::npos);
  CHECK_OR_EXIT(absl::IsNotFound((*io)->UnregisterMemory(buffer.span())));
  std::_Exit(0);
}

class AsyncIoForbiddenTest : public ::testing::Test {
 protected:
  // A process of its own from the start, not a fork of this one with its threads.
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(AsyncIoForbiddenTest, FallsBackToThreadsAndSaysWhy) {
  EXPECT_EXIT(FallBackWhereForbidden(SYS_io_uring_setup, "io_uring_setup"),
              ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(FallBackWhereForbidden(SYS_io_uring_enter, "io_uring_enter"),
              ::testing::ExitedWithCode(0), "");
}

TEST_F(AsyncIoForbiddenTest, FailsWhatFollowsWhenForbiddenLater) {
  EXPECT_EXIT(ForbidEnterWhileOpen({}), ::testing::ExitedWithCode(0), "");
}

// The kernel's thread may take requests without that call, until it sleeps.
TEST_F(AsyncIoForbiddenTest, FailsWhatFollowsWhenForbiddenLaterAndPolled) {
  for (const absl::Duration idle : {absl::Milliseconds(1), absl::Milliseconds(300)}) {
    EXPECT_EXIT(ForbidEnterWhileOpen({.submission = idle, .completion = true}),
                ::testing::ExitedWithCode(0), "");
  }
}

TEST_F(AsyncIoForbiddenTest, NamesTheLimitOnLockedMemory) {
  EXPECT_EXIT(RegisterMoreThanTheLimit(), ::testing::ExitedWithCode(0), "");
}

TEST_F(AsyncIoForbiddenTest, WorksWithoutTables) {
  const auto without_tables = [] {
    CHECK_OR_EXIT(ForbidCall(SYS_io_uring_register));
    std::vector<std::string> lines;
    const auto log = [&](std::string_view line) { lines.emplace_back(line); };
    auto io = AsyncIo::Open({.kind = IoEngineKind::kUring, .log = log});
    if (!io.ok()) std::_Exit(0);
    CHECK_OR_EXIT(lines.size() == 2);
    TemporaryFile temporary(TemporaryFile::Mode::kDirect, kTestBlockBytes);
    AlignedBuffer buffer(kTestBlockBytes);
    CHECK_OR_EXIT((*io)->RegisterMemory(buffer.span()).ok());
    const int file = *(*io)->AddFile(temporary.fd());
    CHECK_OR_EXIT(WriteFile(**io, file, 0, buffer.span()).ok());
    (*io)->RemoveFile(file);
    std::_Exit(0);
  };
  EXPECT_EXIT(without_tables(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace cairn
