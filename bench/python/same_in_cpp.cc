// What python_bench.py does, by the C++ call: same_in_cpp DIRECTORY ROUNDS. Prints a line of JSON.

#include <sys/mman.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "bench/median.h"
#include "cairn/store.h"

namespace cairn {
namespace {

constexpr size_t kTensors = 64;
constexpr size_t kTensorBytes = size_t{2} << 20;
constexpr size_t kSmallBytes = 1024;
constexpr int kSmallPairs = 2000;

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

absl::Status FirstError(const std::vector<absl::Status>& statuses) {
  absl::Status first;
  for (const absl::Status& status : statuses) first.Update(status);
  return first;
}

struct Figures {
  double get_into_gb_s = 0;
  double put_get_us = 0;
};

absl::Status MeasureGetInto(Store& store, int rounds, Figures* figures) {
  const std::unique_ptr<std::byte, decltype(&std::free)> memory(
      static_cast<std::byte*>(std::aligned_alloc(kTensorBytes, kTensors * kTensorBytes)),
      &std::free);
  // As numpy asks for its arrays.
  madvise(memory.get(), kTensors * kTensorBytes, MADV_HUGEPAGE);
  std::memset(memory.get(), 1, kTensors * kTensorBytes);
  std::vector<std::string> keys;
  std::vector<ConstPiece> sources;
  std::vector<Piece> targets;
  for (size_t i = 0; i < kTensors; ++i) {
    std::byte* const data = memory.get() + i * kTensorBytes;
    keys.push_back("large" + std::to_string(i));
    sources.push_back({data, kTensorBytes});
    targets.push_back({data, kTensorBytes});
  }
  std::vector<PutRequest> puts;
  std::vector<GetRequest> gets;
  for (size_t i = 0; i < kTensors; ++i) {
    puts.push_back({keys[i], TensorMeta::Bytes(kTensorBytes), {&sources[i], 1}});
    gets.push_back({keys[i], {&targets[i], 1}});
  }
  if (absl::Status put = FirstError(store.PutFrom(puts, {})); !put.ok()) return put;
  std::vector<double> seconds;
  for (int round = 0; round < rounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    const absl::Status got = FirstError(store.GetInto(gets, {}));
    if (!got.ok()) return got;
    seconds.push_back(SecondsSince(start));
  }
  figures->get_into_gb_s = static_cast<double>(kTensors * kTensorBytes) / Median(seconds) / 1e9;
  return absl::OkStatus();
}

absl::Status MeasurePutGet(Store& store, Figures* figures) {
  const std::vector<std::byte> bytes(kSmallBytes, std::byte{1});
  const TensorView view{TensorMeta::Bytes(kSmallBytes), bytes.data(), kSmallBytes};
  std::vector<double> seconds;
  for (int i = 0; i < kSmallPairs; ++i) {
    const std::string key = "small" + std::to_string(i % 64);
    const auto start = std::chrono::steady_clock::now();
    const absl::Status put = store.Put(key, view, {});
    if (!put.ok()) return put;
    const absl::StatusOr<TensorHandle> handle = store.Get(key, {});
    if (!handle.ok()) return handle.status();
    seconds.push_back(SecondsSince(start));
  }
  figures->put_get_us = Median(seconds) * 1e6;
  return absl::OkStatus();
}

absl::Status Run(const std::string& directory, int rounds) {
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open({.path = directory,
                                                              .device = DeviceKind::kHost,
                                                              .l2_bytes_max = uint64_t{64} << 20,
                                                              .l3_bytes_max = uint64_t{512} << 20});
  if (!store.ok()) return store.status();
  Figures figures;
  if (absl::Status done = MeasureGetInto(**store, rounds, &figures); !done.ok()) return done;
  if (absl::Status done = MeasurePutGet(**store, &figures); !done.ok()) return done;
  std::printf("{\"get_into_gb_s\": %.3f, \"put_get_us\": %.2f}\n", figures.get_into_gb_s,
              figures.put_get_us);
  return (*store)->Close();
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: same_in_cpp DIRECTORY ROUNDS\n");
    return 2;
  }
  const absl::Status status = cairn::Run(argv[1], std::atoi(argv[2]));
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
