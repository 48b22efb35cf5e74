#pragma once

#include <cstdio>
#include <cstdlib>

// For what a correct program never does: on in every build, ends the process. What the world can
// do (a disk, a caller) is a Status.
#define CAIRN_CHECK(condition)                                                           \
  do {                                                                                   \
    if (__builtin_expect(!(condition), 0)) {                                             \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
