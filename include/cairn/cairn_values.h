// The values of the store in plain C: codes, enums, and the small structs that they are named in.
// What is done with them is in cairn.h, which includes this.
#pragma once

#include <stddef.h>  // NOLINT(modernize-deprecated-headers): also compiled as C.
#include <stdint.h>  // NOLINT(modernize-deprecated-headers)

// The canonical codes; which verb answers what: store.h.
enum cairn_code {
  CAIRN_OK = 0,
  CAIRN_UNKNOWN = 2,
  CAIRN_INVALID_ARGUMENT = 3,
  CAIRN_DEADLINE_EXCEEDED = 4,
  CAIRN_NOT_FOUND = 5,
  CAIRN_RESOURCE_EXHAUSTED = 8,
  CAIRN_FAILED_PRECONDITION = 9,
  CAIRN_UNIMPLEMENTED = 12,
  CAIRN_INTERNAL = 13,
  CAIRN_UNAVAILABLE = 14,
  CAIRN_DATA_LOSS = 15
};

struct cairn_status {
  int32_t code;
  char message[508];  // "" for CAIRN_OK. Ends with 0; a longer text is cut.
};

// ---- Values. The same as in tensor.h and options.h, in the same order ----

enum cairn_dtype {
  CAIRN_UINT8 = 1,
  CAIRN_INT8 = 2,
  CAIRN_INT4 = 3,
  CAIRN_BOOL = 4,
  CAIRN_INT32 = 5,
  CAIRN_INT64 = 6,
  CAIRN_FP16 = 7,
  CAIRN_BF16 = 8,
  CAIRN_FP32 = 9,
  CAIRN_FP8_E4M3 = 10,
  CAIRN_FP8_E5M2 = 11
};
enum cairn_class { CAIRN_GENERAL = 0, CAIRN_KV = 1, CAIRN_VISION = 2, CAIRN_TEXT = 3 };
enum cairn_level { CAIRN_L1_GPU = 1, CAIRN_L2_PINNED = 2, CAIRN_L3_NVME = 3 };
enum cairn_memory_kind { CAIRN_HOST, CAIRN_HOST_PINNED, CAIRN_GPU, CAIRN_MANAGED };
enum cairn_device { CAIRN_DEVICE_AUTO, CAIRN_DEVICE_CUDA, CAIRN_DEVICE_HOST };
enum cairn_l1_memory { CAIRN_L1_DEVICE, CAIRN_L1_MANAGED };
enum cairn_io_engine { CAIRN_IO_AUTO, CAIRN_IO_URING, CAIRN_IO_POSIX };
enum cairn_allocator { CAIRN_ALLOCATOR_HYBRID, CAIRN_ALLOCATOR_BUDDY, CAIRN_ALLOCATOR_BEST_FIT };
enum cairn_write_policy { CAIRN_WRITE_BACK, CAIRN_WRITE_THROUGH };
enum cairn_durability { CAIRN_STORE_DEFAULT, CAIRN_IN_MEMORY, CAIRN_ON_DEVICE, CAIRN_FLUSHED };
enum cairn_eviction { CAIRN_TUNED, CAIRN_LRU, CAIRN_CLOCK, CAIRN_ARC, CAIRN_S3_FIFO };
enum cairn_retention { CAIRN_CACHE = 0, CAIRN_KEEP = 1 };
enum cairn_if_exists { CAIRN_REPLACE, CAIRN_KEEP_EXISTING };
enum cairn_other_fingerprint { CAIRN_REFUSE, CAIRN_SHARE, CAIRN_PURGE };

// For times: without an end.
#define CAIRN_FOREVER INT64_MAX

struct cairn_key {
  const void* data;
  size_t size;  // 1 to 255.
};

struct cairn_meta {
  uint8_t dtype;  // enum cairn_dtype
  uint8_t rank;   // 0 to 8.
  int64_t dims[8];
};

struct cairn_view {
  struct cairn_meta meta;
  const void* data;
  uint64_t size;         // Must equal what meta takes.
  uint32_t memory_kind;  // enum cairn_memory_kind
  int32_t device;        // Ordinal of the GPU, for CAIRN_GPU and CAIRN_MANAGED.
};

struct cairn_piece {
  void* data;  // Only read by cairn_store_put_from.
  uint64_t size;
};

// KvShape and KvPitch of kv_layout.h, and an end of a copy: where the first block's piece of the
// first layer is, in what memory.
struct cairn_kv_shape {
  uint64_t blocks;
  uint64_t layers;
  uint64_t piece_bytes;
};
struct cairn_kv_pitch {
  uint64_t block_bytes;
  uint64_t layer_bytes;
};
struct cairn_kv_end {
  void* data;
  struct cairn_kv_pitch pitch;
  uint32_t memory_kind;  // enum cairn_memory_kind
};

struct cairn_stream {
  void* stream;  // cudaStream_t
  int32_t device;
};
