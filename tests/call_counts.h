#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace cairn {

// What a process copies and maps, counted: call_counts.cc, linked into a test, stands in for memcpy
// and mmap and their kin, for the libraries that the test uses too. Not seen: what the C library
// does by itself (malloc), what the kernel does, and copies that a compiler makes of no call.

enum class WatchedMemory {
  kTensors,  // Of the host: L2, or a caller's own memory.
  kDevice,   // What a device has. Where the host stands in for one, its threads copy: a GPU would.
};

// From here on copies count that read or write the memory, with the device where either side is its
// own. Only those of 512 bytes or more: a hasher keeps fewer between two calls. At most 64 spans,
// none of which may be used by others meanwhile.
void WatchCopies(absl::Span<const std::byte> memory, WatchedMemory kind);
// Ends all that. When nobody copies.
void ForgetWatched();

// In all, since the process began.
uint64_t CopiedBytes(WatchedMemory kind);
uint64_t MappingCalls();  // mmap, munmap, mremap, mprotect, madvise.

}  // namespace cairn
