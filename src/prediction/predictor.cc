#include "src/prediction/predictor.h"

#include <atomic>

namespace cairn {
namespace {

uint64_t NewId() {
  static std::atomic<uint64_t> last = 0;
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

Predictor::Predictor(size_t keys_max) : id_(NewId()), successors_(keys_max) {}

Predictor::Reader& Predictor::ThisReader() {
  static thread_local Reader reader;
  if (reader.owner != id_) {
    reader = Reader();
    reader.owner = id_;
  }
  return reader;
}

}  // namespace cairn
