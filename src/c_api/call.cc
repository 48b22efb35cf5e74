#include "src/c_api/call.h"

#include <algorithm>
#include <cstring>

#include "src/base/strings.h"

namespace cairn::c_api {

void CopyText(std::string_view text, char* buffer, size_t size) noexcept {
  if (buffer == nullptr || size == 0) return;
  const size_t copied = std::min(text.size(), size - 1);
  if (copied > 0) std::memcpy(buffer, text.data(), copied);
  buffer[copied] = 0;
}

int Report(int code, std::string_view text, cairn_status* out) noexcept {
  if (out == nullptr) return code;
  out->code = code;
  CopyText(text, out->message, sizeof(out->message));
  return code;
}

int Report(const absl::Status& status, cairn_status* out) noexcept {
  return Report(static_cast<int>(status.code()), ToStd(status.message()), out);
}

absl::Status CheckRequired(std::initializer_list<Required> arguments) {
  for (const Required& argument : arguments) {
    if (argument.pointer == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(argument.name, " is NULL"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadTime(const char* name, int64_t time_us, absl::Duration* target) {
  if (time_us < 0) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is ", time_us, ": negative"));
  }
  *target = time_us == CAIRN_FOREVER ? absl::InfiniteDuration() : absl::Microseconds(time_us);
  return absl::OkStatus();
}

absl::Status ReadKey(cairn_key key, std::string_view* target) {
  if (key.data == nullptr && key.size > 0) {
    return absl::InvalidArgumentError(absl::StrCat("a key of ", key.size, " bytes is NULL"));
  }
  *target = {static_cast<const char*>(key.data), key.size};
  return absl::OkStatus();
}

TensorMeta ReadMeta(const cairn_meta& meta) {
  TensorMeta target;
  target.dtype = static_cast<DType>(meta.dtype);
  target.rank = meta.rank;
  std::copy(std::begin(meta.dims), std::end(meta.dims), target.dims.begin());
  return target;
}

cairn_meta WriteMeta(const TensorMeta& meta) {
  cairn_meta target = {};
  target.dtype = static_cast<uint8_t>(meta.dtype);
  target.rank = meta.rank;
  std::copy(meta.dims.begin(), meta.dims.end(), std::begin(target.dims));
  return target;
}

int64_t WriteTime(absl::Duration time) {
  return time == absl::InfiniteDuration() ? CAIRN_FOREVER : absl::ToInt64Microseconds(time);
}

cairn_info WriteInfo(const TensorInfo& info) {
  cairn_info target = {};
  target.struct_bytes = sizeof(target);
  target.meta = WriteMeta(info.meta);
  target.bytes = info.bytes;
  target.expires_unix_us =
      info.expires == absl::InfiniteFuture() ? CAIRN_FOREVER : absl::ToUnixMicros(info.expires);
  target.tensor_class = static_cast<uint32_t>(info.tensor_class);
  target.retention = static_cast<uint32_t>(info.retention);
  target.in_l1 = info.in_l1 ? 1 : 0;
  target.in_l2 = info.in_l2 ? 1 : 0;
  target.in_l3 = info.in_l3 ? 1 : 0;
  target.quarantined = info.quarantined ? 1 : 0;
  target.arrival_us = WriteTime(info.arrival);
  return target;
}

}  // namespace cairn::c_api

uint32_t cairn_abi_version() { return CAIRN_ABI_VERSION; }
