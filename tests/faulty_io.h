#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "io/async_io.h"
#include "src/base/mutex.h"
#include "tests/io_decorator.h"

namespace cairn {

// A device that fails, lies and dawdles, as a plan says.
class FaultyIo final : public IoDecorator {
 public:
  enum class Kind : uint8_t {
    kNone,
    kFail,       // Nothing is transferred; the op ends with `status`.
    kShort,      // The first `where` bytes are transferred; the op ends with `status`.
    kTear,       // Block i of 4 KiB is transferred where bit i % 64 of `where` is set; the op ends
                 // with `status`, which may be OK.
    kDrop,       // Nothing is transferred; the op ends with OK. Of a sync: nothing is flushed.
    kFlipBit,    // A read ends with OK and its bit `where` (modulo its size) wrong.
    kMisdirect,  // The transfer goes to offset `where` of the file.
    kDelay,      // All is well, but late by `delay`, or until EndDelays or the end of the engine.
  };
  // To a sync happens no more than kFail, kDrop and kDelay.
  struct Fault {
    Kind kind = Kind::kNone;
    uint64_t where = 0;
    // OK with kFail and kShort: what an engine says of EIO.
    absl::Status status = absl::OkStatus();
    std::chrono::microseconds delay{0};
  };
  // Says what befalls an op; asked at Submit, for one op at a time, counted from 0.
  using Plan = std::function<Fault(const IoOp& op, uint64_t ordinal)>;

  explicit FaultyIo(std::unique_ptr<AsyncIo> inner, Plan plan = nullptr)
      : IoDecorator(std::move(inner)), plan_(std::move(plan)), thread_([this] { RunDelayed(); }) {}

  ~FaultyIo() override {
    {
      MutexLock lock(mutex_);
      closing_ = true;
      changed_.NotifyAll();
    }
    drain_.Wait();
    {
      MutexLock lock(mutex_);
      ending_ = true;
      changed_.NotifyAll();
    }
    thread_.join();
  }

  // Each op suffers one of the kinds with this probability; the same seed, the same faults.
  // Misdirected ops land up to 8 blocks away, never beyond the op's own end.
  static Plan RandomPlan(uint64_t seed, double probability, std::vector<Kind> kinds) {
    return [random = std::mt19937_64(seed), probability, kinds = std::move(kinds)](
               const IoOp& op, uint64_t) mutable -> Fault {
      const double draw = std::uniform_real_distribution<double>()(random);
      Fault fault = {.kind = kinds[random() % kinds.size()], .where = random()};
      fault.delay = std::chrono::microseconds(random() % 2000);
      if (draw >= probability) return {};
      const uint64_t shift = (1 + fault.where % 8) * kBlockBytes;
      if (fault.kind == Kind::kShort) fault.where %= std::max<uint64_t>(op.byte_count(), 1);
      if (fault.kind == Kind::kMisdirect) fault.where = op.offset - std::min(op.offset, shift);
      return fault;
    };
  }

  // For what is submitted from here on; nullptr: no faults.
  void SetPlan(Plan plan) {
    MutexLock lock(mutex_);
    plan_ = std::move(plan);
  }
  // What is delayed now completes now.
  void EndDelays() {
    MutexLock lock(mutex_);
    for (const std::unique_ptr<Victim>& victim : delayed_) victim->due = Clock::now();
    changed_.NotifyAll();
  }
  uint64_t fault_count() const { return fault_count_.load(); }

  void Submit(absl::Span<IoOp* const> ops) override {
    const uint8_t epoch = drain_.Enter(ops.size());
    std::vector<IoOp*> parts;
    for (IoOp* op : ops) {
      auto victim = std::make_unique<Victim>();
      victim->op = op;
      victim->epoch = epoch;
      if (!Strike(*victim)) {
        Defer(std::move(victim));
        continue;
      }
      Split(std::move(victim), parts);
    }
    inner_->Submit(parts);
  }
  const char* name() const override { return "faulty"; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr uint64_t kBlockBytes = 4096;

  struct Part;
  // An op on its way; owned by the last of its parts, then by delayed_.
  struct Victim {
    IoOp* op = nullptr;
    uint8_t epoch = 0;
    Fault fault;
    Clock::time_point due;
    absl::Status status;  // Guarded by mutex_ while parts are in flight.
    size_t parts_left = 0;
    std::vector<std::unique_ptr<Part>> parts;
  };
  // A stretch of an op, as the inner engine sees it. An op of none has a carrier: the inner engine
  // refuses it for its file id, and so brings the completion to a thread of the engine.
  struct Part final : IoOp {
    FaultyIo* owner = nullptr;
    Victim* victim = nullptr;
    bool is_carrier = false;
    bool needed() const override { return is_carrier || victim->op->needed(); }
    void OnDone(absl::Status status) override {
      if (is_carrier) status = absl::OkStatus();
      owner->OnPartDone(victim, std::move(status));
    }
  };

  // False when this engine is closing: no part may go to the inner one.
  bool Strike(Victim& victim) {
    MutexLock lock(mutex_);
    if (closing_) {
      victim.status = absl::UnavailableError("the faulty engine is closing");
      return false;
    }
    Fault& fault = victim.fault;
    if (plan_) fault = plan_(*victim.op, ordinal_++);
    const bool fits_sync =
        fault.kind == Kind::kFail || fault.kind == Kind::kDrop || fault.kind == Kind::kDelay;
    if (victim.op->kind == IoOp::Kind::kSync && !fits_sync) fault.kind = Kind::kNone;
    if (fault.kind != Kind::kNone) fault_count_.fetch_add(1);
    const bool fails = fault.kind == Kind::kFail || fault.kind == Kind::kShort;
    if (fails && fault.status.ok()) {
      fault.status = victim.op->kind == IoOp::Kind::kRead
                         ? absl::DataLossError("an injected fault")
                         : absl::UnavailableError("an injected fault");
    }
    return true;
  }

  void Split(std::unique_ptr<Victim> victim, std::vector<IoOp*>& parts) {
    const IoOp& op = *victim->op;
    const Fault& fault = victim->fault;
    const uint64_t bytes = op.byte_count();
    switch (fault.kind) {
      case Kind::kNone:
      case Kind::kFlipBit:
      case Kind::kDelay:
        AddPart(*victim, op.offset, 0, bytes);
        break;
      case Kind::kMisdirect:
        AddPart(*victim, fault.where, 0, bytes);
        break;
      case Kind::kShort:
        // Whole blocks: a direct file takes no others.
        if (fault.where >= kBlockBytes) {
          const uint64_t blocks = std::min(fault.where, bytes) / kBlockBytes;
          AddPart(*victim, op.offset, 0, blocks * kBlockBytes);
        }
        break;
      case Kind::kTear:
        for (uint64_t begin = 0; begin < bytes; begin += kBlockBytes) {
          if ((fault.where >> (begin / kBlockBytes % 64) & 1) == 0) continue;
          AddPart(*victim, op.offset + begin, begin, std::min(kBlockBytes, bytes - begin));
        }
        break;
      case Kind::kFail:
      case Kind::kDrop:
        break;
    }
    if (victim->parts.empty()) {
      victim->parts.push_back(std::make_unique<Part>());
      victim->parts.back()->is_carrier = true;
    }
    victim->parts_left = victim->parts.size();
    for (const std::unique_ptr<Part>& part : victim->parts) {
      part->owner = this;
      part->victim = victim.get();
      parts.push_back(part.get());
    }
    static_cast<void>(victim.release());  // OnPartDone takes it up.
  }

  // The stretch of `size` bytes from byte `begin` of the op, to or from this offset of the file.
  static void AddPart(Victim& victim, uint64_t offset, uint64_t begin, uint64_t size) {
    auto part = std::make_unique<Part>();
    part->kind = victim.op->kind;
    part->priority = victim.op->priority;
    part->file = victim.op->file;
    part->offset = offset;
    for (const iovec& piece : victim.op->pieces) {
      const uint64_t skipped = std::min<uint64_t>(begin, piece.iov_len);
      const uint64_t taken = std::min<uint64_t>(size, piece.iov_len - skipped);
      begin -= skipped;
      size -= taken;
      if (taken == 0) continue;
      part->pieces.push_back(
          {.iov_base = static_cast<std::byte*>(piece.iov_base) + skipped, .iov_len = taken});
    }
    victim.parts.push_back(std::move(part));
  }

  void OnPartDone(Victim* pointer, absl::Status status) {
    {
      MutexLock lock(mutex_);
      pointer->status.Update(std::move(status));
      if (--pointer->parts_left > 0) return;
    }
    std::unique_ptr<Victim> victim(pointer);
    Fault& fault = victim->fault;
    victim->status.Update(std::move(fault.status));
    if (fault.kind == Kind::kFlipBit && victim->status.ok()) FlipBit(*victim->op, fault.where);
    fault.kind == Kind::kDelay ? Defer(std::move(victim)) : Finish(std::move(victim));
  }

  static void FlipBit(const IoOp& op, uint64_t bit) {
    if (op.kind != IoOp::Kind::kRead) return;
    uint64_t index = bit % (op.byte_count() * 8);
    for (const iovec& piece : op.pieces) {
      if (index < piece.iov_len * 8) {
        static_cast<std::byte*>(piece.iov_base)[index / 8] ^= std::byte{1} << (index % 8);
        return;
      }
      index -= piece.iov_len * 8;
    }
  }

  void Finish(std::unique_ptr<Victim> victim) {
    victim->op->OnDone(std::move(victim->status));
    drain_.Leave(victim->epoch);
  }

  void Defer(std::unique_ptr<Victim> victim) {
    victim->due = Clock::now() + victim->fault.delay;
    MutexLock lock(mutex_);
    delayed_.push_back(std::move(victim));
    changed_.NotifyAll();
  }

  void RunDelayed() {
    while (std::unique_ptr<Victim> victim = NextDelayed()) Finish(std::move(victim));
  }

  // nullptr when it is time to end.
  std::unique_ptr<Victim> NextDelayed() {
    MutexLock lock(mutex_);
    while (true) {
      const auto next =
          std::min_element(delayed_.begin(), delayed_.end(),
                           [](const auto& a, const auto& b) { return a->due < b->due; });
      if (next == delayed_.end()) {
        if (ending_) return nullptr;
        changed_.Wait(mutex_);
      } else if (!closing_ && (*next)->due > Clock::now()) {
        changed_.WaitUntil(mutex_, (*next)->due);
      } else {
        std::unique_ptr<Victim> victim = std::move(*next);
        delayed_.erase(next);
        return victim;
      }
    }
  }

  std::atomic<uint64_t> fault_count_ = 0;
  Mutex mutex_;
  CondVar changed_;
  Plan plan_ ABSL_GUARDED_BY(mutex_);
  uint64_t ordinal_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::unique_ptr<Victim>> delayed_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;  // Refuses ops.
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;   // Lets the thread go.
  std::jthread thread_;
};

}  // namespace cairn
