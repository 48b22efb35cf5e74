#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "io/async_io.h"

namespace cairn::bench {

// Ends every op with OK inside Submit and moves nothing: with it a job measures its own loop.
// Thread-safe.
class NullIo : public AsyncIo {
 public:
  absl::StatusOr<int> AddFile(int) override { return 0; }
  void RemoveFile(int) override {}
  absl::Status RegisterMemory(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status UnregisterMemory(absl::Span<std::byte>) override { return absl::OkStatus(); }
  void Submit(absl::Span<IoOp* const> ops) override;
  void Drain() override {}
  IoStats stats() const override;
  const char* name() const override { return "null"; }

 private:
  std::atomic<uint64_t> reads_{0};
  std::atomic<uint64_t> writes_{0};
  std::atomic<uint64_t> syncs_{0};
  std::atomic<uint64_t> bytes_read_{0};
  std::atomic<uint64_t> bytes_written_{0};
};

}  // namespace cairn::bench
