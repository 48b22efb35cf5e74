// A writer is killed at a random moment, again and again on one directory; after each kill what
// was acknowledged as on the device must be there and right, everything else right or absent, and
// no space lost. CAIRN_TEST_KILLS says how often (default 10); the seed is printed.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <optional>
#include <random>
#include <sstream>
#include <thread>

#include "cairn/store.h"
#include "tests/crash_content.h"
#include "tests/disk_fixture.h"

namespace cairn {
namespace {

// What a key may hold after a crash: each version started since the last acknowledged as on the
// device, and that one; nullopt: absent.
using Allowed = std::vector<std::optional<uint64_t>>;

class CrashTest : public ::testing::Test {
 protected:
  CrashTest() : allowed_(kCrashKeys, Allowed{std::nullopt}) {
    const char* engine = std::getenv("CAIRN_TEST_IO_ENGINE");
    engine_ = engine == nullptr ? "auto" : engine;
    path_ = directory_ / "store";
  }

  // Runs the writer, kills it, returns all it said in whole lines.
  std::string RunAndKill(uint64_t seed, std::chrono::microseconds after) {
    int fds[2];
    EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
    const std::string seed_text = std::to_string(seed);
    const char* const args[] = {CAIRN_CRASH_CHILD, path_.c_str(), engine_.c_str(),
                                seed_text.c_str(), nullptr};
    pid_t child = -1;
    EXPECT_EQ(posix_spawn(&child, CAIRN_CRASH_CHILD, &actions, nullptr, const_cast<char**>(args),
                          environ),
              0);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    std::string said;
    std::thread killer;
    char buffer[4096];
    // The clock starts when the store is open and the first put begins.
    for (ssize_t count = 0; (count = read(fds[0], buffer, sizeof(buffer))) > 0;) {
      said.append(buffer, static_cast<size_t>(count));
      if (killer.joinable()) continue;
      killer = std::thread([child, after] {
        std::this_thread::sleep_for(after);
        kill(child, SIGKILL);
      });
    }
    close(fds[0]);
    if (killer.joinable()) killer.join();
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself, status " << status;
    return said.substr(0, said.rfind('\n') + 1);
  }

  void Account(const std::string& said) {
    std::istringstream lines(said);
    char what = 0;
    int key = 0;
    while (lines >> what >> key) {
      uint64_t version = 0;
      int durability = 0;
      if (what == 'p' || what == 'P') lines >> version;
      if (what == 'P') lines >> durability;
      Allowed& allowed = allowed_[static_cast<size_t>(key)];
      const bool on_device = static_cast<Durability>(durability) >= Durability::kOnDevice;
      if (what == 'p') allowed.emplace_back(version);
      if (what == 'e') allowed.emplace_back(std::nullopt);
      if (what == 'P' && on_device) allowed = {version};
      if (what == 'E') allowed = {std::nullopt};
    }
  }

  void Check() {
    absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(CrashStoreOptions(path_, engine_));
    ASSERT_TRUE(store.ok()) << store.status();
    uint64_t bytes_used = 0;
    for (int key = 0; key < kCrashKeys; ++key) {
      Allowed& allowed = allowed_[static_cast<size_t>(key)];
      const std::optional<uint64_t> found = VersionOf(**store, key, &bytes_used);
      EXPECT_NE(std::find(allowed.begin(), allowed.end(), found), allowed.end())
          << CrashKeyName(key) << " holds "
          << (found.has_value() ? std::to_string(*found) : "nothing");
      allowed = {found};
    }
    const StatsSnapshot stats = (*store)->Stats();
    EXPECT_EQ(stats.recovery_dropped, 0u);
    EXPECT_EQ(stats.checksum_failures, 0u);
    // A header is shared by at most 48 tensors, so it has two blocks at most.
    EXPECT_GE(stats.l3.bytes_used, bytes_used);
    EXPECT_LE(stats.l3.bytes_used, bytes_used + stats.l3.tensors * 8192) << "space is lost";
    EXPECT_TRUE((*store)->Close().ok());
  }

  static std::optional<uint64_t> VersionOf(Store& store, int key, uint64_t* bytes_used) {
    const absl::StatusOr<TensorHandle> handle = store.Get(CrashKeyName(key), {});
    if (!handle.ok()) {
      EXPECT_TRUE(absl::IsNotFound(handle.status())) << handle.status();
      return std::nullopt;
    }
    uint64_t version = 0;
    std::memcpy(&version, handle->view().data, sizeof(version));
    std::vector<std::byte> expected(kCrashTensorBytesMax + 8);
    FillCrashContent(key, version, expected.data());
    EXPECT_EQ(handle->view().size, CrashTensorBytes(key, version));
    EXPECT_EQ(std::memcmp(handle->view().data, expected.data(), handle->view().size), 0);
    *bytes_used += (handle->view().size + 4095) / 4096 * 4096;
    return version;
  }

  TemporaryDirectory directory_;
  std::string path_;
  std::string engine_;
  std::vector<Allowed> allowed_;
};

TEST_F(CrashTest, KilledWriterLosesNothingAcknowledged) {
  const char* text = std::getenv("CAIRN_TEST_KILLS");
  const int kills = text == nullptr ? 10 : std::atoi(text);
  const char* seed_text = std::getenv("CAIRN_TEST_SEED");
  const uint64_t seed =
      seed_text == nullptr ? std::random_device{}() : std::strtoull(seed_text, nullptr, 10);
  std::printf("CAIRN_TEST_SEED=%lu, %d kills\n", static_cast<unsigned long>(seed), kills);
  std::mt19937_64 random(seed);
  for (int i = 0; i < kills && !HasFailure(); ++i) {
    SCOPED_TRACE("kill " + std::to_string(i));
    Account(RunAndKill(static_cast<uint64_t>(i) + 1, std::chrono::microseconds(random() % 60000)));
    Check();
  }
}

}  // namespace
}  // namespace cairn
