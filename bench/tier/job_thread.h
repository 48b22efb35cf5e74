#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "bench/tier/job.h"
#include "bench/tier/measurement.h"
#include "bench/tier/session.h"
#include "bench/tier/unit_order.h"

namespace cairn::bench {

// What a job has moved so far, for those who look on.
struct Moved {
  std::atomic<uint64_t> read_ios{0};
  std::atomic<uint64_t> read_bytes{0};
  std::atomic<uint64_t> write_ios{0};
  std::atomic<uint64_t> write_bytes{0};
};

// The work of one thread: keeps iodepth requests outstanding until the job is done, and measures
// them. Thread-compatible; others may look at moved().
class JobThread {
 public:
  // `stop` ends the work early, with what is outstanding finished and reported.
  JobThread(const Job& job, uint32_t clone, uint32_t group, Target& target,
            std::unique_ptr<Session> session, const std::function<bool()>& stop);

  void Run();

  const JobReport& report() const { return report_; }
  const Moved& moved() const { return moved_; }

 private:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;

  struct Slot {
    Request request;
    Time created;
    Time submitted;
  };

  bool Done(Time now) const;
  void BeginMeasuring(Time now);
  void Issue();
  bool Plan(Request& request);
  void ReapSome();
  void Count(const Slot& slot, Time now);
  void Check(const Slot& slot, const Ended& end);
  void Sample(Time now);
  void ReadBackWritten();
  void Fail(int error, const std::string& text);

  const Job& job_;
  Target& target_;
  const std::unique_ptr<Session> session_;
  const std::function<bool()>& stop_;
  const size_t depth_;
  UnitOrder order_;

  std::vector<Slot> slots_;
  std::vector<size_t> free_slots_;
  std::vector<Request> batch_;
  std::vector<Ended> ended_;
  std::vector<bool> written_;  // By block; for verify.

  Time started_;
  Time measured_from_;
  bool measuring_ = false;
  bool reading_back_ = false;
  uint64_t bytes_issued_ = 0;  // Since measuring began.
  uint64_t writes_issued_ = 0;
  bool sync_due_ = false;
  CpuUsage cpu_before_;
  TargetCounters counters_before_;
  Time sampled_;
  uint64_t sampled_read_[2] = {};  // ios, bytes
  uint64_t sampled_write_[2] = {};

  JobReport report_;
  Moved moved_;
};

}  // namespace cairn::bench
