#include "bench/tier/null_io.h"

namespace cairn::bench {

void NullIo::Submit(absl::Span<IoOp* const> ops) {
  for (IoOp* const op : ops) {
    switch (op->kind) {
      case IoOp::Kind::kRead:
        reads_.fetch_add(1, std::memory_order_relaxed);
        bytes_read_.fetch_add(op->byte_count(), std::memory_order_relaxed);
        break;
      case IoOp::Kind::kWrite:
        writes_.fetch_add(1, std::memory_order_relaxed);
        bytes_written_.fetch_add(op->byte_count(), std::memory_order_relaxed);
        break;
      case IoOp::Kind::kSync:
        syncs_.fetch_add(1, std::memory_order_relaxed);
        break;
    }
    op->OnDone(absl::OkStatus());
  }
}

IoStats NullIo::stats() const {
  return {.reads = reads_.load(std::memory_order_relaxed),
          .writes = writes_.load(std::memory_order_relaxed),
          .syncs = syncs_.load(std::memory_order_relaxed),
          .bytes_read = bytes_read_.load(std::memory_order_relaxed),
          .bytes_written = bytes_written_.load(std::memory_order_relaxed)};
}

}  // namespace cairn::bench
