// A store filled once and then overwritten, pass by pass, every tensor in each: whether the first
// fill is as fast as the later ones, whether rates hold, what is written per byte stored, and
// whether the store's bytes on disk ever pass its bound.
//
//   overwrite_bench --directory DIR [--l3 BYTES] [--tensor-bytes BYTES] [--passes N] [--prewrite]
//
// At the end every tensor is read back and compared. Exit status: 0, 1 the store failed, gave other
// bytes back or took more than its bound, 2 wrong use.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/peers/content.h"
#include "bench/peers/usage.h"
#include "cairn/store.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tiers/arena.h"

namespace cairn::peers {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kBatchBytes = 16 * kMiB;
constexpr uint64_t kBatchTensorsMax = 1024;

struct Arguments {
  std::string directory;
  uint64_t l3_bytes = uint64_t{8} << 30;
  uint64_t tensor_bytes = kMiB;
  int passes = 10;
  double share = 0.9;
  bool prewrite = false;
};

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

absl::Status FirstError(const std::vector<absl::Status>& statuses) {
  for (const absl::Status& status : statuses) CAIRN_RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

class Overwriting {
 public:
  explicit Overwriting(const Arguments& arguments)
      : arguments_(arguments),
        batch_(std::clamp<uint64_t>(kBatchBytes / arguments.tensor_bytes, 1, kBatchTensorsMax)) {}

  absl::Status Run() {
    CAIRN_RETURN_IF_ERROR(Open());
    std::printf("%llu tensors of %s, %d passes; opened in %.2f s%s\n\n",
                static_cast<unsigned long long>(tensors_),
                FormatBytes(arguments_.tensor_bytes).c_str(), arguments_.passes, open_s_,
                arguments_.prewrite ? ", written once meanwhile" : "");
    std::printf(
        "| pass | GB/s | bytes on disk, most | of the bound | written per byte stored |\n"
        "|---|---|---|---|---|\n");
    for (int pass = 1; pass <= arguments_.passes; ++pass) CAIRN_RETURN_IF_ERROR(PutAll(pass));
    CAIRN_RETURN_IF_ERROR(CompareAll());
    Summarize();
    CAIRN_RETURN_IF_ERROR(store_->UnregisterMemory(arena_->memory()));
    CAIRN_RETURN_IF_ERROR(store_->Close());
    if (bytes_on_disk_max_ <= arguments_.l3_bytes) return absl::OkStatus();
    return absl::InternalError(absl::StrCat(bytes_on_disk_max_, " bytes on disk: more than the ",
                                            arguments_.l3_bytes, " allowed"));
  }

 private:
  absl::Status Open() {
    CAIRN_ASSIGN_OR_RETURN(arena_, Arena::Create(batch_ * arguments_.tensor_bytes));
    for (uint64_t i = 0; i < batch_; ++i) FillContent(i, Slot(i));
    StoreOptions options;
    options.path = arguments_.directory;
    options.l2_bytes_max = 64 * kMiB;
    options.l3_bytes_max = arguments_.l3_bytes;
    options.l3_prewrite = arguments_.prewrite;
    // Measured is the store, not how it spares the drive.
    options.l3_write_bytes_per_day = StoreOptions::kL3WritesUnlimited;
    options.device = DeviceKind::kHost;
    // What is overwritten next is what leaves first, where the room of both is needed.
    options.eviction = EvictionKind::kLru;
    const Clock::time_point start = Clock::now();
    CAIRN_ASSIGN_OR_RETURN(store_, Store::Open(options));
    open_s_ = SecondsSince(start);
    constexpr uint64_t kHeaderBytes = 4096;
    const double room = static_cast<double>(store_->Stats().l3.bytes_max) * arguments_.share;
    tensors_ = static_cast<uint64_t>(room) / (arguments_.tensor_bytes + kHeaderBytes);
    return store_->RegisterMemory(arena_->memory());
  }

  absl::Span<std::byte> Slot(uint64_t i) const {
    return arena_->memory().subspan(i * arguments_.tensor_bytes, arguments_.tensor_bytes);
  }

  absl::Status PutAll(int pass) {
    const Usage before = UsageNow();
    uint64_t bytes_on_disk = 0;
    double seconds = 0;
    for (uint64_t first = 0; first < tensors_; first += batch_) {
      const Clock::time_point start = Clock::now();
      CAIRN_RETURN_IF_ERROR(PutBatch(first, std::min(batch_, tensors_ - first)));
      seconds += SecondsSince(start);
      if (first / batch_ % 16 == 0) {
        bytes_on_disk = std::max(bytes_on_disk, BytesOnDisk(arguments_.directory));
      }
    }
    const auto stored = static_cast<double>(tensors_ * arguments_.tensor_bytes);
    const uint64_t written = UsageNow().device_bytes_written - before.device_bytes_written;
    bytes_on_disk_max_ = std::max(bytes_on_disk_max_, bytes_on_disk);
    bytes_stored_ += stored;
    bytes_written_ += static_cast<double>(written);
    gbps_.push_back(stored / seconds / 1e9);
    std::printf("| %d | %.2f | %llu | %.4f | %.3f |\n", pass, gbps_.back(),
                static_cast<unsigned long long>(bytes_on_disk),
                static_cast<double>(bytes_on_disk) / static_cast<double>(arguments_.l3_bytes),
                static_cast<double>(written) / stored);
    std::fflush(stdout);
    return absl::OkStatus();
  }

  absl::Status PutBatch(uint64_t first, uint64_t count) {
    std::vector<std::string> keys(count);
    std::vector<ConstPiece> pieces(count);
    std::vector<PutRequest> requests;
    for (uint64_t i = 0; i < count; ++i) {
      keys[i] = KeyOf(first + i);
      pieces[i] = {.data = Slot(i).data(), .size = arguments_.tensor_bytes};
      requests.push_back({.key = keys[i],
                          .meta = TensorMeta::Bytes(arguments_.tensor_bytes),
                          .pieces = {&pieces[i], 1}});
    }
    return FirstError(store_->PutFrom(requests, {}));
  }

  absl::Status CompareAll() {
    CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Arena> read,
                           Arena::Create(batch_ * arguments_.tensor_bytes));
    for (uint64_t first = 0; first < tensors_; first += batch_) {
      const uint64_t count = std::min(batch_, tensors_ - first);
      std::vector<std::string> keys(count);
      std::vector<Piece> pieces(count);
      std::vector<GetRequest> requests;
      for (uint64_t i = 0; i < count; ++i) {
        keys[i] = KeyOf(first + i);
        pieces[i] = {.data = read->base() + i * arguments_.tensor_bytes,
                     .size = arguments_.tensor_bytes};
        requests.push_back({.key = keys[i], .pieces = {&pieces[i], 1}});
      }
      CAIRN_RETURN_IF_ERROR(FirstError(store_->GetInto(requests, {})));
      for (uint64_t i = 0; i < count; ++i) {
        if (std::memcmp(pieces[i].data, Slot(i).data(), arguments_.tensor_bytes) == 0) continue;
        return absl::DataLossError(absl::StrCat("tensor ", keys[i], " came back with other bytes"));
      }
    }
    return absl::OkStatus();
  }

  void Summarize() const {
    std::printf("\nall %llu tensors read back and compared; written per byte stored: %.3f\n",
                static_cast<unsigned long long>(tensors_), bytes_written_ / bytes_stored_);
    if (gbps_.size() < 2) return;
    std::printf("first pass / second: %.3f; last pass / second: %.3f\n", gbps_[0] / gbps_[1],
                gbps_.back() / gbps_[1]);
  }

  const Arguments arguments_;
  const uint64_t batch_;
  uint64_t tensors_ = 0;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Store> store_;
  double open_s_ = 0;
  std::vector<double> gbps_;
  uint64_t bytes_on_disk_max_ = 0;
  double bytes_stored_ = 0;
  double bytes_written_ = 0;
};

int Main(int argc, char** argv) {
  CLI::App app("A store filled and overwritten, pass by pass", "overwrite_bench");
  Arguments arguments;
  app.add_option("--directory", arguments.directory, "Where the store is made and removed again")
      ->type_name("DIR")
      ->required();
  app.add_option("--l3", arguments.l3_bytes, "Bytes on disk, at most (default: 8 GiB)")
      ->transform(CLI::AsSizeValue(false))
      ->type_name("BYTES");
  app.add_option("--tensor-bytes", arguments.tensor_bytes, "Bytes of a tensor (default: 1 MiB)")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(uint64_t{4096}, 256 * kMiB))
      ->type_name("BYTES");
  app.add_option("--passes", arguments.passes, "How often all are put (default: 10)")
      ->check(CLI::Range(1, 1000))
      ->type_name("N");
  app.add_option("--share", arguments.share,
                 "Of the data files, what the tensors fill (default: 0.9)")
      ->check(CLI::Range(0.01, 0.95))
      ->type_name("SHARE");
  app.add_flag("--prewrite", arguments.prewrite, "Open writes the data files once (l3_prewrite)");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (arguments.tensor_bytes % 4096 != 0) {
    std::fputs("overwrite_bench: --tensor-bytes must be a multiple of 4096\n", stderr);
    return 2;
  }
  if (std::filesystem::exists(arguments.directory)) {
    std::fprintf(stderr, "overwrite_bench: %s is there already\n", arguments.directory.c_str());
    return 2;
  }
  const absl::Status status = Overwriting(arguments).Run();
  std::error_code ignored;
  std::filesystem::remove_all(arguments.directory, ignored);
  if (status.ok()) return 0;
  std::fprintf(stderr, "overwrite_bench: %s\n", status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace cairn::peers

int main(int argc, char** argv) { return cairn::peers::Main(argc, argv); }
