// What a program outside of the project needs of Cairn: one header, one library.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cairn/store.h"

namespace {

absl::Status PutAndGet(const std::string& path) {
  cairn::StoreOptions options;
  options.path = path;
  options.device = cairn::DeviceKind::kHost;
  options.l2_bytes_max = cairn::StoreOptions::kL2BytesMin;
  options.l3_bytes_max = uint64_t{64} << 20;
  absl::StatusOr<std::unique_ptr<cairn::Store>> store = cairn::Store::Open(options);
  if (!store.ok()) return store.status();

  const std::vector<std::byte> bytes(1 << 20, std::byte{0x5a});
  cairn::TensorView view;
  view.meta = cairn::TensorMeta::Of(cairn::DType::kBf16, {512, 1024});
  view.data = bytes.data();
  view.size = bytes.size();
  cairn::PutOptions put;
  put.durability = cairn::Durability::kFlushed;
  if (absl::Status status = (*store)->Put("block", view, put); !status.ok()) return status;

  absl::StatusOr<cairn::TensorHandle> handle = (*store)->Get("block", {});
  if (!handle.ok()) return handle.status();
  const cairn::TensorView& stored = handle->view();
  if (!(stored.meta == view.meta) || stored.size != view.size ||
      std::memcmp(stored.data, bytes.data(), bytes.size()) != 0) {
    return absl::DataLossError("other bytes came back");
  }
  std::printf("%s: %llu bytes\n", stored.meta.ToString().c_str(),
              static_cast<unsigned long long>(stored.size));
  return absl::OkStatus();
}

}  // namespace

int main() {
  std::string path = std::filesystem::temp_directory_path() / "cairn-consumer-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) {
    std::perror(path.c_str());
    return 1;
  }
  const absl::Status status = PutAndGet(path);
  std::filesystem::remove_all(path);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
