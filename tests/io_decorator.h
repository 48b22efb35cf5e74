#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/async_io.h"
#include "io/io_drain.h"

namespace cairn {

// What FaultyIo and ManualIo hand through to the engine they own.
class IoDecorator : public AsyncIo {
 public:
  absl::StatusOr<int> AddFile(int fd) override { return inner_->AddFile(fd); }
  void RemoveFile(int file) override { inner_->RemoveFile(file); }
  absl::Status RegisterMemory(absl::Span<std::byte> memory) override {
    return inner_->RegisterMemory(memory);
  }
  absl::Status UnregisterMemory(absl::Span<std::byte> memory) override {
    return inner_->UnregisterMemory(memory);
  }
  void Drain() override { drain_.Wait(); }
  IoStats stats() const override { return inner_->stats(); }
  IoPolling polling() const override { return inner_->polling(); }

 protected:
  explicit IoDecorator(std::unique_ptr<AsyncIo> inner)
      : inner_(inner.get()), owned_(std::move(inner)) {}

  // Completes what the inner engine has, whose OnDone may still submit to it.
  void EndInner() { owned_.reset(); }

  AsyncIo* const inner_;
  IoDrain drain_;

 private:
  std::unique_ptr<AsyncIo> owned_;
};

}  // namespace cairn
