// KV blocks from one order to another, in the host's memory and a GPU's.

#include "cairn/kv_layout.h"

#include "src/base/status_macros.h"
#include "src/c_api/call.h"

namespace cairn::c_api {
namespace {

KvShape ReadShape(const cairn_kv_shape& shape) {
  return {.blocks = shape.blocks, .layers = shape.layers, .piece_bytes = shape.piece_bytes};
}

KvPitch ReadPitch(const cairn_kv_pitch& pitch) {
  return {.block_bytes = pitch.block_bytes, .layer_bytes = pitch.layer_bytes};
}

cairn_kv_pitch WritePitch(const KvPitch& pitch) {
  return {.block_bytes = pitch.block_bytes, .layer_bytes = pitch.layer_bytes};
}

// KvTarget or KvSource.
template <typename End>
absl::Status ReadEnd(const char* name, const cairn_kv_end& given, End* target) {
  CAIRN_RETURN_IF_ERROR(CheckRequired({{given.data, name}}));
  target->data = static_cast<std::byte*>(given.data);
  target->pitch = ReadPitch(given.pitch);
  return ReadEnum("memory_kind", given.memory_kind, MemoryKind::kManaged, &target->kind);
}

absl::Status CheckHost(const char* name, MemoryKind kind) {
  if (kind != MemoryKind::kGpu) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is a GPU's memory: cairn_store_copy_kv_blocks copies that"));
}

}  // namespace
}  // namespace cairn::c_api

using cairn::c_api::Guarded;

cairn_kv_pitch cairn_kv_page_first(cairn_kv_shape shape) {
  return cairn::c_api::WritePitch(cairn::PageFirst(cairn::c_api::ReadShape(shape)));
}

cairn_kv_pitch cairn_kv_layer_first(cairn_kv_shape shape) {
  return cairn::c_api::WritePitch(cairn::LayerFirst(cairn::c_api::ReadShape(shape)));
}

int cairn_kv_copy_blocks(cairn_kv_shape shape, cairn_kv_end target, cairn_kv_end source,
                         cairn_status* status) {
  return Guarded(status, [&] {
    cairn::KvTarget to;
    CAIRN_RETURN_IF_ERROR(cairn::c_api::ReadEnd("target.data", target, &to));
    CAIRN_RETURN_IF_ERROR(cairn::c_api::CheckHost("target", to.kind));
    cairn::KvSource from;
    CAIRN_RETURN_IF_ERROR(cairn::c_api::ReadEnd("source.data", source, &from));
    CAIRN_RETURN_IF_ERROR(cairn::c_api::CheckHost("source", from.kind));
    return cairn::CopyKvBlocks(cairn::c_api::ReadShape(shape), to.data, to.pitch, from.data,
                               from.pitch);
  });
}

int cairn_store_copy_kv_blocks(cairn_store* store, cairn_stream stream, cairn_kv_shape shape,
                               cairn_kv_end target, cairn_kv_end source, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(cairn::c_api::CheckRequired({{store, "store"}}));
    cairn::KvTarget to;
    CAIRN_RETURN_IF_ERROR(cairn::c_api::ReadEnd("target.data", target, &to));
    cairn::KvSource from;
    CAIRN_RETURN_IF_ERROR(cairn::c_api::ReadEnd("source.data", source, &from));
    return store->store->CopyKvBlocks({.stream = stream.stream, .device = stream.device},
                                      cairn::c_api::ReadShape(shape), to, from);
  });
}
