#include "bench/peers/measure.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/peers/content.h"
#include "bench/peers/usage.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn::peers {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr size_t kHugePageBytes = size_t{2} << 20;

// Memory of a batch: huge pages where they are to be had, for every store alike.
class BatchMemory {
 public:
  explicit BatchMemory(size_t bytes) : mapped_bytes_(bytes + kHugePageBytes) {
    mapped_ =
        mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped_ == MAP_FAILED) return;
    const auto begin = reinterpret_cast<uintptr_t>(mapped_);
    const size_t skipped = (kHugePageBytes - begin % kHugePageBytes) % kHugePageBytes;
    std::byte* const aligned = static_cast<std::byte*>(mapped_) + skipped;
    madvise(aligned, bytes, MADV_HUGEPAGE);
    std::memset(aligned, 0, bytes);
    bytes_ = {aligned, bytes};
  }
  ~BatchMemory() {
    if (mapped_ != MAP_FAILED) munmap(mapped_, mapped_bytes_);
  }
  BatchMemory(const BatchMemory&) = delete;
  BatchMemory& operator=(const BatchMemory&) = delete;

  absl::Span<std::byte> bytes() const { return bytes_; }  // Empty: there is no memory.

 private:
  const size_t mapped_bytes_;
  void* mapped_ = MAP_FAILED;
  absl::Span<std::byte> bytes_;
};

// Gone with this object, with all that is in it.
class Directory {
 public:
  explicit Directory(std::string path) : path_(std::move(path)) {}
  ~Directory() {
    std::error_code error;
    if (made_) fs::remove_all(path_, error);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  absl::Status Make() {
    std::error_code error;
    made_ = fs::create_directory(path_, error);
    if (made_) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make ", path_, ": ", error ? error.message() : "it is there already"));
  }

 private:
  const std::string path_;
  bool made_ = false;
};

std::vector<uint64_t> Order(uint64_t count, uint64_t seed) {
  std::vector<uint64_t> ids(count);
  std::iota(ids.begin(), ids.end(), uint64_t{0});
  std::shuffle(ids.begin(), ids.end(), std::mt19937_64(seed));
  return ids;
}

class Measurement {
 public:
  Measurement(const PeerKind& kind, const Plan& plan)
      : kind_(kind), plan_(plan), memory_(kBatchTensors * plan.tensor_bytes) {
    figures_ = {.store = kind.name,
                .tensor_bytes = plan.tensor_bytes,
                .bytes = plan.bytes,
                .round = plan.round};
  }

  absl::StatusOr<Figures> Run() {
    if (memory_.bytes().empty()) return absl::ResourceExhaustedError("no memory for a batch");
    const Usage before = UsageNow();
    CAIRN_RETURN_IF_ERROR(PutAll());
    figures_.device_bytes_written = UsageNow().device_bytes_written - before.device_bytes_written;
    figures_.bytes_on_disk = BytesOnDisk(plan_.directory);
    CAIRN_RETURN_IF_ERROR(DropCaches(plan_.directory));
    // What is left of the puts must not pass for what a get has brought.
    std::memset(memory_.bytes().data(), 0, memory_.bytes().size());
    CAIRN_RETURN_IF_ERROR(GetAll());
    return figures_;
  }

 private:
  absl::StatusOr<std::unique_ptr<PeerStore>> Open() {
    return kind_.open(
        {.directory = plan_.directory, .bytes = plan_.bytes, .memory = memory_.bytes()});
  }

  absl::Span<std::byte> Slot(size_t i) {
    return memory_.bytes().subspan(i * plan_.tensor_bytes, plan_.tensor_bytes);
  }

  // Runs `serve` and counts the time that it takes.
  template <typename Serve>
  absl::Status Timed(Way& way, bool is_batch, Serve serve) {
    const Clock::time_point begin = Clock::now();
    CAIRN_RETURN_IF_ERROR(serve());
    const std::chrono::duration<double> took = Clock::now() - begin;
    way.wall_s += took.count();
    if (is_batch) way.batch_us.push_back(static_cast<uint64_t>(took.count() * 1e6));
    return absl::OkStatus();
  }

  // Calls batch(ids, keys) for all ids in this order. `batch` makes or compares contents, too:
  // what the thread spends on those it adds to content_cpu_s_.
  template <typename Batch>
  absl::Status ForBatches(const std::vector<uint64_t>& ids, Batch batch) {
    for (size_t first = 0; first < ids.size(); first += kBatchTensors) {
      const size_t count = std::min<size_t>(kBatchTensors, ids.size() - first);
      std::vector<std::string> keys;
      for (size_t i = 0; i < count; ++i) keys.push_back(KeyOf(ids[first + i]));
      CAIRN_RETURN_IF_ERROR(batch(absl::MakeConstSpan(ids).subspan(first, count), keys));
    }
    return absl::OkStatus();
  }

  absl::Status PutAll() {
    CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<PeerStore> store, Open());
    const double cpu_before_s = UsageNow().cpu_s;
    content_cpu_s_ = 0;
    Way& way = figures_.put;
    const auto put = [&](absl::Span<const uint64_t> ids, const std::vector<std::string>& keys) {
      const double begin_s = ThreadCpuSeconds();
      std::vector<PutItem> items;
      for (size_t i = 0; i < ids.size(); ++i) {
        FillContent(ids[i], Slot(i));
        items.push_back({keys[i], Slot(i)});
      }
      content_cpu_s_ += ThreadCpuSeconds() - begin_s;
      return Timed(way, true, [&] { return store->Put(items); });
    };
    CAIRN_RETURN_IF_ERROR(ForBatches(Order(plan_.bytes / plan_.tensor_bytes, plan_.round), put));
    CAIRN_RETURN_IF_ERROR(Timed(way, false, [&] { return store->Flush(); }));
    way.cpu_s = UsageNow().cpu_s - cpu_before_s - content_cpu_s_;
    return store->Close();
  }

  absl::Status GetAll() {
    CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<PeerStore> store, Open());
    const Usage before = UsageNow();
    content_cpu_s_ = 0;
    const auto get = [&](absl::Span<const uint64_t> ids, const std::vector<std::string>& keys) {
      std::vector<GetItem> items;
      for (size_t i = 0; i < ids.size(); ++i) items.push_back({keys[i], Slot(i)});
      CAIRN_RETURN_IF_ERROR(Timed(figures_.get, true, [&] { return store->Get(items); }));
      return Compare(ids, keys);
    };
    CAIRN_RETURN_IF_ERROR(ForBatches(Order(plan_.bytes / plan_.tensor_bytes, ~plan_.round), get));
    const Usage after = UsageNow();
    figures_.get.cpu_s = after.cpu_s - before.cpu_s - content_cpu_s_;
    figures_.device_bytes_read = after.device_bytes_read - before.device_bytes_read;
    return store->Close();
  }

  absl::Status Compare(absl::Span<const uint64_t> ids, const std::vector<std::string>& keys) {
    const double begin_s = ThreadCpuSeconds();
    for (size_t i = 0; i < ids.size(); ++i) {
      if (HasContent(ids[i], Slot(i))) continue;
      return absl::DataLossError(absl::StrCat(keys[i], " came back with other bytes"));
    }
    content_cpu_s_ += ThreadCpuSeconds() - begin_s;
    return absl::OkStatus();
  }

  const PeerKind& kind_;
  const Plan& plan_;
  const BatchMemory memory_;
  Figures figures_;
  double content_cpu_s_ = 0;
};

absl::Status CheckSpace(const Plan& plan) {
  const std::string parent = fs::absolute(plan.directory).parent_path().string();
  CAIRN_ASSIGN_OR_RETURN(const uint64_t free_bytes, BytesFree(parent));
  // The greediest holds its log, its old files and its new ones at a time.
  const uint64_t needed_bytes = plan.bytes / 2 * 5 + (uint64_t{256} << 20);
  if (free_bytes >= needed_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(parent, " has ", FormatBytes(free_bytes),
                                                   " free; ", FormatBytes(plan.bytes),
                                                   " of tensors need ", FormatBytes(needed_bytes)));
}

}  // namespace

absl::StatusOr<Figures> Measure(const PeerKind& kind, const Plan& plan) {
  CAIRN_RETURN_IF_ERROR(CheckSpace(plan));
  Directory directory(plan.directory);
  CAIRN_RETURN_IF_ERROR(directory.Make());
  return Measurement(kind, plan).Run();
}

}  // namespace cairn::peers
