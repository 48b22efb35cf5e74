// The store in plain C: for hosts in other languages, and for those that want an ABI that outlives
// a compiler. It is store.h verb by verb; what a verb promises, what its options mean and what a
// code means is said there and holds here. This page says what C adds: who owns what, and how
// structs grow.
//
//   struct cairn_store_options options;
//   cairn_store_options_init(&options, sizeof options);
//   options.path = "/nvme/kv";
//   struct cairn_store* store;
//   struct cairn_status status;
//   if (cairn_store_open(&options, &store, &status) != CAIRN_OK) puts(status.message);
//
// Calls: each returns a code of enum cairn_code and writes it with its text to `status`, which may
// be NULL. Out-parameters are set on CAIRN_OK alone. Nothing throws; memory that cannot be had is
// CAIRN_RESOURCE_EXHAUSTED. An argument that must not be NULL and is, a value outside its enum, a
// negative time: CAIRN_INVALID_ARGUMENT. NULL options are the defaults.
//
// Ownership: what a call makes (store, handle, lease, queue) is ended by its own release or
// destroy, which take NULL. Everything passed in is borrowed for the call alone, but for the memory
// of pieces in calls that end in a queue: until their completion is drained.
//
// Threading: as the C++ objects. A store and a queue from any thread, a handle and a lease from one
// at a time. Not in a forked child.
//
// Growing: structs that begin with struct_bytes may grow at their end within one ABI version.
// Fields that a caller compiled earlier does not have take their defaults; a caller compiled later
// than the library is refused. Everything else is fixed: a change of it is another
// CAIRN_ABI_VERSION.
#pragma once

#include <stddef.h>  // NOLINT(modernize-deprecated-headers): also compiled as C.
#include <stdint.h>  // NOLINT(modernize-deprecated-headers)

#include "cairn/cairn_values.h"
#include "cairn/export.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CAIRN_ABI_VERSION 1

// The ABI version of the library that is loaded: compare it with CAIRN_ABI_VERSION.
CAIRN_EXPORT uint32_t cairn_abi_version(void);  // NOLINT(modernize-redundant-void-arg)

// ---- Options. Fill one by its init, which takes sizeof of the struct, then change fields ----

// StoreOptions::l2_class_shares: by enum cairn_class.
struct cairn_class_shares {
  double min[4];
  double max[4];
};
struct cairn_store_options {
  size_t struct_bytes;
  const char* path;
  const char* const* data_paths;
  size_t data_path_count;
  const char* fingerprint;  // NULL: "".
  uint64_t l1_bytes_max;
  uint64_t l2_bytes_max;
  uint64_t l3_bytes_max;
  uint64_t l3_index_bytes_max;
  uint64_t l3_write_bytes_per_day;  // UINT64_MAX: no budget.
  uint64_t io_bytes_in_flight_max;
  uint64_t data_file_bytes;
  int64_t close_timeout_us;
  double l2_dirty_share_max;
  // Gets StoreOptions::log's lines with `log_context`; not ended with 0. NULL: standard error.
  void (*log)(void* context, const char* line, size_t size);
  void* log_context;
  int32_t gpu;
  uint32_t other_fingerprint;  // enum cairn_other_fingerprint
  uint32_t device;             // enum cairn_device
  uint32_t l2_allocator;       // enum cairn_allocator
  uint32_t write_policy;       // enum cairn_write_policy
  uint32_t eviction;           // enum cairn_eviction
  uint32_t io_engine;          // enum cairn_io_engine
  uint32_t io_threads;
  uint32_t prefetch_queue_max;
  uint32_t async_queue_max;
  uint32_t stripe_count;
  uint32_t l3_prewrite;  // 0 or 1.
  uint64_t prefetch_ahead_bytes_max;
  uint64_t l2_bytes_min;
  uint64_t heed_memory_pressure;  // 0 or 1.
  double unusable_share_max;
  uint64_t move_bytes_per_second;
  uint64_t journal_records_max;
  uint64_t prefetch_predicted;  // 0 or 1.
  struct cairn_class_shares l2_class_shares;
  struct cairn_class_shares l3_class_shares;
  int64_t l2_numa_node;  // -1: automatic.
  // StoreOptions::gpus. None: `gpu` alone.
  const int32_t* gpus;
  size_t gpu_count;
  // As many as data_paths. NULL: all alike, or as the store has them.
  const uint32_t* data_weights;
  uint64_t l1_memory;                // enum cairn_l1_memory
  int64_t io_submission_polling_us;  // 0: none.
  uint64_t io_completion_polling;    // 0 or 1.
};
struct cairn_put_options {
  size_t struct_bytes;
  int64_t ttl_us;
  int64_t timeout_us;
  const struct cairn_stream* producer;  // NULL: none.
  uint32_t durability;                  // enum cairn_durability
  uint32_t retention;                   // enum cairn_retention
  uint32_t if_exists;                   // enum cairn_if_exists
  uint32_t tensor_class;                // enum cairn_class
  uint32_t partial_block;               // 0 or 1.
  int64_t recompute_cost_ns;            // PutOptions::recompute_cost. 0: not known.
};
struct cairn_get_options {
  size_t struct_bytes;
  int64_t timeout_us;
  const struct cairn_stream* consumer;  // NULL: none.
  uint32_t want;                        // CAIRN_L2_PINNED or CAIRN_L1_GPU
  // Of CAIRN_L1_GPU, and of a get_into GPU memory: which one's. -1: the consumer's, else the first.
  int64_t gpu;
};
CAIRN_EXPORT void cairn_store_options_init(struct cairn_store_options* options, size_t bytes);
CAIRN_EXPORT void cairn_put_options_init(struct cairn_put_options* options, size_t bytes);
CAIRN_EXPORT void cairn_get_options_init(struct cairn_get_options* options, size_t bytes);

// ---- The store ----

struct cairn_store;
struct cairn_handle;  // A pin on a tensor's bytes.
struct cairn_lease;   // Keeps what cairn_store_count_leading counted.
struct cairn_queue;   // Where asynchronous calls end.

CAIRN_EXPORT int cairn_store_open(const struct cairn_store_options* options,
                                  struct cairn_store** store, struct cairn_status* status);
// Store::Close. The store must still be destroyed, but not after CAIRN_DEADLINE_EXCEEDED if the
// caller cannot wait for the device: then it is let go of and the process ended.
CAIRN_EXPORT int cairn_store_close(struct cairn_store* store, struct cairn_status* status);
// Closes if need be, then frees; no call may be under way.
CAIRN_EXPORT void cairn_store_destroy(struct cairn_store* store);

CAIRN_EXPORT int cairn_store_put(struct cairn_store* store, struct cairn_key key,
                                 const struct cairn_view* view,
                                 const struct cairn_put_options* options,
                                 struct cairn_status* status);
CAIRN_EXPORT int cairn_store_get(struct cairn_store* store, struct cairn_key key,
                                 const struct cairn_get_options* options,
                                 struct cairn_handle** handle, struct cairn_status* status);
// Before a stream that a handle was released after is destroyed: Store::ForgetStream.
CAIRN_EXPORT int cairn_store_forget_stream(struct cairn_store* store, struct cairn_stream stream,
                                           struct cairn_status* status);
CAIRN_EXPORT int cairn_store_evict(struct cairn_store* store, struct cairn_key key, uint32_t keep,
                                   struct cairn_status* status);
CAIRN_EXPORT int cairn_store_erase(struct cairn_store* store, struct cairn_key key,
                                   struct cairn_status* status);
// `erased` may be NULL. The prefix may be empty.
CAIRN_EXPORT int cairn_store_erase_prefix(struct cairn_store* store, struct cairn_key prefix,
                                          uint64_t* erased, struct cairn_status* status);
CAIRN_EXPORT int cairn_store_purge_fingerprint(struct cairn_store* store, const char* fingerprint,
                                               uint64_t* erased, struct cairn_status* status);
CAIRN_EXPORT int cairn_store_flush(struct cairn_store* store, struct cairn_status* status);

// ---- Batches on the caller's memory ----

struct cairn_put_request {
  struct cairn_key key;
  struct cairn_meta meta;
  const struct cairn_piece* pieces;
  size_t piece_count;
  uint64_t tag;          // Of the completion, in calls that end in a queue.
  uint32_t memory_kind;  // enum cairn_memory_kind, of all pieces. A GPU's: of the stream's in the
                         // options, else of the first.
};
struct cairn_get_request {
  struct cairn_key key;
  const struct cairn_piece* pieces;
  size_t piece_count;
  uint64_t tag;
  uint32_t memory_kind;
};

// With `queue` NULL they wait, and write status i of request i to results[0..count), unless
// `results` is NULL; the code returned is that of the first request that failed. With a queue they
// return at once (results is not used) and each request ends there; a code other than CAIRN_OK:
// nothing was started.
CAIRN_EXPORT int cairn_store_put_from(struct cairn_store* store,
                                      const struct cairn_put_request* requests, size_t count,
                                      const struct cairn_put_options* options,
                                      struct cairn_queue* queue, struct cairn_status* results,
                                      struct cairn_status* status);
CAIRN_EXPORT int cairn_store_get_into(struct cairn_store* store,
                                      const struct cairn_get_request* requests, size_t count,
                                      const struct cairn_get_options* options,
                                      struct cairn_queue* queue, struct cairn_status* results,
                                      struct cairn_status* status);
// Completion i has tag first_tag + i and, when it succeeded, a handle to release.
CAIRN_EXPORT int cairn_store_get_async(struct cairn_store* store, const struct cairn_key* keys,
                                       size_t count, const struct cairn_get_options* options,
                                       struct cairn_queue* queue, uint64_t first_tag,
                                       struct cairn_status* status);

struct cairn_leading_hits {
  size_t count;
  size_t count_l1;
  size_t count_l2;
  size_t count_l3;
  uint64_t bytes;
  struct cairn_lease* lease;  // NULL where nothing was counted.
};
CAIRN_EXPORT int cairn_store_count_leading(struct cairn_store* store, const struct cairn_key* keys,
                                           size_t count, int64_t lease_us,
                                           struct cairn_leading_hits* hits,
                                           struct cairn_status* status);
// LeadingHits::arrival of what the lease was given for, at that time. NULL: 0.
CAIRN_EXPORT int64_t cairn_lease_arrival_us(const struct cairn_lease* lease);
CAIRN_EXPORT void cairn_lease_release(struct cairn_lease* lease);

// Loads started or queued; 0 also for bad arguments: it fails silently. CAIRN_L1_GPU, here and in
// cairn_store_will_need: of the first GPU; of another by the call that takes its ordinal.
CAIRN_EXPORT size_t cairn_store_prefetch(struct cairn_store* store, const struct cairn_key* keys,
                                         size_t count, uint32_t to);
CAIRN_EXPORT size_t cairn_store_prefetch_to_gpu(struct cairn_store* store,
                                                const struct cairn_key* keys, size_t count,
                                                int32_t gpu);

// Says that the keys will be asked for `due_us` from now; of what is due at the same moment the
// highest priority is loaded first. As far ahead as prefetch_ahead_bytes_max lets. `token` may be
// NULL.
CAIRN_EXPORT int cairn_store_will_need(struct cairn_store* store, const struct cairn_key* keys,
                                       size_t count, uint32_t to, int64_t due_us, int32_t priority,
                                       uint64_t* token, struct cairn_status* status);
CAIRN_EXPORT int cairn_store_will_need_on_gpu(struct cairn_store* store,
                                              const struct cairn_key* keys, size_t count,
                                              int32_t gpu, int64_t due_us, int32_t priority,
                                              uint64_t* token, struct cairn_status* status);
// Takes back what has not begun, and says how many keys.
CAIRN_EXPORT size_t cairn_store_cancel(struct cairn_store* store, uint64_t token);

// Both ends aligned to 4096 bytes.
CAIRN_EXPORT int cairn_store_register_memory(struct cairn_store* store, void* memory, size_t bytes,
                                             struct cairn_status* status);
CAIRN_EXPORT int cairn_store_unregister_memory(struct cairn_store* store, void* memory,
                                               size_t bytes, struct cairn_status* status);

// ---- The order of KV blocks: kv_layout.h ----

// Pitches without gaps.
CAIRN_EXPORT struct cairn_kv_pitch cairn_kv_page_first(struct cairn_kv_shape shape);
CAIRN_EXPORT struct cairn_kv_pitch cairn_kv_layer_first(struct cairn_kv_shape shape);
// Both ends in the host's memory, by the calling thread. Of the source nothing is written.
CAIRN_EXPORT int cairn_kv_copy_blocks(struct cairn_kv_shape shape, struct cairn_kv_end target,
                                      struct cairn_kv_end source, struct cairn_status* status);
// Store::CopyKvBlocks: on a stream of a GPU of the store's.
CAIRN_EXPORT int cairn_store_copy_kv_blocks(struct cairn_store* store, struct cairn_stream stream,
                                            struct cairn_kv_shape shape, struct cairn_kv_end target,
                                            struct cairn_kv_end source,
                                            struct cairn_status* status);

// ---- Handles ----

// Never NULL-safe but for release. The bytes stay where they are until the handle is released.
CAIRN_EXPORT void cairn_handle_view(const struct cairn_handle* handle, struct cairn_view* view);
CAIRN_EXPORT uint32_t cairn_handle_level(const struct cairn_handle* handle);
CAIRN_EXPORT uint32_t cairn_handle_found_at(const struct cairn_handle* handle);
CAIRN_EXPORT int cairn_handle_copy_to(const struct cairn_handle* handle, void* target,
                                      uint64_t bytes, struct cairn_status* status);
// On CAIRN_OK the handle is gone; else it is still there and pinned. The stream must stay until
// cairn_store_forget_stream or cairn_store_close has returned.
CAIRN_EXPORT int cairn_handle_release_after(struct cairn_handle* handle, struct cairn_stream stream,
                                            struct cairn_status* status);
CAIRN_EXPORT void cairn_handle_release(struct cairn_handle* handle);

// ---- Completions ----

struct cairn_completion {
  uint64_t tag;
  struct cairn_handle*
      handle;  // Of a get_async that succeeded, for the caller to release; or NULL.
  struct cairn_status status;
};
CAIRN_EXPORT int cairn_queue_create(size_t capacity, struct cairn_queue** queue,
                                    struct cairn_status* status);
// Readable while completions wait to be drained; poll it, never read or close it.
CAIRN_EXPORT int cairn_queue_event_fd(const struct cairn_queue* queue);
// Both return how many completions they wrote. Drain never blocks; wait sleeps until there is one
// or timeout_us has passed (a negative one is 0).
CAIRN_EXPORT size_t cairn_queue_drain(struct cairn_queue* queue, struct cairn_completion* done,
                                      size_t count);
CAIRN_EXPORT size_t cairn_queue_wait(struct cairn_queue* queue, struct cairn_completion* done,
                                     size_t count, int64_t timeout_us);
CAIRN_EXPORT size_t cairn_queue_outstanding(const struct cairn_queue* queue);
// Only when nothing is outstanding, or the stores of those calls are closed.
CAIRN_EXPORT void cairn_queue_destroy(struct cairn_queue* queue);

// ---- What is there ----

struct cairn_info {
  size_t struct_bytes;  // Set it before the call.
  struct cairn_meta meta;
  uint64_t bytes;
  int64_t expires_unix_us;  // CAIRN_FOREVER: never.
  uint32_t tensor_class;    // enum cairn_class
  uint32_t retention;       // enum cairn_retention
  uint8_t in_l1;
  uint8_t in_l2;
  uint8_t in_l3;
  uint8_t quarantined;
  int64_t arrival_us;  // Of cairn_store_describe. CAIRN_FOREVER: never.
};
CAIRN_EXPORT int cairn_store_describe(struct cairn_store* store, struct cairn_key key,
                                      struct cairn_info* info, struct cairn_status* status);
// Calls `visit` for up to `limit` tensors as Store::Scan; key and info are borrowed for its call. A
// visit that returns other than 0 ends the scan. `more` (may be NULL): whether there are others.
CAIRN_EXPORT int cairn_store_scan(struct cairn_store* store, struct cairn_key prefix,
                                  struct cairn_key after, size_t limit,
                                  int (*visit)(void* context, struct cairn_key key,
                                               const struct cairn_info* info),
                                  void* context, int* more, struct cairn_status* status);

struct cairn_tier_stats {
  uint64_t bytes_max;
  uint64_t bytes_used;
  uint64_t tensors;
  uint64_t hits;
  uint64_t evictions;
  uint64_t bytes_read;
  uint64_t bytes_written;
};
// The main figures of StatsSnapshot; all of them in cairn_store_stats_json.
struct cairn_stats {
  size_t struct_bytes;  // Set it before the call.
  struct cairn_tier_stats l1;
  struct cairn_tier_stats l2;
  struct cairn_tier_stats l3;
  uint64_t puts;
  uint64_t gets;
  uint64_t misses;
  uint64_t erases;
  uint64_t dirty_bytes;
  uint64_t checksum_failures;
  uint64_t quarantined;
};
CAIRN_EXPORT int cairn_store_stats(struct cairn_store* store, struct cairn_stats* stats,
                                   struct cairn_status* status);
// Writes the JSON text and a 0, cut where `size` ends; returns its length without the 0, so that a
// return of `size` or more asks for a larger buffer. 0: no store, or no memory.
CAIRN_EXPORT size_t cairn_store_stats_json(struct cairn_store* store, char* buffer, size_t size);

// Store::Advise.
struct cairn_advice {
  size_t struct_bytes;  // Set it before the call.
  int64_t arrival_us;   // CAIRN_FOREVER: never.
  uint32_t level;       // enum cairn_level, or 0: nowhere, it will have to be made again.
  char reason[508];     // Ends with 0; a longer text is cut.
};
CAIRN_EXPORT int cairn_store_advise(struct cairn_store* store, uint64_t bytes,
                                    uint32_t tensor_class, struct cairn_advice* advice,
                                    struct cairn_status* status);

// Store::Explain: calls `visit` for each, oldest first, until it returns other than 0. The texts
// are constants of the library.
struct cairn_journal_entry {
  int64_t unix_us;
  const char* decision;  // "evicted_l2"
  const char* text;      // "left L2 for room; it is on L3"
  uint64_t bytes;
};
CAIRN_EXPORT int cairn_store_explain(struct cairn_store* store, struct cairn_key key,
                                     int (*visit)(void* context,
                                                  const struct cairn_journal_entry* entry),
                                     void* context, struct cairn_status* status);

#ifdef __cplusplus
}  // extern "C"
#endif
