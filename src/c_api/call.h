#pragma once

// What every function of cairn.h is made of: a body that returns an absl::Status, and one place
// where that becomes a code and a text, and where nothing is let through that was thrown.

#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cairn/cairn.h"
#include "cairn/store.h"

struct cairn_store {
  std::unique_ptr<cairn::Store> store;
};
struct cairn_handle {
  cairn::TensorHandle handle;
};
struct cairn_lease {
  cairn::Lease lease;
  absl::Duration arrival;
};
struct cairn_queue {
  std::unique_ptr<cairn::CompletionQueue> queue;
};

namespace cairn::c_api {

// As much of the text as `size` bytes hold with a 0 behind it; nothing where there are none.
void CopyText(std::string_view text, char* buffer, size_t size) noexcept;

// Writes code and text where `out` is not null, and returns the code. Allocates nothing.
int Report(int code, std::string_view text, cairn_status* out) noexcept;
int Report(const absl::Status& status, cairn_status* out) noexcept;

// Runs a body that returns absl::Status. What a library below throws (no memory, no thread) becomes
// a code.
template <typename Body>
int Guarded(cairn_status* out, Body body) noexcept {
  try {
    return Report(body(), out);
  } catch (const std::bad_alloc&) {
    return Report(CAIRN_RESOURCE_EXHAUSTED, "no memory for this call", out);
  } catch (const std::exception& error) {
    return Report(CAIRN_INTERNAL, error.what(), out);
  } catch (...) {
    return Report(CAIRN_INTERNAL, "an unknown exception", out);
  }
}

// kInvalidArgument for the first of {pointer, name} that is null.
struct Required {
  const void* pointer;
  const char* name;
};
absl::Status CheckRequired(std::initializer_list<Required> arguments);

// An enum of C as that of C++, whose values are 0 or 1 to `last`.
template <typename Enum>
absl::Status ReadEnum(const char* name, uint32_t value, Enum last, Enum* target) {
  if (value > static_cast<uint32_t>(last)) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is ", value, ": at most ", static_cast<uint32_t>(last)));
  }
  *target = static_cast<Enum>(value);
  return absl::OkStatus();
}

// Microseconds; CAIRN_FOREVER: no end.
absl::Status ReadTime(const char* name, int64_t time_us, absl::Duration* target);
int64_t WriteTime(absl::Duration time);

absl::Status ReadKey(cairn_key key, std::string_view* target);
absl::Status ReadOptions(const cairn_store_options* given, StoreOptions* target);
absl::Status ReadOptions(const cairn_put_options* given, PutOptions* target);
absl::Status ReadOptions(const cairn_get_options* given, GetOptions* target);

TensorMeta ReadMeta(const cairn_meta& meta);
cairn_meta WriteMeta(const TensorMeta& meta);
cairn_info WriteInfo(const TensorInfo& info);

// A handle for the caller to release.
inline cairn_handle* NewHandle(TensorHandle handle) {
  return std::make_unique<cairn_handle>(cairn_handle{std::move(handle)}).release();
}

}  // namespace cairn::c_api
