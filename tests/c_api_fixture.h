#pragma once

// What the cases of the C interface share: checks that end the program with their line, and a small
// store in `directory`.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cairn/cairn.h"

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                \
    }                                                                         \
  } while (0)

// The code, and a text that the message must hold.
#define CHECK_STATUS(call, expected, text)                                                     \
  do {                                                                                         \
    const int code_ = (call);                                                                  \
    if (code_ != (expected) || status.code != code_ || !strstr(status.message, (text))) {      \
      fprintf(stderr, "%s:%d: %s: code %d and %d, \"%s\"\n", __FILE__, __LINE__, #call, code_, \
              status.code, status.message);                                                    \
      exit(1);                                                                                 \
    }                                                                                          \
  } while (0)

enum { kBlock = 4096, kMiB = 1 << 20, kBatch = 8 };

static struct cairn_status status;
static char directory[256];

static inline struct cairn_key Key(const char* text) {
  const struct cairn_key key = {text, strlen(text)};
  return key;
}

static inline void CountBytes(void* context, const char* line, size_t size) {
  (void)line;
  *(size_t*)context += size;
}
static size_t logged;

static inline struct cairn_store_options Options(void) {
  struct cairn_store_options options;
  cairn_store_options_init(&options, sizeof options);
  options.path = directory;
  options.device = CAIRN_DEVICE_HOST;
  options.l2_bytes_max = 16 * kMiB;
  options.l3_bytes_max = 64 * kMiB;
  options.log = CountBytes;
  options.log_context = &logged;
  const char* engine = getenv("CAIRN_TEST_IO_ENGINE");
  if (engine != NULL) {
    options.io_engine = strcmp(engine, "posix") == 0 ? CAIRN_IO_POSIX : CAIRN_IO_URING;
  }
  return options;
}

static inline struct cairn_store* Open(void) {
  const struct cairn_store_options options = Options();
  struct cairn_store* store = NULL;
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_OK, "");
  return store;
}

static inline void* Memory(size_t size, int value) {
  void* memory = NULL;
  CHECK(posix_memalign(&memory, kBlock, size) == 0);
  memset(memory, value, size);
  return memory;
}

static inline struct cairn_view View(const void* data, int64_t size) {
  struct cairn_view view;
  memset(&view, 0, sizeof view);
  view.meta.dtype = CAIRN_BF16;
  view.meta.rank = 2;
  view.meta.dims[0] = size / 64;
  view.meta.dims[1] = 32;
  view.data = data;
  view.size = (uint64_t)size;
  view.memory_kind = CAIRN_HOST;
  view.device = -1;
  return view;
}

struct Case {
  const char* name;
  void (*run)(void);
};

// Each in a directory of its own.
static inline void RunCases(const struct Case* cases, size_t count) {
  const char* parent = getenv("TEST_TMPDIR");
  for (size_t i = 0; i < count; ++i) {
    snprintf(directory, sizeof directory, "%s/cairn_c_api_XXXXXX", parent ? parent : "/tmp");
    CHECK(mkdtemp(directory) != NULL);
    printf("%s\n", cases[i].name);
    fflush(stdout);
    cases[i].run();
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    CHECK(system(command) == 0);
  }
}
