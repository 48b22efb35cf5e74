#include "bench/tier/huge_pages.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"

namespace cairn::bench {
namespace {

// Each asks for twice as many as the one before.
constexpr int kAttempts = 4;
constexpr unsigned kMemfdHuge2MiB = 21u << 26;  // MFD_HUGE_2MB of linux/memfd.h.
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

std::unique_ptr<SharedHugePages> SharedHugePages::Create(uint64_t pages) {
  const uint64_t bytes = pages * HugePages::kPageBytes;
  // Pages that are in use stay when the reserve is what it was.
  const std::unique_ptr<HugePages> reserve = HugePages::Reserve(pages);
  if (reserve == nullptr) return nullptr;
  FileDescriptor file(memfd_create("tier-bench", MFD_CLOEXEC | MFD_HUGETLB | kMemfdHuge2MiB));
  if (file.get() < 0 || ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) return nullptr;
  void* const address =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file.get(), 0);
  if (address == MAP_FAILED) return nullptr;
  return std::unique_ptr<SharedHugePages>(
      new SharedHugePages(std::move(file), {static_cast<std::byte*>(address), bytes}));
}

SharedHugePages::~SharedHugePages() { CAIRN_CHECK(munmap(memory_.data(), memory_.size()) == 0); }

std::string SharedHugePages::path() const {
  return absl::StrCat("/proc/", getpid(), "/fd/", file_.get());
}

absl::Span<std::byte> SharedHugePages::Take(uint64_t bytes) {
  const uint64_t rounded_bytes =
      (bytes + HugePages::kPageBytes - 1) / HugePages::kPageBytes * HugePages::kPageBytes;
  const uint64_t offset = taken_bytes_.fetch_add(rounded_bytes);
  if (offset + rounded_bytes > memory_.size()) return {};
  return memory_.subspan(offset, rounded_bytes);
}

}  // namespace cairn::bench
