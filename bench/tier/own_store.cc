#include "bench/tier/own_store.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string_view>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cairn/store.h"
#include "io/file.h"
#include "io/store_layout.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tiers/arena.h"
#include "tools/offload/block_content.h"
#include "tools/offload/interrupt.h"
#include "tools/offload/report.h"

namespace cairn::bench {
namespace {

constexpr const char* kMarkTitle = "cairn-tier-bench-store-1";
constexpr uint64_t kWriteBytes = uint64_t{4} << 20;

absl::Status CreateStore(const std::string& path, uint64_t l3_bytes) {
  StoreOptions options;
  options.path = path;
  options.l2_bytes_max = StoreOptions::kL2BytesMin;
  options.l3_bytes_max = l3_bytes;
  options.device = DeviceKind::kHost;
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, Store::Open(options));
  return store->Close();
}

absl::Status RemoveStore(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot remove ", path, ": ", error.message()));
}

}  // namespace

std::string MarkPath(const std::string& store_path) { return store_path + ".mark"; }

absl::StatusOr<OwnStoreMark> ReadMark(const std::string& store_path) {
  CAIRN_ASSIGN_OR_RETURN(const std::string text, ReadStart(MarkPath(store_path), 4096));
  std::istringstream words(text);
  std::string title;
  OwnStoreMark mark;
  if (words >> title >> mark.l3_bytes >> mark.prewritten >> mark.content && title == kMarkTitle) {
    return mark;
  }
  return absl::FailedPreconditionError(
      absl::StrCat(MarkPath(store_path), " is no mark of tier-bench's"));
}

absl::Status WriteMark(const std::string& store_path, const OwnStoreMark& mark) {
  return offload::WriteAtomically(
      MarkPath(store_path), absl::StrCat(kMarkTitle, " ", mark.l3_bytes, " ",
                                         mark.prewritten ? 1 : 0, " ", mark.content ? 1 : 0, "\n"));
}

bool IsStore(const std::string& directory) {
  std::error_code error;
  return std::filesystem::exists(absl::StrCat(directory, "/", kSuperblockName), error);
}

absl::StatusOr<OwnStoreMark> PrepareOwnStore(const std::string& path, uint64_t l3_bytes) {
  absl::StatusOr<OwnStoreMark> found = ReadMark(path);
  if (!found.ok() && !absl::IsNotFound(found.status())) return found.status();
  std::error_code error;
  if (std::filesystem::exists(path, error) && !found.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, " is there and has no mark of tier-bench's (", MarkPath(path), "): not touched"));
  }
  if (found.ok() && found->prewritten && found->l3_bytes >= l3_bytes && IsStore(path))
    return *found;

  CAIRN_RETURN_IF_ERROR(MakeDirectory(std::filesystem::path(path).parent_path().string()).status());
  CAIRN_RETURN_IF_ERROR(RemoveStore(path));
  OwnStoreMark mark = {.l3_bytes = l3_bytes};
  CAIRN_RETURN_IF_ERROR(WriteMark(path, mark));
  CAIRN_RETURN_IF_ERROR(CreateStore(path, l3_bytes));
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<StoreFiles> files,
                         StoreFiles::Open({.path = path, .bytes_max = l3_bytes}));
  CAIRN_RETURN_IF_ERROR(WriteContent(*files));
  mark.prewritten = true;
  mark.content = true;
  CAIRN_RETURN_IF_ERROR(WriteMark(path, mark));
  return mark;
}

void FillContent(uint64_t l3_offset, absl::Span<std::byte> target) {
  for (size_t done = 0; done < target.size(); done += kBlockBytes) {
    offload::FillBlock(ContentId(l3_offset + done), target.subspan(done, kBlockBytes));
  }
}

absl::Status WriteContent(const StoreFiles& files) {
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Arena> arena, Arena::Create(kWriteBytes));
  for (size_t i = 0; i < files.files().size(); ++i) {
    const StoreFiles::File& file = files.files()[i];
    if (file.fd < 0) continue;
    for (uint64_t offset = kBlockBytes; offset < file.bytes;) {
      if (offload::Interrupted())
        return absl::CancelledError("interrupted while files were filled");
      const uint64_t bytes = std::min(kWriteBytes, file.bytes - offset) / kBlockBytes * kBlockBytes;
      if (bytes == 0) break;
      const absl::Span<std::byte> content = arena->memory().first(bytes);
      FillContent(i * files.data_file_bytes() + offset, content);
      CAIRN_RETURN_IF_ERROR(WriteAt(file.fd, offset,
                                    {reinterpret_cast<const char*>(content.data()), content.size()},
                                    "a data file"));
      offset += bytes;
    }
    CAIRN_RETURN_IF_ERROR(SyncFile(file.fd, "a data file"));
  }
  return absl::OkStatus();
}

}  // namespace cairn::bench
