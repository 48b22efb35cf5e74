#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/l1_fixture.h"

namespace cairn {

// A store with an L1 of 4 MiB on each of two devices that stand in for GPUs. Their numbers are not
// their places in the list.
class GpusTest : public L1Test {
 protected:
  static constexpr int kFirst = 1;
  static constexpr int kSecond = 0;

  GpusTest() { options_.gpus = {kFirst, kSecond}; }
  void SetUp() override {
    if (TestsGpu()) GTEST_SKIP() << "needs two GPUs";
  }

  absl::StatusOr<TensorHandle> GetOn(int gpu, std::string_view key,
                                     absl::Duration timeout = absl::Seconds(30)) {
    return store_->Get(key, {.want = Level::kL1Gpu, .gpu = gpu, .timeout = timeout});
  }
  // Gets it there, compares every byte, and that it was found at `found_at`.
  void ExpectOn(int gpu, std::string_view key, uint64_t size, Level found_at,
                uint64_t version = 0) {
    const absl::StatusOr<TensorHandle> handle = GetOn(gpu, key);
    ASSERT_TRUE(handle.ok()) << key << ": " << handle.status();
    EXPECT_EQ(handle->level(), Level::kL1Gpu);
    EXPECT_EQ(handle->view().device, gpu);
    EXPECT_EQ(handle->found_at(), found_at) << key;
    EXPECT_TRUE(Matches(*handle, key, size, version)) << key << " has other bytes";
  }
  std::vector<int> GpusOf(std::string_view key) { return store_->Describe(key)->gpus; }
  TierStats L1Of(int gpu) {
    const StatsSnapshot stats = store_->Stats();
    for (const GpuStats& of_one : stats.gpus) {
      if (of_one.ordinal == gpu) return of_one.l1;
    }
    ADD_FAILURE() << "no figures of GPU " << gpu;
    return {};
  }
};

}  // namespace cairn
