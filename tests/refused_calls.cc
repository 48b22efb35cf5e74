#include "tests/refused_calls.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <memory>

namespace cairn {
namespace {

constexpr size_t kMappingBytesMin = size_t{64} << 10;
constexpr uint64_t kPageBytes = 4096;

constinit std::atomic<size_t> threads_running = 0;
constinit std::atomic<size_t> threads_max = kNoLimit;

constinit std::atomic<size_t> mappings_asked = 0;
constinit std::atomic<size_t> mappings_served = kNoLimit;
constinit std::atomic<size_t> mappings_refused = 0;
constinit std::atomic<uint64_t> bytes_mapped = 0;

struct ThreadStart {
  void* (*body)(void*);
  void* argument;
};

void* RunThread(void* start) {
  const std::unique_ptr<ThreadStart> owned(static_cast<ThreadStart*>(start));
  void* const result = owned->body(owned->argument);
  --threads_running;
  return result;
}

uint64_t InPages(size_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

bool Refuses(size_t bytes) {
  if (bytes < kMappingBytesMin) return false;
  const size_t number = mappings_asked++;
  const size_t served = mappings_served;
  return number >= served && number - served < mappings_refused;
}

}  // namespace

void LeaveThreads(size_t count) {
  threads_max = count == kNoLimit ? kNoLimit : threads_running + count;
}

size_t ThreadsRunning() { return threads_running; }

void RefuseMappings(size_t served, size_t count) {
  mappings_asked = 0;
  mappings_served = served;
  mappings_refused = count;
}

size_t MappingsAsked() { return mappings_asked; }

uint64_t BytesMapped() { return bytes_mapped; }

// The names of the C library, by label, as in call_counts.cc.
#pragma GCC visibility push(default)
extern "C" {

using Bytes = size_t;
using Body = void* (*)(void*);
int LimitedCreate(pthread_t* thread, const pthread_attr_t* attributes, Body body,
                  void* argument) __asm__("pthread_create");
void* RefusedMmap(void* address, Bytes bytes, int protection, int flags, int file,
                  long offset) __asm__("mmap");
void* RefusedMmap64(void* address, Bytes bytes, int protection, int flags, int file,
                    long offset) __asm__("mmap64");
int CountedMunmap(void* address, Bytes bytes) __asm__("munmap");

int LimitedCreate(pthread_t* thread, const pthread_attr_t* attributes, Body body, void* argument) {
  static const auto create =
      reinterpret_cast<decltype(&LimitedCreate)>(dlsym(RTLD_NEXT, "pthread_create"));
  if (++threads_running > threads_max) {
    --threads_running;
    return EAGAIN;
  }
  auto start = std::make_unique<ThreadStart>(ThreadStart{body, argument});
  const int error = create(thread, attributes, &RunThread, start.get());
  if (error == 0) {
    (void)start.release();  // The thread's.
  } else {
    --threads_running;
  }
  return error;
}

void* RefusedMmap(void* address, Bytes bytes, int protection, int flags, int file, long offset) {
  if (Refuses(bytes)) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  const long mapped = syscall(SYS_mmap, address, bytes, protection, flags, file, offset);
  if (mapped != -1) bytes_mapped += InPages(bytes);
  return reinterpret_cast<void*>(mapped);
}
void* RefusedMmap64(void* address, Bytes bytes, int protection, int flags, int file, long offset) {
  return RefusedMmap(address, bytes, protection, flags, file, offset);
}
int CountedMunmap(void* address, Bytes bytes) {
  const auto result = static_cast<int>(syscall(SYS_munmap, address, bytes));
  if (result == 0) bytes_mapped -= InPages(bytes);
  return result;
}

}  // extern "C"
#pragma GCC visibility pop

}  // namespace cairn
