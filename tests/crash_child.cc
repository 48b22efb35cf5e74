// Writes to a store for ever and tells on standard output what it starts and what was
// acknowledged, a line each, for crash_test to kill at any moment.
//
//   crash_child DIRECTORY uring|posix|auto SEED
//
//   p KEY VERSION   a put of that version begins          P KEY VERSION DURABILITY   acknowledged
//   e KEY           an erase begins                       E KEY                      acknowledged

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cairn/store.h"
#include "tests/crash_content.h"

namespace cairn {
namespace {

constexpr int kThreads = 3;

void Say(const std::string& line) {
  // One write: lines of threads do not mix, and what was said before a kill arrives.
  if (write(STDOUT_FILENO, line.data(), line.size()) < 0) _exit(3);
}

// At once, without closing the store. Not _exit: ThreadSanitizer's reports the threads that another
// thread has not joined yet (RocksDB opening its files anew) as leaked.
void EndUnlessOk(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  syscall(SYS_exit_group, 4);
}

void WriteForEver(Store* store, int thread, uint64_t seed, uint64_t version) {
  std::mt19937_64 random(seed * 31 + static_cast<uint64_t>(thread));
  std::vector<std::byte> buffer(kCrashTensorBytesMax);
  while (true) {
    const int key = static_cast<int>(random() % (kCrashKeys / kThreads)) * kThreads + thread;
    const std::string name = CrashKeyName(key);
    if (random() % 8 == 0) {
      Say(absl::StrCat("e ", key, "\n"));
      EndUnlessOk(store->Erase(name));
      Say(absl::StrCat("E ", key, "\n"));
      continue;
    }
    ++version;
    const uint64_t size = CrashTensorBytes(key, version);
    FillCrashContent(key, version, buffer.data());
    const auto durability = static_cast<Durability>(1 + random() % 3);
    Say(absl::StrCat("p ", key, " ", version, "\n"));
    const absl::Status status =
        store->Put(name, {.meta = TensorMeta::Bytes(size), .data = buffer.data(), .size = size},
                   {.durability = durability,
                    .retention = key % 2 == 0 ? Retention::kKeep : Retention::kCache});
    EndUnlessOk(status);
    Say(absl::StrCat("P ", key, " ", version, " ", static_cast<int>(durability), "\n"));
  }
}

int Main(int argc, char** argv) {
  if (argc != 4) return 2;
  StoreOptions options = CrashStoreOptions(argv[1], argv[2]);
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(options);
  if (!store.ok()) {
    std::fprintf(stderr, "%s\n", store.status().ToString().c_str());
    return 6;
  }
  const uint64_t seed = std::strtoull(argv[3], nullptr, 10);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back(WriteForEver, store->get(), thread, seed, seed << 20);
  }
  for (std::thread& thread : threads) thread.join();
  return 0;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
