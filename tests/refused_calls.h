#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace cairn {

// Threads and memory that the system has no more of: refused_calls.cc, linked into a test, stands
// in for pthread_create and mmap, for the libraries that the test uses too. Not seen: what the C
// library maps by itself (malloc, stacks).

inline constexpr size_t kNoLimit = std::numeric_limits<size_t>::max();

// So many threads may be started from here on that run at the same time; then EAGAIN.
void LeaveThreads(size_t count);
// Threads started so far that have not ended.
size_t ThreadsRunning();

// Of the mappings from here on that have 64 KiB or more, `count` more are refused (ENOMEM) after
// the first `served`.
void RefuseMappings(size_t served, size_t count);
// Since then.
size_t MappingsAsked();
// By mappings of any size, and not yet given back.
uint64_t BytesMapped();

}  // namespace cairn
