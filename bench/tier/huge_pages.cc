#include "bench/tier/huge_pages.h"

#include <fcntl.h>
#include <sys/file.h>

#include <fstream>
#include <string>
#include <utility>

namespace cairn::bench {
namespace {

// Each asks for twice as many as the one before.
constexpr int kAttempts = 4;
constexpr const char* kReservePath = "/proc/sys/vm/nr_hugepages";

uint64_t Reserved() {
  std::ifstream file(kReservePath);
  uint64_t pages = 0;
  file >> pages;
  return pages;
}

uint64_t Free() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  while (file >> word) {
    uint64_t pages = 0;
    if (word == "HugePages_Free:" && file >> pages) return pages;
  }
  return 0;
}

bool SetReserved(uint64_t pages) {
  std::ofstream file(kReservePath);
  file << pages << '\n' << std::flush;
  return file.good();
}

}  // namespace

std::unique_ptr<HugePages> HugePages::Reserve(uint64_t pages) {
  FileDescriptor lock(open(kReservePath, O_RDONLY | O_CLOEXEC));
  if (lock.get() < 0 || flock(lock.get(), LOCK_EX) != 0) return nullptr;
  const uint64_t before = Reserved();
  for (int attempts = 0; attempts < kAttempts; ++attempts) {
    if (!SetReserved(before + (pages << attempts))) break;
    if (Free() >= pages) {
      return std::unique_ptr<HugePages>(new HugePages(std::move(lock), before));
    }
  }
  if (Reserved() != before) SetReserved(before);
  return nullptr;
}

HugePages::~HugePages() { SetReserved(pages_before_); }

}  // namespace cairn::bench
