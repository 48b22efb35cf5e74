#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bench/tier/huge_pages.h"
#include "bench/tier/job.h"
#include "tiers/arena.h"

namespace cairn::bench {

// One transfer that a job asks for.
struct Request {
  enum class Kind : uint8_t { kRead, kWrite, kSync };
  Kind kind = Kind::kRead;
  bool flushed = false;  // A put that is to survive the loss of power.
  size_t slot = 0;       // Which memory; one request at a time has it.
  uint64_t unit = 0;
  uint64_t bytes = 0;
};

struct Ended {
  size_t slot = 0;
  absl::Status status;
};

// Where the memory of requests comes from, for a fair comparison with fio.
struct MemorySource {
  bool small_pages = false;           // Pages of 4 KiB: fio has no huge ones.
  SharedHugePages* shared = nullptr;  // The pages that fio uses too; must outlive the sessions.
};

// The memory of one thread's requests: equal slots of huge pages where the system has them, each
// with as many buffers as the job wants, one after the other.
class SlotMemory {
 public:
  static absl::StatusOr<SlotMemory> Create(const Job& job, const MemorySource& source = {});
  // Bytes it takes.
  static uint64_t BytesOf(const Job& job);

  // The slot's buffer, the same until Turn.
  std::byte* slot(size_t index) const {
    return memory_.data() + (turns_[index] * turns_.size() + index) * stride_;
  }
  // The slot takes its next buffer.
  void Turn(size_t index) { turns_[index] = (turns_[index] + 1) % buffers_per_slot_; }
  absl::Span<std::byte> slot(size_t index, uint64_t bytes) const { return {slot(index), bytes}; }
  absl::Span<std::byte> all() const { return memory_; }
  const std::string& pages() const { return pages_; }

 private:
  SlotMemory(const Job& job, std::unique_ptr<Arena> arena, absl::Span<std::byte> memory,
             uint64_t stride, std::string pages)
      : arena_(std::move(arena)),
        memory_(memory),
        stride_(stride),
        pages_(std::move(pages)),
        turns_(job.depth),
        buffers_per_slot_(job.buffers_per_slot()) {}

  std::unique_ptr<Arena> arena_;  // Null: the memory is somebody else's.
  absl::Span<std::byte> memory_;
  uint64_t stride_;
  std::string pages_;
  std::vector<size_t> turns_;  // Which buffer each slot has.
  size_t buffers_per_slot_;
};

// One thread's way to a target. Thread-compatible.
class Session {
 public:
  explicit Session(SlotMemory memory) : memory_(std::move(memory)) {}
  virtual ~Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Starts the requests; each ends once in Reap.
  virtual void Begin(absl::Span<const Request> requests) = 0;
  // Sleeps until a request has ended; those that have are appended. Some must be outstanding.
  virtual void Reap(std::vector<Ended>& ended) = 0;

  // Whether Begin returns when the requests have ended: they are then begun one at a time.
  virtual bool synchronous() const { return false; }

  // This thread's share of what memcpy (tier=gpu: the device's bare copies) of the same blocks by
  // all threads of the job moves, where memory is the limit; else 0.
  virtual double memcpy_bytes_per_s() const { return 0; }

  // What the request's bytes must be, and where they first are not.
  virtual void Fill(const Request& request) = 0;
  virtual std::optional<uint64_t> FirstDifference(const Request& request) const = 0;

  const SlotMemory& memory() const { return memory_; }
  // Before each request: it has its slot's next buffer.
  void Turn(size_t slot) { memory_.Turn(slot); }

 protected:
  SlotMemory memory_;
};

// What a target counted since it was opened.
struct TargetCounters {
  uint64_t l1_hits = 0;
  uint64_t l2_hits = 0;
  uint64_t l3_hits = 0;
  uint64_t checksum_failures = 0;
  uint64_t device_bytes_written = 0;
};

// How a target works, for reports: polling, as far as it has.
struct TargetFacts {
  std::string engine;
  std::string device;
  std::string pages;
  bool direct = false;
  bool registered = false;
  bool submissions_polled = false;
  bool completions_polled = false;
  std::string polling_refusal;  // Of what was asked for; empty: it is done.
  uint64_t bytes_in_flight_max = 0;
};

// What the jobs of one group measure together. Thread-safe.
class Target {
 public:
  virtual ~Target() = default;

  // How many blocks the job has.
  virtual uint64_t UnitCount(const Job& job) const = 0;
  virtual absl::StatusOr<std::unique_ptr<Session>> NewSession(const Job& job) = 0;
  virtual TargetCounters Counters() const = 0;
  virtual TargetFacts Facts() const = 0;
};

struct TargetOptions {
  MemorySource memory;
};

// Of the jobs' tier, engine, polling and directory, which they share. Makes and fills what is
// missing.
absl::StatusOr<std::unique_ptr<Target>> OpenTarget(absl::Span<const Job* const> jobs,
                                                   const TargetOptions& options);

}  // namespace cairn::bench
