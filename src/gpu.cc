#include "src/gpu.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "src/base/status_macros.h"
#include "src/stream_releases.h"

namespace cairn {

Gpu::Gpu(std::unique_ptr<Device> its_device, std::function<void()> room_made)
    : device(std::move(its_device)), line(std::move(room_made)) {}

Gpu::~Gpu() = default;

absl::StatusOr<Gpu*> FindGpu(const Gpus& gpus, std::optional<int> ordinal,
                             std::optional<StreamRef> stream) {
  if (!ordinal.has_value() && stream.has_value()) ordinal = stream->device;
  if (!ordinal.has_value()) return gpus.front().get();
  for (const std::unique_ptr<Gpu>& gpu : gpus) {
    if (gpu->ordinal() != *ordinal) continue;
    if (stream.has_value()) CAIRN_RETURN_IF_ERROR(ValidateStream(*stream, *ordinal));
    return gpu.get();
  }
  const auto append = [](std::string* text, const std::unique_ptr<Gpu>& gpu) {
    absl::StrAppend(text, gpu->ordinal());
  };
  return absl::InvalidArgumentError(absl::StrCat("GPU ", *ordinal, " is none of the store's, ",
                                                 absl::StrJoin(gpus, ", ", append),
                                                 " (StoreOptions::gpus)"));
}

}  // namespace cairn
