#include "bench/micro/foreign_allocators.h"

#include <cstddef>
#include <utility>

#include "tiers/reserved_array.h"

#ifdef CAIRN_BENCH_JEMALLOC
#include <dlfcn.h>
#define JEMALLOC_NO_DEMANGLE
#include <jemalloc/jemalloc.h>
#endif
#ifdef CAIRN_BENCH_TBB
#define TBB_PREVIEW_MEMORY_POOL 1
#include <tbb/memory_pool.h>
#endif

namespace cairn::micro {
namespace {

// What hands out addresses, as an Allocator.
class ForeignAllocator : public Allocator {
 public:
  explicit ForeignAllocator(ReservedArray<std::byte> space) : space_(std::move(space)) {}

  absl::StatusOr<Extent> Allocate(uint64_t bytes) override {
    auto* const address = static_cast<std::byte*>(Take(bytes));
    if (address == nullptr) return absl::ResourceExhaustedError("no room");
    bytes_used_ += bytes;
    return Extent{static_cast<uint64_t>(address - &space_[0]), bytes};
  }
  absl::Status Free(Extent extent) override {
    Give(&space_[extent.offset], extent.bytes);
    bytes_used_ -= extent.bytes;
    return absl::OkStatus();
  }
  uint64_t bytes_max() const override { return space_.size(); }
  uint64_t bytes_used() const override { return bytes_used_; }
  uint64_t largest_free_bytes() const override { return 0; }

 protected:
  virtual void* Take(size_t bytes) = 0;
  virtual void Give(void* address, size_t bytes) = 0;

  ReservedArray<std::byte> space_;

 private:
  uint64_t bytes_used_ = 0;
};

#ifdef CAIRN_BENCH_JEMALLOC
// Loaded and not linked: it would take the place of malloc for everything else that is measured.
struct Jemalloc {
  decltype(&::mallocx) allocate;
  decltype(&::dallocx) free;
  decltype(&::mallctl) control;
};

class JemallocArena final : public ForeignAllocator {
 public:
  JemallocArena(ReservedArray<std::byte> space, const Jemalloc& functions)
      : ForeignAllocator(std::move(space)), functions_(functions) {
    hooks_.hooks.alloc = &AllocateExtent;
    // Given back to nobody, so cut and joined at will.
    hooks_.hooks.dalloc = [](extent_hooks_t*, void*, size_t, bool, unsigned) { return true; };
    hooks_.hooks.split = [](extent_hooks_t*, void*, size_t, size_t, size_t, bool, unsigned) {
      return false;
    };
    hooks_.hooks.merge = [](extent_hooks_t*, void*, size_t, void*, size_t, bool, unsigned) {
      return false;
    };
    hooks_.arena = this;
  }
  // False when it refuses.
  bool Start() {
    unsigned arena = 0;
    size_t arena_bytes = sizeof(arena);
    extent_hooks_t* hooks = &hooks_.hooks;
    if (functions_.control("arenas.create", &arena, &arena_bytes, &hooks, sizeof(void*)) != 0) {
      return false;
    }
    flags_ = MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE;
    return true;
  }

 private:
  struct Hooks {
    extent_hooks_t hooks = {};  // First, so that its address is this one's.
    JemallocArena* arena = nullptr;
  };

  static void* AllocateExtent(extent_hooks_t* hooks, void* wanted, size_t bytes, size_t alignment,
                              bool* zero, bool* commit, unsigned) {
    JemallocArena& arena = *reinterpret_cast<Hooks*>(hooks)->arena;
    const auto base = reinterpret_cast<uintptr_t>(&arena.space_[0]);
    const uintptr_t begin = (base + arena.bytes_given_ + alignment - 1) & ~(alignment - 1);
    if (wanted != nullptr || begin + bytes > base + arena.space_.size()) return nullptr;
    arena.bytes_given_ = begin + bytes - base;
    *zero = false;
    *commit = true;
    return &arena.space_[begin - base];
  }

  void* Take(size_t bytes) override { return functions_.allocate(bytes, flags_); }
  void Give(void* address, size_t) override { functions_.free(address, flags_); }

  const Jemalloc functions_;
  Hooks hooks_;
  int flags_ = 0;
  uint64_t bytes_given_ = 0;
};
#endif

#ifdef CAIRN_BENCH_TBB
class TbbPool final : public ForeignAllocator {
 public:
  explicit TbbPool(ReservedArray<std::byte> space)
      : ForeignAllocator(std::move(space)), pool_(&space_[0], space_.size()) {}

 private:
  void* Take(size_t bytes) override { return pool_.malloc(bytes); }
  void Give(void* address, size_t) override { pool_.free(address); }

  tbb::fixed_pool pool_;
};
#endif

}  // namespace

absl::StatusOr<std::unique_ptr<Allocator>> NewJemalloc([[maybe_unused]] uint64_t space_bytes) {
#ifdef CAIRN_BENCH_JEMALLOC
  void* const library = ::dlopen("libjemalloc.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return absl::UnavailableError(::dlerror());
  const Jemalloc functions = {reinterpret_cast<decltype(&::mallocx)>(::dlsym(library, "mallocx")),
                              reinterpret_cast<decltype(&::dallocx)>(::dlsym(library, "dallocx")),
                              reinterpret_cast<decltype(&::mallctl)>(::dlsym(library, "mallctl"))};
  if (functions.allocate == nullptr || functions.free == nullptr || functions.control == nullptr) {
    return absl::UnavailableError("libjemalloc.so.2 has no mallocx");
  }
  auto space = ReservedArray<std::byte>::Create(space_bytes);
  if (!space.ok()) return space.status();
  // The library keeps the arena for good.
  auto arena = std::make_unique<JemallocArena>(std::move(*space), functions);
  if (!arena->Start()) return absl::UnavailableError("jemalloc makes no arena");
  return arena;
#else
  return absl::UnimplementedError("built without jemalloc");
#endif
}

absl::StatusOr<std::unique_ptr<Allocator>> NewTbbPool([[maybe_unused]] uint64_t space_bytes) {
#ifdef CAIRN_BENCH_TBB
  auto space = ReservedArray<std::byte>::Create(space_bytes);
  if (!space.ok()) return space.status();
  return std::make_unique<TbbPool>(std::move(*space));
#else
  return absl::UnimplementedError("built without oneTBB");
#endif
}

}  // namespace cairn::micro
