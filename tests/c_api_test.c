// The C interface, used as a C program uses it. Each case has a store of its own; the first check
// that fails ends the program with its line.

#define _GNU_SOURCE
#include <poll.h>
#include <unistd.h>

#include "tests/c_api_fixture.h"

static void PutGetEraseAndStats(void) {
  struct cairn_store* store = Open();
  char* bytes = Memory(kMiB, 7);
  const struct cairn_view view = View(bytes, kMiB);
  struct cairn_put_options put;
  cairn_put_options_init(&put, sizeof put);
  put.durability = CAIRN_FLUSHED;
  put.tensor_class = CAIRN_VISION;
  CHECK_STATUS(cairn_store_put(store, Key("block"), &view, &put, &status), CAIRN_OK, "");

  struct cairn_handle* handle = NULL;
  CHECK_STATUS(cairn_store_get(store, Key("block"), NULL, &handle, &status), CAIRN_OK, "");
  struct cairn_view found;
  cairn_handle_view(handle, &found);
  CHECK(found.size == kMiB && memcmp(found.data, bytes, kMiB) == 0);
  CHECK(found.meta.dtype == CAIRN_BF16 && found.meta.rank == 2 && found.meta.dims[1] == 32);
  CHECK(cairn_handle_level(handle) == CAIRN_L2_PINNED);
  CHECK(cairn_handle_found_at(handle) == CAIRN_L2_PINNED);
  char* copy = Memory(kMiB, 0);
  CHECK_STATUS(cairn_handle_copy_to(handle, copy, kMiB, &status), CAIRN_OK, "");
  CHECK(memcmp(copy, bytes, kMiB) == 0);
  CHECK_STATUS(cairn_handle_copy_to(handle, copy, 1, &status), CAIRN_INVALID_ARGUMENT, "");
  CHECK_STATUS(cairn_store_evict(store, Key("block"), CAIRN_L3_NVME, &status),
               CAIRN_RESOURCE_EXHAUSTED, "");
  cairn_handle_release(handle);
  CHECK_STATUS(cairn_store_evict(store, Key("block"), CAIRN_L3_NVME, &status), CAIRN_OK, "");

  struct cairn_info info;
  info.struct_bytes = sizeof info;
  CHECK_STATUS(cairn_store_describe(store, Key("block"), &info, &status), CAIRN_OK, "");
  CHECK(info.bytes == kMiB && info.in_l3 && !info.in_l2 && info.tensor_class == CAIRN_VISION);
  CHECK(info.expires_unix_us == CAIRN_FOREVER && info.retention == CAIRN_CACHE);
  CHECK(info.arrival_us > 0 && info.arrival_us < CAIRN_FOREVER);
  struct cairn_advice advice;
  advice.struct_bytes = sizeof advice;
  CHECK_STATUS(cairn_store_advise(store, kMiB, CAIRN_KV, &advice, &status), CAIRN_OK, "");
  CHECK(advice.level == CAIRN_L2_PINNED && advice.arrival_us == 0 && advice.reason[0] != 0);
  CHECK_STATUS(cairn_store_advise(store, UINT64_MAX, CAIRN_KV, &advice, &status), CAIRN_OK, "");
  CHECK(advice.level == 0 && advice.arrival_us == CAIRN_FOREVER);
  CHECK_STATUS(cairn_store_advise(store, kMiB, 4, &advice, &status), CAIRN_INVALID_ARGUMENT,
               "tensor_class");
  CHECK_STATUS(cairn_store_advise(store, kMiB, CAIRN_KV, NULL, &status), CAIRN_INVALID_ARGUMENT,
               "advice");

  CHECK_STATUS(cairn_store_get(store, Key("none"), NULL, &handle, &status), CAIRN_NOT_FOUND,
               "none");
  CHECK_STATUS(cairn_store_erase(store, Key("block"), &status), CAIRN_OK, "");
  CHECK_STATUS(cairn_store_erase(store, Key("block"), &status), CAIRN_OK, "");
  CHECK_STATUS(cairn_store_get(store, Key("block"), NULL, &handle, &status), CAIRN_NOT_FOUND,
               "block");
  CHECK_STATUS(cairn_store_flush(store, &status), CAIRN_OK, "");

  struct cairn_stats stats;
  stats.struct_bytes = sizeof stats;
  CHECK_STATUS(cairn_store_stats(store, &stats, &status), CAIRN_OK, "");
  CHECK(stats.puts == 1 && stats.gets == 3 && stats.misses == 2 && stats.erases == 2);
  CHECK(stats.l2.bytes_max > 0 && stats.l3.bytes_written >= kMiB);
  char json[8];
  const size_t length = cairn_store_stats_json(store, json, sizeof json);
  CHECK(length > sizeof json && strlen(json) == sizeof json - 1 && json[0] == '{');
  cairn_store_destroy(store);
  free(copy);
  free(bytes);
}

static void BatchesOnBorrowedMemory(void) {
  struct cairn_store* store = Open();
  char* source = Memory(kBatch * kBlock, 0);
  char* target = Memory(kBatch * kBlock, 0);
  char names[kBatch][8];
  struct cairn_piece pieces[kBatch];
  struct cairn_put_request puts[kBatch];
  struct cairn_get_request gets[kBatch];
  struct cairn_key keys[kBatch];
  struct cairn_status results[kBatch];
  memset(puts, 0, sizeof puts);
  memset(gets, 0, sizeof gets);
  for (int i = 0; i < kBatch; ++i) {
    memset(source + i * kBlock, 'a' + i, kBlock);
    snprintf(names[i], sizeof names[i], "key%d", i);
    keys[i] = Key(names[i]);
    pieces[i].data = source + i * kBlock;
    pieces[i].size = kBlock;
    puts[i].key = keys[i];
    puts[i].meta.dtype = CAIRN_UINT8;
    puts[i].meta.rank = 1;
    puts[i].meta.dims[0] = kBlock;
    puts[i].pieces = &pieces[i];
    puts[i].piece_count = 1;
  }
  puts[3].meta.dims[0] = kBlock + 1;  // Not what its piece holds.
  CHECK_STATUS(cairn_store_put_from(store, puts, kBatch, NULL, NULL, results, &status),
               CAIRN_INVALID_ARGUMENT, "");
  for (int i = 0; i < kBatch; ++i) {
    CHECK(results[i].code == (i == 3 ? CAIRN_INVALID_ARGUMENT : CAIRN_OK));
    CHECK((results[i].message[0] != 0) == (i == 3));
  }
  CHECK(cairn_store_prefetch(store, keys, kBatch, CAIRN_L2_PINNED) <= kBatch - 1);
  uint64_t token = 0;
  CHECK(cairn_store_will_need(store, keys, kBatch, CAIRN_L2_PINNED, 0, 0, &token, &status) == 0);
  CHECK(token != 0);
  CHECK(cairn_store_cancel(store, token) <= kBatch);
  CHECK(cairn_store_cancel(store, token) == 0);
  CHECK(cairn_store_will_need(store, keys, kBatch, 0, 0, 0, NULL, NULL) != 0);

  struct cairn_leading_hits hits;
  CHECK_STATUS(cairn_store_count_leading(store, keys, kBatch, 1000000, &hits, &status), CAIRN_OK,
               "");
  CHECK(hits.count == 3 && hits.bytes == 3 * kBlock && hits.lease != NULL);
  CHECK((cairn_lease_arrival_us(hits.lease) > 0) == (hits.count_l3 > 0));
  CHECK(cairn_lease_arrival_us(NULL) == 0);
  cairn_lease_release(hits.lease);
  CHECK_STATUS(cairn_store_count_leading(store, keys + 3, 1, 1000000, &hits, &status), CAIRN_OK,
               "");
  CHECK(hits.count == 0 && hits.lease == NULL);

  for (int i = 0; i < kBatch; ++i) {
    pieces[i].data = target + i * kBlock;
    gets[i].key = keys[i];
    gets[i].pieces = &pieces[i];
    gets[i].piece_count = 1;
  }
  CHECK_STATUS(cairn_store_get_into(store, gets, kBatch, NULL, NULL, results, &status),
               CAIRN_NOT_FOUND, "key3");
  for (int i = 0; i < kBatch; ++i) {
    CHECK(results[i].code == (i == 3 ? CAIRN_NOT_FOUND : CAIRN_OK));
    CHECK((memcmp(source + i * kBlock, target + i * kBlock, kBlock) == 0) == (i != 3));
  }
  uint64_t erased = 0;
  CHECK_STATUS(cairn_store_erase_prefix(store, Key("key"), &erased, &status), CAIRN_OK, "");
  CHECK(erased == kBatch - 1);
  cairn_store_destroy(store);
  free(source);
  free(target);
}

// Sleeps on the eventfd until `count` completions have come; returns how many are CAIRN_OK.
static int DrainByPoll(struct cairn_queue* queue, int count, uint64_t tag_min) {
  int drained = 0;
  int succeeded = 0;
  while (drained < count) {
    struct pollfd poll_fd = {cairn_queue_event_fd(queue), POLLIN, 0};
    CHECK(poll(&poll_fd, 1, 30000) == 1);
    struct cairn_completion done[3];
    const size_t got = cairn_queue_drain(queue, done, 3);
    for (size_t i = 0; i < got; ++i, ++drained) {
      CHECK(done[i].tag >= tag_min && done[i].tag < tag_min + (uint64_t)count);
      if (done[i].status.code == CAIRN_OK) ++succeeded;
      if (done[i].status.code != CAIRN_OK) CHECK(done[i].handle == NULL);
      cairn_handle_release(done[i].handle);
    }
  }
  CHECK(cairn_queue_outstanding(queue) == 0);
  return succeeded;
}

static void CompletionsThroughPoll(void) {
  struct cairn_store* store = Open();
  struct cairn_queue* queue = NULL;
  CHECK_STATUS(cairn_queue_create(0, &queue, &status), CAIRN_INVALID_ARGUMENT, "capacity");
  CHECK_STATUS(cairn_queue_create(kBatch, &queue, &status), CAIRN_OK, "");
  char* memory = Memory(2 * kBlock, 5);
  struct cairn_piece pieces[2] = {{memory, kBlock}, {memory + kBlock, kBlock}};
  struct cairn_put_request put;
  memset(&put, 0, sizeof put);
  put.key = Key("k");
  put.meta.dtype = CAIRN_UINT8;
  put.meta.rank = 1;
  put.meta.dims[0] = 2 * kBlock;
  put.pieces = pieces;
  put.piece_count = 2;
  put.tag = 77;
  CHECK_STATUS(cairn_store_put_from(store, &put, 1, NULL, queue, NULL, &status), CAIRN_OK, "");
  CHECK(DrainByPoll(queue, 1, 77) == 1);

  memset(memory, 0, 2 * kBlock);
  struct cairn_get_request get;
  memset(&get, 0, sizeof get);
  get.key = Key("k");
  get.pieces = pieces;
  get.piece_count = 2;
  get.tag = 5;
  CHECK_STATUS(cairn_store_get_into(store, &get, 1, NULL, queue, NULL, &status), CAIRN_OK, "");
  CHECK(DrainByPoll(queue, 1, 5) == 1);
  CHECK(memory[0] == 5 && memory[2 * kBlock - 1] == 5);

  const struct cairn_key keys[3] = {Key("k"), Key("none"), Key("k")};
  CHECK_STATUS(cairn_store_get_async(store, keys, 3, NULL, queue, 100, &status), CAIRN_OK, "");
  CHECK(DrainByPoll(queue, 3, 100) == 2);
  struct cairn_key many[kBatch + 1];
  for (int i = 0; i <= kBatch; ++i) many[i] = keys[0];
  CHECK_STATUS(cairn_store_get_async(store, many, kBatch + 1, NULL, queue, 0, &status),
               CAIRN_RESOURCE_EXHAUSTED, "completion queue is full");
  struct cairn_completion done[1];
  CHECK(cairn_queue_drain(queue, done, 1) == 0);
  CHECK(cairn_queue_wait(queue, done, 1, 0) == 0);
  cairn_store_destroy(store);
  cairn_queue_destroy(queue);
  free(memory);
}

static int CountKeys(void* context, struct cairn_key key, const struct cairn_info* info) {
  CHECK(key.size == 2 && info->bytes == 64);
  return ++*(int*)context == 2;  // Enough.
}

static int ReadDecision(void* context, const struct cairn_journal_entry* entry) {
  CHECK(entry->bytes >= 64 && entry->unix_us > 0 && entry->text[0] != 0);
  strncat(context, entry->decision, 32);
  strncat(context, " ", 2);
  return 0;
}

static void ScansAndPurges(void) {
  struct cairn_store* store = Open();
  char bytes[64] = {0};
  const struct cairn_view view = View(bytes, 64);
  const char* keys[] = {"a1", "a2", "a3", "b1"};
  for (int i = 0; i < 4; ++i) {
    CHECK(cairn_store_put(store, Key(keys[i]), &view, NULL, NULL) == CAIRN_OK);
  }
  int visited = 0;
  int more = 0;
  CHECK_STATUS(cairn_store_scan(store, Key("a"), Key(""), 2, CountKeys, &visited, &more, &status),
               CAIRN_OK, "");
  CHECK(visited == 2 && more == 1);
  char decisions[256] = "";
  CHECK_STATUS(cairn_store_erase(store, Key("b1"), &status), CAIRN_OK, "");
  CHECK_STATUS(cairn_store_explain(store, Key("b1"), ReadDecision, decisions, &status), CAIRN_OK,
               "");
  CHECK(strstr(decisions, "put ") != NULL && strstr(decisions, "erased ") != NULL);
  CHECK_STATUS(cairn_store_explain(store, Key("b1"), NULL, decisions, &status),
               CAIRN_INVALID_ARGUMENT, "visit");
  uint64_t erased = 0;
  CHECK_STATUS(cairn_store_purge_fingerprint(store, "", &erased, &status), CAIRN_OK, "");
  CHECK(erased == 3);
  cairn_store_destroy(store);
}

static void WeightsOfDataPathsAreRead(void) {
  struct cairn_store* store = NULL;
  struct cairn_store_options options = Options();
  const char* const data_paths[] = {"/a", "/b"};
  const uint32_t data_weights[] = {3, 65};
  CHECK(options.data_weights == NULL);
  options.data_paths = data_paths;
  options.data_path_count = 2;
  options.data_weights = data_weights;
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_INVALID_ARGUMENT,
               "data_weights is 65");
  CHECK(store == NULL);
}

static void BadArgumentsAreNamed(void) {
  struct cairn_store* store = NULL;
  CHECK_STATUS(cairn_store_open(NULL, &store, &status), CAIRN_INVALID_ARGUMENT, "options is NULL");
  struct cairn_store_options options = Options();
  options.path = NULL;
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_INVALID_ARGUMENT, "path");
  options = Options();
  options.eviction = 9;
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_INVALID_ARGUMENT,
               "eviction is 9");
  options = Options();
  options.l2_bytes_max = 1;
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_INVALID_ARGUMENT, "l2_bytes_max");
  options = Options();
  CHECK(options.l1_memory == CAIRN_L1_DEVICE);
  options.l1_memory = 2;
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_INVALID_ARGUMENT,
               "l1_memory is 2");
  options = Options();
  CHECK(options.io_submission_polling_us == 0 && options.io_completion_polling == 0);
  options.io_submission_polling_us = 2 * 3600 * INT64_C(1000000);
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_INVALID_ARGUMENT,
               "io_submission_polling is 2h");
  options = Options();
  CHECK(options.l2_numa_node == -1);
  options.l2_numa_node = 9999;
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_INVALID_ARGUMENT,
               "l2_numa_node is 9999");
  CHECK(store == NULL);

  store = Open();
  char bytes[64] = {0};
  struct cairn_view view = View(bytes, 64);
  CHECK_STATUS(cairn_store_put(NULL, Key("k"), &view, NULL, &status), CAIRN_INVALID_ARGUMENT,
               "store is NULL");
  CHECK_STATUS(cairn_store_put(store, Key("k"), NULL, NULL, &status), CAIRN_INVALID_ARGUMENT,
               "view is NULL");
  CHECK_STATUS(cairn_store_put(store, Key(""), &view, NULL, &status), CAIRN_INVALID_ARGUMENT,
               "key");
  char long_key[300];
  memset(long_key, 'x', sizeof long_key);
  const struct cairn_key too_long = {long_key, sizeof long_key};
  CHECK_STATUS(cairn_store_put(store, too_long, &view, NULL, &status), CAIRN_INVALID_ARGUMENT,
               "255");
  struct cairn_put_options put;
  cairn_put_options_init(&put, sizeof put);
  put.timeout_us = -1;
  CHECK_STATUS(cairn_store_put(store, Key("k"), &view, &put, &status), CAIRN_INVALID_ARGUMENT,
               "timeout_us is -1");
  cairn_put_options_init(&put, sizeof put);
  CHECK(put.recompute_cost_ns == 0);
  put.recompute_cost_ns = -1;
  CHECK_STATUS(cairn_store_put(store, Key("k"), &view, &put, &status), CAIRN_INVALID_ARGUMENT,
               "its cost of recomputing is negative");
  cairn_put_options_init(&put, sizeof put);
  put.struct_bytes = sizeof put + 8;
  CHECK_STATUS(cairn_store_put(store, Key("k"), &view, &put, &status), CAIRN_INVALID_ARGUMENT,
               "struct_bytes");
  view.meta.dtype = 99;
  CHECK_STATUS(cairn_store_put(store, Key("k"), &view, NULL, &status), CAIRN_INVALID_ARGUMENT,
               "dtype");
  view = View(bytes, 64);
  view.size = 63;
  CHECK_STATUS(cairn_store_put(store, Key("k"), &view, NULL, &status), CAIRN_INVALID_ARGUMENT,
               "63");
  CHECK_STATUS(cairn_store_put_from(store, NULL, 2, NULL, NULL, NULL, &status),
               CAIRN_INVALID_ARGUMENT, "requests is NULL");
  CHECK_STATUS(cairn_store_get_async(store, NULL, 0, NULL, NULL, 0, &status),
               CAIRN_INVALID_ARGUMENT, "queue is NULL");
  struct cairn_stats stats;
  stats.struct_bytes = 3;
  CHECK_STATUS(cairn_store_stats(store, &stats, &status), CAIRN_INVALID_ARGUMENT, "struct_bytes");
  cairn_store_destroy(store);
  cairn_store_destroy(NULL);
  cairn_queue_destroy(NULL);
  cairn_handle_release(NULL);
  cairn_lease_release(NULL);
}

static void AnOlderCallersOptionsAreUnderstood(void) {
  CHECK(cairn_abi_version() == CAIRN_ABI_VERSION);
  // As if the struct had ended behind the field `log`; what lies beyond is not the library's.
  struct cairn_store_options options;
  memset(&options, 0xff, sizeof options);
  const size_t older = offsetof(struct cairn_store_options, log);
  cairn_store_options_init(&options, older);
  CHECK(options.struct_bytes == older && options.io_threads == UINT32_MAX);
  options.path = directory;
  options.l2_bytes_max = 16 * kMiB;
  options.l3_bytes_max = 64 * kMiB;
  struct cairn_store* store = NULL;
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_OK, "");
  struct cairn_stats stats;
  memset(&stats, 0xff, sizeof stats);
  stats.struct_bytes = offsetof(struct cairn_stats, puts);
  CHECK_STATUS(cairn_store_stats(store, &stats, &status), CAIRN_OK, "");
  CHECK(stats.l3.bytes_max > 0 && stats.puts == UINT64_MAX);
  cairn_store_destroy(store);
}

static void SharesOfClassesAreChecked(void) {
  struct cairn_store_options options;
  cairn_store_options_init(&options, sizeof options);
  CHECK(options.l2_class_shares.min[CAIRN_KV] == 0 && options.l2_class_shares.max[CAIRN_KV] == 1);
  options.path = directory;
  options.l2_bytes_max = 16 * kMiB;
  options.l3_bytes_max = 64 * kMiB;
  options.l3_class_shares.min[CAIRN_VISION] = 2;
  struct cairn_store* store = NULL;
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_INVALID_ARGUMENT,
               "l3_class_shares");
  options.l3_class_shares.min[CAIRN_VISION] = 0.25;
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_OK, "");
  cairn_store_destroy(store);
}

// Devices of the host stand in for both.
static void AClosedStoreSaysSo(void) {
  struct cairn_store* store = Open();
  char bytes[64] = {1};
  const struct cairn_view view = View(bytes, 64);
  CHECK_STATUS(cairn_store_put(store, Key("k"), &view, NULL, &status), CAIRN_OK, "");
  struct cairn_handle* handle = NULL;
  CHECK_STATUS(cairn_store_get(store, Key("k"), NULL, &handle, &status), CAIRN_OK, "");
  CHECK_STATUS(cairn_store_close(store, &status), CAIRN_OK, "");
  CHECK_STATUS(cairn_store_put(store, Key("k"), &view, NULL, &status), CAIRN_FAILED_PRECONDITION,
               "closed");
  CHECK_STATUS(cairn_store_flush(store, &status), CAIRN_FAILED_PRECONDITION, "closed");
  CHECK_STATUS(cairn_store_close(store, &status), CAIRN_OK, "");
  cairn_store_destroy(store);
  struct cairn_view found;
  cairn_handle_view(handle, &found);
  CHECK(memcmp(found.data, bytes, 64) == 0);  // It outlives its store.
  cairn_handle_release(handle);

  store = Open();
  CHECK_STATUS(cairn_store_get(store, Key("k"), NULL, &handle, &status), CAIRN_OK, "");
  CHECK(cairn_handle_found_at(handle) == CAIRN_L3_NVME);
  cairn_handle_release(handle);
  cairn_store_destroy(store);
}

int main(void) {
  const struct Case cases[] = {
      {"PutGetEraseAndStats", PutGetEraseAndStats},
      {"BatchesOnBorrowedMemory", BatchesOnBorrowedMemory},
      {"CompletionsThroughPoll", CompletionsThroughPoll},
      {"ScansAndPurges", ScansAndPurges},
      {"BadArgumentsAreNamed", BadArgumentsAreNamed},
      {"WeightsOfDataPathsAreRead", WeightsOfDataPathsAreRead},
      {"AnOlderCallersOptionsAreUnderstood", AnOlderCallersOptionsAreUnderstood},
      {"SharesOfClassesAreChecked", SharesOfClassesAreChecked},
      {"AClosedStoreSaysSo", AClosedStoreSaysSo}};
  RunCases(cases, sizeof cases / sizeof cases[0]);
  return 0;
}
