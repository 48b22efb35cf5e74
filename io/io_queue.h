#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "io/async_io.h"
#include "src/base/check.h"

namespace cairn {

// The ops that wait for the device, in the order in which they get it. Linked through the ops, so
// that queueing allocates nothing. Thread-compatible.
//
// The order is that of IoPriority, first come first served within a priority, with one exception
// so that none starves: an op of a lower priority that waits lets at most kPassedOverBytesMax
// bytes of higher ones pass; then one op of it goes, and the count starts again. Under a flood of
// demand reads writes thus keep a seventeenth of the device: what is waited for comes first, and
// what is in L2 waits well.
class IoQueue {
 public:
  // First in, first out.
  class List {
   public:
    bool empty() const { return first_ == nullptr; }

    void PushBack(IoOp* op) {
      op->next_ = nullptr;
      (first_ == nullptr ? first_ : last_->next_) = op;
      last_ = op;
    }
    IoOp* PopFront() {
      IoOp* const op = first_;
      if (op != nullptr) first_ = op->next_;
      return op;
    }
    // Takes all of `other`.
    void Append(List& other) {
      if (other.empty()) return;
      (first_ == nullptr ? first_ : last_->next_) = other.first_;
      last_ = other.last_;
      other.first_ = nullptr;
    }

   private:
    IoOp* first_ = nullptr;
    IoOp* last_ = nullptr;  // Of no meaning while empty.
  };

  static constexpr std::array<uint64_t, kIoPriorityCount> kPassedOverBytesMax = {
      0, uint64_t{16} << 20, uint64_t{32} << 20, uint64_t{64} << 20};
  // What a small op counts as: the device's time for it is not its bytes.
  static constexpr uint64_t kOpCostBytesMin = uint64_t{64} << 10;

  bool empty() const { return count_ == 0; }
  size_t size() const { return count_; }

  // The op has been through IoTransfer::Begin.
  void Push(IoOp* op) {
    if (IsRaised(*op)) op->priority = IoPriority::kDemandRead;
    const IoPriority priority = op->kind == IoOp::Kind::kSync ? IoPriority::kWrite : op->priority;
    const size_t index = static_cast<size_t>(priority);
    CAIRN_CHECK(index < kIoPriorityCount);
    lists_[index].PushBack(op);
    ++count_;
  }

  // Reads that were raised since they came go behind the demand reads. Walks all others.
  void RegardRaised() {
    for (size_t index = 1; index < kIoPriorityCount; ++index) {
      List kept;
      while (IoOp* const op = lists_[index].PopFront()) {
        const bool raised = IsRaised(*op);
        if (raised) op->priority = IoPriority::kDemandRead;
        (raised ? lists_[0] : kept).PushBack(op);
      }
      lists_[index] = kept;
      if (kept.empty()) passed_over_bytes_[index] = 0;
    }
  }

  // By its priority, which stays as it is from Pop on, whoever raises the op then.
  static bool IsDemandRead(const IoOp& op) {
    return op.priority == IoPriority::kDemandRead && op.kind != IoOp::Kind::kSync;
  }
  // As Push would take it.
  static bool WillBeDemandRead(const IoOp& op) { return IsRaised(op) || IsDemandRead(op); }
  bool has_demand_read() const { return !lists_[0].empty(); }

  // nullptr when empty.
  IoOp* Pop() { return count_ == 0 ? nullptr : PopFrom(NextPriority()); }
  // The first of the highest priority, whoever waits; nullptr when there is none.
  IoOp* PopDemandRead() { return has_demand_read() ? PopFrom(0) : nullptr; }

 private:
  static bool IsRaised(const IoOp& op) { return op.raised() && op.kind == IoOp::Kind::kRead; }

  IoOp* PopFrom(size_t chosen) {
    IoOp* const op = lists_[chosen].PopFront();
    --count_;
    passed_over_bytes_[chosen] = 0;
    for (size_t lower = chosen + 1; lower < kIoPriorityCount; ++lower) {
      if (lists_[lower].empty()) continue;
      passed_over_bytes_[lower] += std::max(op->bytes_total_, kOpCostBytesMin);
    }
    return op;
  }

  size_t NextPriority() const {
    for (size_t index = 1; index < kIoPriorityCount; ++index) {
      if (!lists_[index].empty() && passed_over_bytes_[index] >= kPassedOverBytesMax[index]) {
        return index;
      }
    }
    size_t index = 0;
    while (lists_[index].empty()) ++index;
    return index;
  }

  std::array<List, kIoPriorityCount> lists_;
  std::array<uint64_t, kIoPriorityCount> passed_over_bytes_ = {};
  size_t count_ = 0;
};

}  // namespace cairn
