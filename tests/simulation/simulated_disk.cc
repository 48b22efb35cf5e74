#include "tests/simulation/simulated_disk.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "src/base/check.h"

namespace cairn {
namespace {

constexpr uint64_t kBytes = SimulatedDisk::kBlockCount * SimulatedDisk::kBlockBytes;

std::byte* Map() {
  void* const memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CAIRN_CHECK(memory != MAP_FAILED);
  return static_cast<std::byte*>(memory);
}

}  // namespace

SimulatedDisk::SimulatedDisk()
    : cache_(Map()), medium_(Map()), writes_(kBlockCount), is_dirty_(kBlockCount) {}

SimulatedDisk::~SimulatedDisk() {
  munmap(cache_, kBytes);
  munmap(medium_, kBytes);
}

void SimulatedDisk::Reset() {
  CAIRN_CHECK(madvise(cache_, kBytes, MADV_DONTNEED) == 0);
  CAIRN_CHECK(madvise(medium_, kBytes, MADV_DONTNEED) == 0);
  std::fill(writes_.begin(), writes_.end(), 0);
  std::fill(is_dirty_.begin(), is_dirty_.end(), false);
  dirty_.clear();
  lost_.clear();
  flushes_under_way_ = 0;
}

void SimulatedDisk::Write(uint64_t block, const std::byte* bytes, Random& random) {
  CAIRN_CHECK(block < kBlockCount);
  ++writes_[block];
  if (is_dirty_[block]) {
    // The cache may have written the older bytes back by itself; a flush under way has to.
    if (flushes_under_way_ > 0 || random.OneIn(2))
      std::memcpy(MediumAt(block), CacheAt(block), kBlockBytes);
  } else {
    is_dirty_[block] = true;
    dirty_.push_back(block);
    lost_.erase(block);
  }
  std::memcpy(CacheAt(block), bytes, kBlockBytes);
}

void SimulatedDisk::Read(uint64_t block, std::byte* bytes) const {
  CAIRN_CHECK(block < kBlockCount);
  std::memcpy(bytes, CacheAt(block), kBlockBytes);
}

void SimulatedDisk::FlipBit(uint64_t block, uint64_t bit) {
  const uint64_t index = bit % (kBlockBytes * 8);
  CacheAt(block)[index / 8] ^= std::byte{1} << (index % 8);
  if (!is_dirty_[block]) MediumAt(block)[index / 8] ^= std::byte{1} << (index % 8);
}

SimulatedDisk::Flush SimulatedDisk::BeginFlush(int file) {
  ++flushes_under_way_;
  Flush flush;
  flush.first = BlockAt(file, 0);
  flush.end = BlockAt(file + 1, 0);
  for (const uint64_t block : dirty_) {
    if (block >= flush.first && block < flush.end) flush.blocks.emplace_back(block, writes_[block]);
  }
  return flush;
}

void SimulatedDisk::EndFlush(const Flush& flush) {
  --flushes_under_way_;
  for (const auto& [block, write] : flush.blocks) {
    // Written again meanwhile: that this flush took the newer bytes along is nobody's promise.
    if (is_dirty_[block] && writes_[block] == write) Persist(block);
  }
  std::erase_if(dirty_, [this](uint64_t block) { return !is_dirty_[block]; });
}

void SimulatedDisk::FailFlush(const Flush& flush) {
  --flushes_under_way_;
  for (const auto& [block, write] : flush.blocks) {
    if (!is_dirty_[block] || writes_[block] != write) continue;
    is_dirty_[block] = false;
    lost_.insert(block);
  }
  std::erase_if(dirty_, [this](uint64_t block) { return !is_dirty_[block]; });
}

void SimulatedDisk::Persist(uint64_t block) {
  std::memcpy(MediumAt(block), CacheAt(block), kBlockBytes);
  is_dirty_[block] = false;
}

void SimulatedDisk::PowerCut(Random& random) {
  // Mostly lost, mostly kept, or anything.
  const uint64_t kept_of_8 = std::array<uint64_t, 4>{0, 1, 4, 7}[random.Below(4)];
  for (const uint64_t block : dirty_) {
    if (random.Below(8) < kept_of_8) {
      Persist(block);
    } else {
      std::memcpy(CacheAt(block), MediumAt(block), kBlockBytes);
      is_dirty_[block] = false;
    }
  }
  dirty_.clear();
  for (const uint64_t block : lost_) std::memcpy(CacheAt(block), MediumAt(block), kBlockBytes);
  lost_.clear();
}

}  // namespace cairn
