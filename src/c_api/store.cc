// Open, close, and the verbs on one tensor.

#include <string>

#include "src/base/status_macros.h"
#include "src/c_api/call.h"

using cairn::c_api::CheckRequired;
using cairn::c_api::Guarded;
using cairn::c_api::ReadKey;
using cairn::c_api::ReadOptions;

int cairn_store_open(const cairn_store_options* options, cairn_store** store,
                     cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{static_cast<const void*>(store), "store"}}));
    cairn::StoreOptions read;
    CAIRN_RETURN_IF_ERROR(ReadOptions(options, &read));
    CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<cairn::Store> opened, cairn::Store::Open(read));
    *store = std::make_unique<cairn_store>(cairn_store{std::move(opened)}).release();
    return absl::OkStatus();
  });
}

int cairn_store_close(cairn_store* store, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}}));
    return store->store->Close();
  });
}

void cairn_store_destroy(cairn_store* store) {
  Guarded(nullptr, [&] {
    delete store;
    return absl::OkStatus();
  });
}

int cairn_store_put(cairn_store* store, cairn_key key, const cairn_view* view,
                    const cairn_put_options* options, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}, {view, "view"}}));
    std::string_view name;
    CAIRN_RETURN_IF_ERROR(ReadKey(key, &name));
    cairn::PutOptions read;
    CAIRN_RETURN_IF_ERROR(ReadOptions(options, &read));
    cairn::TensorView tensor;
    tensor.meta = cairn::c_api::ReadMeta(view->meta);
    tensor.data = static_cast<const std::byte*>(view->data);
    tensor.size = view->size;
    tensor.device = view->device;
    CAIRN_RETURN_IF_ERROR(cairn::c_api::ReadEnum("memory_kind", view->memory_kind,
                                                 cairn::MemoryKind::kManaged, &tensor.kind));
    return store->store->Put(name, tensor, read);
  });
}

int cairn_store_get(cairn_store* store, cairn_key key, const cairn_get_options* options,
                    cairn_handle** handle, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(
        CheckRequired({{store, "store"}, {static_cast<const void*>(handle), "handle"}}));
    std::string_view name;
    CAIRN_RETURN_IF_ERROR(ReadKey(key, &name));
    cairn::GetOptions read;
    CAIRN_RETURN_IF_ERROR(ReadOptions(options, &read));
    CAIRN_ASSIGN_OR_RETURN(cairn::TensorHandle found, store->store->Get(name, read));
    *handle = cairn::c_api::NewHandle(std::move(found));
    return absl::OkStatus();
  });
}

int cairn_store_forget_stream(cairn_store* store, cairn_stream stream, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}}));
    return store->store->ForgetStream({.stream = stream.stream, .device = stream.device});
  });
}

int cairn_store_evict(cairn_store* store, cairn_key key, uint32_t keep, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}}));
    std::string_view name;
    CAIRN_RETURN_IF_ERROR(ReadKey(key, &name));
    cairn::Level level = cairn::Level::kL3Nvme;
    CAIRN_RETURN_IF_ERROR(cairn::c_api::ReadEnum("keep", keep, cairn::Level::kL3Nvme, &level));
    if (keep == 0) return absl::InvalidArgumentError("keep is 0: a level from 1 to 3");
    return store->store->Evict(name, level);
  });
}

int cairn_store_erase(cairn_store* store, cairn_key key, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}}));
    std::string_view name;
    CAIRN_RETURN_IF_ERROR(ReadKey(key, &name));
    return store->store->Erase(name);
  });
}

int cairn_store_erase_prefix(cairn_store* store, cairn_key prefix, uint64_t* erased,
                             cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}}));
    std::string_view name;
    CAIRN_RETURN_IF_ERROR(ReadKey(prefix, &name));
    CAIRN_ASSIGN_OR_RETURN(const uint64_t count, store->store->ErasePrefix(name));
    if (erased != nullptr) *erased = count;
    return absl::OkStatus();
  });
}

int cairn_store_purge_fingerprint(cairn_store* store, const char* fingerprint, uint64_t* erased,
                                  cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}, {fingerprint, "fingerprint"}}));
    CAIRN_ASSIGN_OR_RETURN(const uint64_t count, store->store->PurgeFingerprint(fingerprint));
    if (erased != nullptr) *erased = count;
    return absl::OkStatus();
  });
}

int cairn_store_flush(cairn_store* store, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}}));
    return store->store->Flush();
  });
}

int cairn_store_register_memory(cairn_store* store, void* memory, size_t bytes,
                                cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}, {memory, "memory"}}));
    return store->store->RegisterMemory({static_cast<std::byte*>(memory), bytes});
  });
}

int cairn_store_unregister_memory(cairn_store* store, void* memory, size_t bytes,
                                  cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}, {memory, "memory"}}));
    return store->store->UnregisterMemory({static_cast<std::byte*>(memory), bytes});
  });
}

void cairn_handle_view(const cairn_handle* handle, cairn_view* view) {
  const cairn::TensorView& tensor = handle->handle.view();
  view->meta = cairn::c_api::WriteMeta(tensor.meta);
  view->data = tensor.data;
  view->size = tensor.size;
  view->memory_kind = static_cast<uint32_t>(tensor.kind);
  view->device = tensor.device;
}

uint32_t cairn_handle_level(const cairn_handle* handle) {
  return static_cast<uint32_t>(handle->handle.level());
}

uint32_t cairn_handle_found_at(const cairn_handle* handle) {
  return static_cast<uint32_t>(handle->handle.found_at());
}

int cairn_handle_copy_to(const cairn_handle* handle, void* target, uint64_t bytes,
                         cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{handle, "handle"}, {target, "target"}}));
    return handle->handle.CopyTo({static_cast<std::byte*>(target), bytes});
  });
}

int cairn_handle_release_after(cairn_handle* handle, cairn_stream stream, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{handle, "handle"}}));
    CAIRN_RETURN_IF_ERROR(
        handle->handle.ReleaseAfter({.stream = stream.stream, .device = stream.device}));
    delete handle;
    return absl::OkStatus();
  });
}

void cairn_handle_release(cairn_handle* handle) {
  Guarded(nullptr, [&] {
    delete handle;
    return absl::OkStatus();
  });
}
