#include "bench/micro/defragmentation.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bench/micro/workloads.h"
#include "src/base/check.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "tiers/arena.h"
#include "tiers/defragmenter.h"
#include "tiers/fragmentation.h"
#include "tiers/magazine_allocator.h"

namespace cairn::micro {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr uint64_t kBlockAlignment = 4096;
constexpr int kChurnRounds = 20;
constexpr uint64_t kMebibyte = uint64_t{1} << 20;

Workload MixedVlm() {
  for (Workload& workload : Workloads()) {
    if (workload.name == "mixed VLM") return std::move(workload);
  }
  return {};
}

// Blocks in an arena, with memory or without, which readers pin as a store's do.
class Blocks final : public Defragmenter::Mover {
 public:
  Blocks(MagazineAllocator* space, std::byte* memory) : space_(space), memory_(memory) {}

  bool Add(uint64_t bytes) {
    const absl::StatusOr<Extent> extent = space_->Allocate(bytes);
    if (!extent.ok()) return false;
    const uint64_t id = next_id_++;
    if (memory_ != nullptr) Fill(*extent, id);
    MutexLock lock(mutex_);
    by_offset_[extent->offset] = by_id_[id] = all_.size();
    all_.push_back({*extent, id, 0});
    return true;
  }
  // One at random, and of those that came right behind it so many in all.
  void RemoveSome(std::mt19937_64& random, uint64_t in_a_row) {
    std::vector<Extent> removed;
    {
      MutexLock lock(mutex_);
      const uint64_t first = all_[random() % all_.size()].id;
      for (uint64_t id = first; id < first + in_a_row && all_.size() > 1; ++id) {
        const auto found = by_id_.find(id);
        if (found == by_id_.end()) continue;
        const size_t index = found->second;
        removed.push_back(all_[index].extent);
        by_offset_.erase(all_[index].extent.offset);
        by_id_.erase(found);
        if (index + 1 < all_.size()) {
          all_[index] = all_.back();
          by_offset_[all_[index].extent.offset] = by_id_[all_[index].id] = index;
        }
        all_.pop_back();
      }
    }
    for (const Extent& extent : removed) CAIRN_CHECK(space_->Free(extent).ok());
  }
  size_t size() const {
    MutexLock lock(mutex_);
    return all_.size();
  }

  // Pins, compares and unpins one; false when it has other bytes. Not while blocks come or go.
  bool Read(uint64_t number) {
    Extent extent;
    uint64_t id = 0;
    size_t index = 0;
    {
      MutexLock lock(mutex_);
      index = number % all_.size();
      ++all_[index].pins;
      extent = all_[index].extent;
      id = all_[index].id;
    }
    const auto* const words = reinterpret_cast<const uint64_t*>(memory_ + extent.offset);
    uint64_t differences = 0;
    for (uint64_t i = 0; i < extent.bytes / sizeof(uint64_t); ++i) differences |= words[i] ^ id;
    MutexLock lock(mutex_);
    --all_[index].pins;
    return differences == 0;
  }

  bool CanMove(Extent extent) override {
    MutexLock lock(mutex_);
    const auto found = by_offset_.find(extent.offset);
    return found != by_offset_.end() && all_[found->second].pins == 0;
  }
  bool Move(Extent extent) override {
    size_t index = 0;
    {
      MutexLock lock(mutex_);
      const auto found = by_offset_.find(extent.offset);
      if (found == by_offset_.end() || all_[found->second].pins > 0) return false;
      index = found->second;
    }
    const absl::StatusOr<Extent> target = space_->Allocate(extent.bytes);
    if (!target.ok()) return false;
    if (memory_ != nullptr) {
      std::memcpy(memory_ + target->offset, memory_ + extent.offset, extent.bytes);
    }
    bool moved = false;
    {
      MutexLock lock(mutex_);
      if (all_[index].pins == 0) {
        all_[index].extent = *target;
        by_offset_.erase(extent.offset);
        by_offset_[target->offset] = index;
        moved = true;
      }
    }
    CAIRN_CHECK(space_->Free(moved ? extent : *target).ok());
    return moved;
  }

 private:
  struct Block {
    Extent extent;
    uint64_t id = 0;
    uint32_t pins = 0;
  };
  void Fill(Extent extent, uint64_t id) const {
    auto* const words = reinterpret_cast<uint64_t*>(memory_ + extent.offset);
    std::fill(words, words + extent.bytes / sizeof(uint64_t), id);
  }

  MagazineAllocator* const space_;
  std::byte* const memory_;
  uint64_t next_id_ = 1;
  mutable Mutex mutex_;
  std::vector<Block> all_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, size_t> by_offset_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, size_t> by_id_ ABSL_GUARDED_BY(mutex_);
};

// An arena in the state of one that was in use for long, `percent` full.
struct Fragmented {
  std::unique_ptr<MagazineAllocator> space;
  std::unique_ptr<Blocks> blocks;
  std::unique_ptr<SizeMix> mix;
};
Fragmented NewFragmented(uint64_t bytes, std::byte* memory, uint64_t percent, uint64_t in_a_row) {
  auto space = MagazineAllocator::Create(AllocatorKind::kHybrid, bytes, kBlockAlignment);
  CAIRN_CHECK(space.ok());
  Fragmented made = {.space = std::move(*space), .mix = std::make_unique<SizeMix>(bytes)};
  made.blocks = std::make_unique<Blocks>(made.space.get(), memory);
  const Workload workload = MixedVlm();
  std::mt19937_64 random(1);
  for (int round = 0; round <= kChurnRounds; ++round) {
    const size_t left = made.blocks->size() - made.blocks->size() / 20;
    while (made.blocks->size() > left) made.blocks->RemoveSome(random, in_a_row);
    uint64_t asked = 0;
    do {
      asked = workload.bytes(random);
      made.mix->Note(asked);
    } while (made.blocks->Add(asked));
  }
  while (made.space->bytes_used() > bytes / 100 * percent) {
    made.blocks->RemoveSome(random, in_a_row);
  }
  return made;
}

// `in_a_row`: how many that came together leave together, as the blocks of a chain do.
void PrintCosts(const DefragmentationOptions& options, uint64_t in_a_row) {
  std::printf(
      "\n| mixed VLM, %llu GiB, freed by %llu, full | unusable | 1 - longest / free | MiB in one "
      "piece | "
      "MiB moved | moved per byte gained | search and moves, ms |\n"
      "|---|---|---|---|---|---|---|\n",
      static_cast<unsigned long long>(options.arena_bytes >> 30),
      static_cast<unsigned long long>(in_a_row));
  for (const uint64_t percent : {80, 70, 60, 45}) {
    for (const uint64_t bytes : {options.window_bytes, 4 * options.window_bytes}) {
      const Fragmented made = NewFragmented(options.arena_bytes, nullptr, percent, in_a_row);
      Defragmenter defragmenter(made.space.get(), made.mix.get(), made.blocks.get(), {});
      const Fragmentation before = defragmenter.Measure();
      const auto begin = SteadyNow();
      const auto extent = defragmenter.MakeRoom(bytes, begin + std::chrono::minutes(1));
      const auto took = duration_cast<nanoseconds>(SteadyNow() - begin);
      const double moved = static_cast<double>(defragmenter.figures().bytes_moved);
      std::printf("| %llu %% | %.1f %% | %.3f | %llu%s | %.1f | %.3f | %.2f |\n",
                  static_cast<unsigned long long>(percent), 100 * before.unusable_share,
                  before.scattered_share(), static_cast<unsigned long long>(bytes / kMebibyte),
                  extent.ok() ? "" : " (not to be had)", moved / kMebibyte,
                  moved / static_cast<double>(bytes), static_cast<double>(took.count()) / 1e6);
    }
  }
}

struct ReaderFigures {
  uint64_t reads = 0;
  double p50_us = 0;
  double p99_us = 0;
  bool all_right = true;
};

// One reader, as the machine may have no more than two cores and one is for who moves.
ReaderFigures ReadFor(Blocks& blocks, milliseconds time) {
  std::vector<int64_t> latencies;
  std::mt19937_64 random(2);
  ReaderFigures figures;
  const auto end = SteadyNow() + time;
  for (auto begin = SteadyNow(); begin < end;) {
    figures.all_right &= blocks.Read(random());
    const auto now = SteadyNow();
    latencies.push_back(duration_cast<nanoseconds>(now - begin).count());
    begin = now;
  }
  std::sort(latencies.begin(), latencies.end());
  figures.reads = latencies.size();
  figures.p50_us = static_cast<double>(latencies[latencies.size() / 2]) / 1e3;
  figures.p99_us = static_cast<double>(latencies[latencies.size() * 99 / 100]) / 1e3;
  return figures;
}

bool PrintReaders(const DefragmentationOptions& options) {
  auto arena = Arena::Create(options.memory_bytes);
  CAIRN_CHECK(arena.ok());
  const Fragmented made = NewFragmented(options.memory_bytes, (*arena)->base(), 75, 1);
  Defragmenter defragmenter(made.space.get(), made.mix.get(), made.blocks.get(),
                            {.unusable_share_max = 0.01, .measure_every = milliseconds(1)});
  const milliseconds time(options.reader_milliseconds);
  const ReaderFigures quiet = ReadFor(*made.blocks, time);
  CAIRN_CHECK(defragmenter.Start().ok());
  const ReaderFigures during = ReadFor(*made.blocks, time);
  defragmenter.Stop();
  const Defragmenter::Figures figures = defragmenter.figures();
  std::printf(
      "\n| a reader of whole blocks, %llu MiB, 75 %% full | reads | p50, us | p99, us |\n"
      "|---|---|---|---|\n",
      static_cast<unsigned long long>(options.memory_bytes / kMebibyte));
  std::printf("| quiet | %llu | %.0f | %.0f |\n", static_cast<unsigned long long>(quiet.reads),
              quiet.p50_us, quiet.p99_us);
  std::printf("| while %.1f MiB are moved out of %llu windows | %llu | %.0f | %.0f |\n",
              static_cast<double>(figures.bytes_moved) / kMebibyte,
              static_cast<unsigned long long>(figures.windows),
              static_cast<unsigned long long>(during.reads), during.p50_us, during.p99_us);
  if (!quiet.all_right || !during.all_right) std::printf("\nA reader saw other bytes.\n");
  return quiet.all_right && during.all_right;
}

}  // namespace

bool PrintDefragmentation(const DefragmentationOptions& options) {
  for (const uint64_t in_a_row : {1, 16}) PrintCosts(options, in_a_row);
  return PrintReaders(options);
}

}  // namespace cairn::micro
