#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/tier/job.h"
#include "bench/tier/session.h"
#include "cairn/completion_queue.h"
#include "cairn/store.h"

namespace cairn::bench {

// By key, for one thread: what the sessions below share.
class KeySession : public Session {
 public:
  KeySession(SlotMemory memory, Store& store, const Job& job);
  ~KeySession() override;

  void Fill(const Request& request) override;
  std::optional<uint64_t> FirstDifference(const Request& request) const override;

  bool registered() const { return registered_; }

 protected:
  PutOptions PutOptionsOf(const Request& request) const;

  Store& store_;
  const Job job_;

 private:
  bool registered_ = false;
};

// tier=store: GetInto and PutFrom on the thread's own registered memory, as many at a time as the
// job has outstanding. Puts acknowledged in memory are the exception: Store::Put, one at a time.
class StoreSession : public KeySession {
 public:
  StoreSession(SlotMemory memory, Store& store, std::unique_ptr<CompletionQueue> queue,
               const Job& job);

  void Begin(absl::Span<const Request> requests) override;
  void Reap(std::vector<Ended>& ended) override;
  bool synchronous() const override { return job_.durability == Durability::kInMemory; }

 private:
  void BeginGets(absl::Span<const Request> requests);
  void BeginPuts(absl::Span<const Request> requests);
  void PutNow(const Request& request);
  void EndAll(absl::Span<const Request> requests, const absl::Status& status);

  const std::unique_ptr<CompletionQueue> queue_;
  std::vector<std::string> keys_;  // By slot.
  std::vector<Piece> pieces_;
  std::vector<ConstPiece> const_pieces_;
  std::vector<GetRequest> gets_;
  std::vector<PutRequest> puts_;
  std::vector<Completion> completions_;
  std::vector<Ended> ended_;  // Those that ended in Begin.
};

// tier=pinned: GetInto and Put of tensors in L2, one after the other.
class PinnedSession : public KeySession {
 public:
  PinnedSession(SlotMemory memory, Store& store, const Job& job, double memcpy_bytes_per_s);

  void Begin(absl::Span<const Request> requests) override;
  void Reap(std::vector<Ended>& ended) override;
  bool synchronous() const override { return true; }
  double memcpy_bytes_per_s() const override { return memcpy_bytes_per_s_; }

 private:
  const double memcpy_bytes_per_s_;
  std::vector<Ended> ended_;
};

// tier=gpu: GetAsync of tensors in L2 that are to be in L1. A verified one is copied back from
// there into the job's memory to be compared, before it counts as ended.
class GpuSession : public KeySession {
 public:
  GpuSession(SlotMemory memory, Store& store, std::unique_ptr<CompletionQueue> queue,
             const Job& job, double copy_bytes_per_s);

  void Begin(absl::Span<const Request> requests) override;
  void Reap(std::vector<Ended>& ended) override;
  double memcpy_bytes_per_s() const override { return copy_bytes_per_s_; }

 private:
  const std::unique_ptr<CompletionQueue> queue_;
  const double copy_bytes_per_s_;
  std::vector<Completion> completions_;
  std::vector<Ended> ended_;  // Those that were refused.
};

}  // namespace cairn::bench
