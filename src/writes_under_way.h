#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace cairn {

// Which keys are being written, from before a write's sequence is drawn until its spill has ended:
// for who draws one for bytes that are older, and must not come behind a put. By hash, so that a
// few keys are taken for others. Thread-safe.
class WritesUnderWay {
 public:
  class Write {
   public:
    Write() = default;
    explicit Write(std::atomic<uint32_t>* count) : count_(count) { count_->fetch_add(1); }
    Write(Write&& other) noexcept : count_(std::exchange(other.count_, nullptr)) {}
    Write& operator=(Write&& other) noexcept {
      if (this == &other) return *this;
      End();
      count_ = std::exchange(other.count_, nullptr);
      return *this;
    }
    ~Write() { End(); }
    void End() {
      if (count_ != nullptr) std::exchange(count_, nullptr)->fetch_sub(1);
    }

   private:
    std::atomic<uint32_t>* count_ = nullptr;
  };

  // Must outlive it.
  Write Begin(uint64_t key_hash) { return Write(&counts_[key_hash % counts_.size()]); }
  // Sequentially consistent with Begin and with the drawing of sequences: a write whose sequence is
  // lower than one that was drawn before this call is seen here, or has ended.
  bool Any(uint64_t key_hash) const { return counts_[key_hash % counts_.size()].load() > 0; }

 private:
  std::array<std::atomic<uint32_t>, 4096> counts_ = {};
};

}  // namespace cairn
