// A writer is killed at a random moment, again and again on one directory; after each kill what
// was acknowledged as on the device must be there and right, everything else right or absent, and
// no space lost. CAIRN_TEST_KILLS says how often (default 10); the seed is printed.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <random>
#include <thread>

#include "cairn/store.h"
#include "tests/crash_content.h"
#include "tests/crash_oracle.h"
#include "tests/disk_fixture.h"
#include "tests/process.h"

namespace cairn {
namespace {

constexpr int kKillsPerInspection = 10;

class CrashTest : public ::testing::Test {
 protected:
  CrashTest() {
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

  void Check() {
    absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(CrashStoreOptions(path_, engine_));
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_THAT(oracle_.Check(**store, path_), ::testing::IsEmpty());
    EXPECT_TRUE((*store)->Close().ok());
  }

  void KillAgainAndAgain() {
    const char* text = std::getenv("CAIRN_TEST_KILLS");
    const int kills = text == nullptr ? 10 : std::atoi(text);
    const char* seed_text = std::getenv("CAIRN_TEST_SEED");
    const uint64_t seed =
        seed_text == nullptr ? std::random_device{}() : std::strtoull(seed_text, nullptr, 10);
    std::printf("CAIRN_TEST_SEED=%lu, %d kills\n", static_cast<unsigned long>(seed), kills);
    std::mt19937_64 random(seed);
    int done = 0;
    for (; done < kills && !HasFailure(); ++done) {
      SCOPED_TRACE("kill " + std::to_string(done));
      const auto after = std::chrono::microseconds(random() % 60000);
      oracle_.Account(RunAndKill(static_cast<uint64_t>(done) + 1, after));
      // As the kill left it, before recovery has a hand in it.
      if (done % kKillsPerInspection == 0) Inspect();
      Check();
    }
    std::printf("kills done: %d, violations: %d, CAIRN_TEST_SEED=%lu, engine %s\n", done,
                HasFailure() ? 1 : 0, static_cast<unsigned long>(seed), engine_.c_str());
  }

  void Inspect() const {
#ifdef CAIRN_STORE_INSPECT
    const ProcessEnd end =
        Process(directory_.path(), {CAIRN_STORE_INSPECT, "verify", path_}).Wait();
    EXPECT_EQ(end.exit_code, 0) << end.out << end.err;
#endif
  }

  TemporaryDirectory directory_;
  std::string path_;
  std::string engine_;
  CrashOracle oracle_{CrashOracle::Cut::kProcess};
};

TEST_F(CrashTest, KilledWriterLosesNothingAcknowledged) { KillAgainAndAgain(); }

// The writer finds the drives by itself.
TEST_F(CrashTest, KilledWriterLosesNothingOnSeveralDrives) {
  StoreOptions options = CrashStoreOptions(path_, engine_);
  for (const char* drive : {"drive0", "drive1", "drive2"}) {
    options.data_paths.push_back(directory_ / drive);
    std::filesystem::create_directory(options.data_paths.back());
  }
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(options);
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_TRUE((*store)->Close().ok());
  KillAgainAndAgain();
}

}  // namespace
}  // namespace cairn
