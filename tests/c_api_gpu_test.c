// The C interface where there are GPUs, for which the host stands in.

#define _POSIX_C_SOURCE 200809L

#include <stddef.h>
#include <time.h>

#include "tests/c_api_fixture.h"

static void ATensorIsHadOnEachGpu(void) {
  const int32_t gpus[] = {2, 0};
  struct cairn_store_options options = Options();
  CHECK(options.gpus == NULL && options.gpu_count == 0);
  options.l1_bytes_max = 4 * kMiB;
  options.gpu_count = 2;
  struct cairn_store* store = NULL;
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_INVALID_ARGUMENT, "gpus");
  options.gpus = gpus;
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_OK, "");
  char bytes[64] = {1};
  const struct cairn_view view = View(bytes, 64);
  CHECK_STATUS(cairn_store_put(store, Key("k"), &view, NULL, &status), CAIRN_OK, "");
  struct cairn_get_options get;
  cairn_get_options_init(&get, sizeof get);
  CHECK(get.gpu == -1);
  get.want = CAIRN_L1_GPU;
  for (int64_t gpu = -1; gpu <= 2; ++gpu) {
    get.gpu = gpu;
    struct cairn_handle* handle = NULL;
    if (gpu == 1) {
      CHECK_STATUS(cairn_store_get(store, Key("k"), &get, &handle, &status), CAIRN_INVALID_ARGUMENT,
                   "GPU 1 is none of the store's, 2, 0");
      continue;
    }
    CHECK_STATUS(cairn_store_get(store, Key("k"), &get, &handle, &status), CAIRN_OK, "");
    struct cairn_view found;
    cairn_handle_view(handle, &found);
    CHECK(found.device == (gpu == -1 ? 2 : gpu) && cairn_handle_level(handle) == CAIRN_L1_GPU);
    CHECK(memcmp(found.data, bytes, 64) == 0);
    cairn_handle_release(handle);
  }
  // A caller that knows no `gpu` gets the first.
  get.struct_bytes = offsetof(struct cairn_get_options, gpu);
  struct cairn_handle* handle = NULL;
  CHECK_STATUS(cairn_store_get(store, Key("k"), &get, &handle, &status), CAIRN_OK, "");
  cairn_handle_release(handle);
  cairn_store_destroy(store);
}

// A store with the GPUs 2 and 0.
static struct cairn_store* OpenOnTwoGpus(void) {
  const int32_t gpus[] = {2, 0};
  struct cairn_store_options options = Options();
  options.l1_bytes_max = 4 * kMiB;
  options.gpus = gpus;
  options.gpu_count = 2;
  struct cairn_store* store = NULL;
  CHECK_STATUS(cairn_store_open(&options, &store, &status), CAIRN_OK, "");
  return store;
}

static struct cairn_handle* GetOnGpu(struct cairn_store* store, const char* key, int64_t gpu) {
  struct cairn_get_options get;
  cairn_get_options_init(&get, sizeof get);
  get.want = CAIRN_L1_GPU;
  get.gpu = gpu;
  struct cairn_handle* handle = NULL;
  CHECK_STATUS(cairn_store_get(store, Key(key), &get, &handle, &status), CAIRN_OK, "");
  return handle;
}

// Until the tensor is in L1, ten seconds at most.
static void WaitForL1(struct cairn_store* store, const char* key) {
  struct cairn_info info;
  info.struct_bytes = sizeof info;
  for (int i = 0; i < 10000; ++i) {
    CHECK_STATUS(cairn_store_describe(store, Key(key), &info, &status), CAIRN_OK, "");
    if (info.in_l1) return;
    const struct timespec millisecond = {0, 1000000};
    nanosleep(&millisecond, NULL);
  }
  CHECK(!"in L1");
}

static void APrefetchGoesToTheGpuThatIsNamed(void) {
  struct cairn_store* store = OpenOnTwoGpus();
  char bytes[64] = {2};
  const struct cairn_view view = View(bytes, 64);
  const char* const names[] = {"soon", "due"};
  for (int i = 0; i < 2; ++i) {
    const struct cairn_key key = Key(names[i]);
    CHECK_STATUS(cairn_store_put(store, key, &view, NULL, &status), CAIRN_OK, "");
    if (i == 0) {
      CHECK(cairn_store_prefetch_to_gpu(store, &key, 1, 1) == 0);
      CHECK(cairn_store_prefetch_to_gpu(store, &key, 1, 0) == 1);
    } else {
      CHECK_STATUS(cairn_store_will_need_on_gpu(store, &key, 1, 1, 0, 0, NULL, &status),
                   CAIRN_INVALID_ARGUMENT, "GPU 1 is none of the store's, 2, 0");
      uint64_t token = 0;
      CHECK_STATUS(cairn_store_will_need_on_gpu(store, &key, 1, 0, 0, 0, &token, &status), CAIRN_OK,
                   "");
    }
    WaitForL1(store, names[i]);
    struct cairn_handle* const handle = GetOnGpu(store, names[i], 0);
    CHECK(cairn_handle_found_at(handle) == CAIRN_L1_GPU);
    cairn_handle_release(handle);
  }
  CHECK(cairn_store_prefetch_to_gpu(NULL, NULL, 0, 0) == 0);
  cairn_store_destroy(store);
}

static void StreamsAreForgotten(void) {
  struct cairn_store* store = OpenOnTwoGpus();
  char bytes[64] = {3};
  const struct cairn_view view = View(bytes, 64);
  CHECK_STATUS(cairn_store_put(store, Key("k"), &view, NULL, &status), CAIRN_OK, "");
  struct cairn_stream stream = {NULL, 2};
  CHECK_STATUS(cairn_store_forget_stream(store, stream, &status), CAIRN_OK, "");
  CHECK_STATUS(cairn_handle_release_after(GetOnGpu(store, "k", 2), stream, &status), CAIRN_OK, "");
  CHECK_STATUS(cairn_store_forget_stream(store, stream, &status), CAIRN_OK, "");
  stream.device = 1;
  CHECK_STATUS(cairn_store_forget_stream(store, stream, &status), CAIRN_INVALID_ARGUMENT, "GPU 1");
  CHECK_STATUS(cairn_store_forget_stream(NULL, stream, &status), CAIRN_INVALID_ARGUMENT, "store");
  cairn_store_destroy(store);
}

// Page first: block by block, and in each layer by layer. Every piece tells which it is.
enum { kBlocks = 4, kLayers = 3, kPieceBytes = 64, kKvBytes = kBlocks * kLayers * kPieceBytes };

static void FillPages(char* pages) {
  for (int i = 0; i < kBlocks * kLayers; ++i) memset(pages + i * kPieceBytes, i + 1, kPieceBytes);
}

static void CheckLayers(const char* layers) {
  for (int i = 0; i < kBlocks * kLayers; ++i) {
    const int page = i % kBlocks * kLayers + i / kBlocks;
    for (int j = 0; j < kPieceBytes; ++j) CHECK(layers[i * kPieceBytes + j] == page + 1);
  }
}

static struct cairn_kv_end End(void* data, struct cairn_kv_pitch pitch, uint32_t memory_kind) {
  const struct cairn_kv_end end = {data, pitch, memory_kind};
  return end;
}

static void KvBlocksAreTurnedInTheHostsMemory(void) {
  const struct cairn_kv_shape shape = {kBlocks, kLayers, kPieceBytes};
  const struct cairn_kv_pitch page_first = cairn_kv_page_first(shape);
  const struct cairn_kv_pitch layer_first = cairn_kv_layer_first(shape);
  CHECK(page_first.block_bytes == kLayers * kPieceBytes && page_first.layer_bytes == kPieceBytes);
  CHECK(layer_first.block_bytes == kPieceBytes && layer_first.layer_bytes == kBlocks * kPieceBytes);
  char pages[kKvBytes];
  char layers[kKvBytes];
  FillPages(pages);
  const struct cairn_kv_end source = End(pages, page_first, CAIRN_HOST);
  struct cairn_kv_end target = End(layers, layer_first, CAIRN_HOST);
  CHECK_STATUS(cairn_kv_copy_blocks(shape, target, source, &status), CAIRN_OK, "");
  CheckLayers(layers);
  target.pitch.block_bytes = 1;
  CHECK_STATUS(cairn_kv_copy_blocks(shape, target, source, &status), CAIRN_INVALID_ARGUMENT, "");
  target = End(layers, layer_first, CAIRN_GPU);
  CHECK_STATUS(cairn_kv_copy_blocks(shape, target, source, &status), CAIRN_INVALID_ARGUMENT,
               "target is a GPU's memory");
  target.memory_kind = 9;
  CHECK_STATUS(cairn_kv_copy_blocks(shape, target, source, &status), CAIRN_INVALID_ARGUMENT,
               "memory_kind is 9");
  target = End(NULL, layer_first, CAIRN_HOST);
  CHECK_STATUS(cairn_kv_copy_blocks(shape, target, source, &status), CAIRN_INVALID_ARGUMENT,
               "target.data is NULL");
}

static void KvBlocksAreTurnedBetweenAGpuAndTheHost(void) {
  struct cairn_store* store = OpenOnTwoGpus();
  char pages[kKvBytes];
  FillPages(pages);
  const struct cairn_view view = View(pages, kKvBytes);
  CHECK_STATUS(cairn_store_put(store, Key("k"), &view, NULL, &status), CAIRN_OK, "");
  struct cairn_handle* const handle = GetOnGpu(store, "k", 2);
  struct cairn_view found;
  cairn_handle_view(handle, &found);

  const struct cairn_kv_shape shape = {kBlocks, kLayers, kPieceBytes};
  struct cairn_stream stream = {NULL, 2};
  char layers[kKvBytes];
  // Only read.
  struct cairn_kv_end source = End((void*)found.data, cairn_kv_page_first(shape), CAIRN_GPU);
  const struct cairn_kv_end target = End(layers, cairn_kv_layer_first(shape), CAIRN_HOST);
  CHECK_STATUS(cairn_store_copy_kv_blocks(store, stream, shape, target, source, &status), CAIRN_OK,
               "");
  // A put of what is behind that on the stream ends when both have been.
  found.memory_kind = CAIRN_GPU;
  struct cairn_put_options put;
  cairn_put_options_init(&put, sizeof put);
  put.producer = &stream;
  CHECK_STATUS(cairn_store_put(store, Key("behind"), &found, &put, &status), CAIRN_OK, "");
  CheckLayers(layers);

  source.memory_kind = CAIRN_HOST;
  CHECK_STATUS(cairn_store_copy_kv_blocks(store, stream, shape, target, source, &status),
               CAIRN_INVALID_ARGUMENT, "");
  stream.device = 1;
  CHECK_STATUS(cairn_store_copy_kv_blocks(store, stream, shape, target, source, &status),
               CAIRN_INVALID_ARGUMENT, "GPU 1");
  CHECK_STATUS(cairn_store_copy_kv_blocks(NULL, stream, shape, target, source, &status),
               CAIRN_INVALID_ARGUMENT, "store");
  cairn_handle_release(handle);
  cairn_store_destroy(store);
}

int main(void) {
  const struct Case cases[] = {
      {"ATensorIsHadOnEachGpu", ATensorIsHadOnEachGpu},
      {"APrefetchGoesToTheGpuThatIsNamed", APrefetchGoesToTheGpuThatIsNamed},
      {"StreamsAreForgotten", StreamsAreForgotten},
      {"KvBlocksAreTurnedInTheHostsMemory", KvBlocksAreTurnedInTheHostsMemory},
      {"KvBlocksAreTurnedBetweenAGpuAndTheHost", KvBlocksAreTurnedBetweenAGpuAndTheHost}};
  RunCases(cases, sizeof cases / sizeof cases[0]);
  return 0;
}
