#include "tests/call_counts.h"

#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "src/base/check.h"

namespace cairn {
namespace {

constexpr size_t kCopyBytesMin = 512;

struct Span {
  uintptr_t begin = 0;
  uintptr_t end = 0;
  WatchedMemory kind = WatchedMemory::kTensors;
};
constinit std::array<Span, 64> spans;
constinit std::atomic<size_t> span_count = 0;  // Those before it are whole.
constinit std::array<std::atomic<uint64_t>, 2> copied_bytes;
constinit std::atomic<uint64_t> mapping_calls = 0;

using Move = void* (*)(void* target, const void* source, size_t bytes);
// The C library's memmove. Null until this file is initialised: others begin before it.
constinit std::atomic<Move> real_move = nullptr;
[[maybe_unused]] const bool initialised = [] {
  real_move = reinterpret_cast<Move>(dlsym(RTLD_NEXT, "memmove"));
  return true;
}();

void CountCopy(const void* target, const void* source, size_t bytes) {
  if (bytes < kCopyBytesMin) return;
  bool touched = false;
  WatchedMemory kind = WatchedMemory::kTensors;
  const size_t count = span_count.load(std::memory_order_acquire);
  for (const void* side : {target, source}) {
    const auto address = reinterpret_cast<uintptr_t>(side);
    for (size_t i = 0; i < count; ++i) {
      if (address + bytes <= spans[i].begin || address >= spans[i].end) continue;
      touched = true;
      kind = std::max(kind, spans[i].kind);
    }
  }
  if (touched) copied_bytes[static_cast<size_t>(kind)] += bytes;
}

void* CountAndMove(void* target, const void* source, size_t bytes) {
  CountCopy(target, source, bytes);
  if (const Move move = real_move.load(std::memory_order_relaxed)) {
    return move(target, source, bytes);
  }
  auto* const to = static_cast<volatile char*>(target);
  const auto* const from = static_cast<const volatile char*>(source);
  if (reinterpret_cast<uintptr_t>(target) <= reinterpret_cast<uintptr_t>(source)) {
    for (size_t i = 0; i < bytes; ++i) to[i] = from[i];
  } else {
    for (size_t i = bytes; i > 0; --i) to[i - 1] = from[i - 1];
  }
  return target;
}

template <typename... Arguments>
long CountAndMap(long number, Arguments... arguments) {
  mapping_calls.fetch_add(1, std::memory_order_relaxed);
  return syscall(number, arguments...);
}

}  // namespace

void WatchCopies(absl::Span<const std::byte> memory, WatchedMemory kind) {
  const size_t count = span_count.load();
  CAIRN_CHECK(count < spans.size());
  const auto begin = reinterpret_cast<uintptr_t>(memory.data());
  spans[count] = {begin, begin + memory.size(), kind};
  span_count.store(count + 1, std::memory_order_release);
}

void ForgetWatched() { span_count = 0; }

uint64_t CopiedBytes(WatchedMemory kind) { return copied_bytes[static_cast<size_t>(kind)]; }

uint64_t MappingCalls() { return mapping_calls; }

// The names of the C library, by label: its headers declare them in ways of their own. Libraries
// find them here, before those of the C library.
#pragma GCC visibility push(default)
extern "C" {

using Bytes = size_t;
void* CountedMemcpy(void* target, const void* source, Bytes bytes) __asm__("memcpy");
void* CountedMemmove(void* target, const void* source, Bytes bytes) __asm__("memmove");
void* CountedMempcpy(void* target, const void* source, Bytes bytes) __asm__("mempcpy");
void* CheckedMemcpy(void* target, const void* source, Bytes bytes,
                    Bytes room) __asm__("__memcpy_chk");
void* CheckedMemmove(void* target, const void* source, Bytes bytes,
                     Bytes room) __asm__("__memmove_chk");
void* CountedMmap(void* address, Bytes bytes, int protection, int flags, int file,
                  long offset) __asm__("mmap");
void* CountedMmap64(void* address, Bytes bytes, int protection, int flags, int file,
                    long offset) __asm__("mmap64");
void* CountedMremap(void* address, Bytes bytes, Bytes new_bytes, int flags,
                    void* new_address) __asm__("mremap");
int CountedMunmap(void* address, Bytes bytes) __asm__("munmap");
int CountedMprotect(void* address, Bytes bytes, int protection) __asm__("mprotect");
int CountedMadvise(void* address, Bytes bytes, int advice) __asm__("madvise");

void* CountedMemcpy(void* target, const void* source, Bytes bytes) {
  return CountAndMove(target, source, bytes);
}
void* CountedMemmove(void* target, const void* source, Bytes bytes) {
  return CountAndMove(target, source, bytes);
}
void* CountedMempcpy(void* target, const void* source, Bytes bytes) {
  return static_cast<char*>(CountAndMove(target, source, bytes)) + bytes;
}
void* CheckedMemcpy(void* target, const void* source, Bytes bytes, Bytes room) {
  CAIRN_CHECK(bytes <= room);
  return CountAndMove(target, source, bytes);
}
void* CheckedMemmove(void* target, const void* source, Bytes bytes, Bytes room) {
  CAIRN_CHECK(bytes <= room);
  return CountAndMove(target, source, bytes);
}

void* CountedMmap(void* address, Bytes bytes, int protection, int flags, int file, long offset) {
  return reinterpret_cast<void*>(
      CountAndMap(SYS_mmap, address, bytes, protection, flags, file, offset));
}
void* CountedMmap64(void* address, Bytes bytes, int protection, int flags, int file, long offset) {
  return CountedMmap(address, bytes, protection, flags, file, offset);
}
void* CountedMremap(void* address, Bytes bytes, Bytes new_bytes, int flags, void* new_address) {
  return reinterpret_cast<void*>(
      CountAndMap(SYS_mremap, address, bytes, new_bytes, flags, new_address));
}
int CountedMunmap(void* address, Bytes bytes) {
  return static_cast<int>(CountAndMap(SYS_munmap, address, bytes));
}
int CountedMprotect(void* address, Bytes bytes, int protection) {
  return static_cast<int>(CountAndMap(SYS_mprotect, address, bytes, protection));
}
int CountedMadvise(void* address, Bytes bytes, int advice) {
  return static_cast<int>(CountAndMap(SYS_madvise, address, bytes, advice));
}

}  // extern "C"
#pragma GCC visibility pop

}  // namespace cairn
