#include "bench/tier/job_thread.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"

namespace cairn::bench {
namespace {

constexpr std::chrono::milliseconds kSampleTime(500);

uint64_t Nanoseconds(std::chrono::steady_clock::duration time) {
  return static_cast<uint64_t>(
      std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::nanoseconds>(time).count()));
}

std::chrono::steady_clock::duration Duration(double seconds) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(seconds));
}

TargetCounters Since(const TargetCounters& now, const TargetCounters& before) {
  return {.l1_hits = now.l1_hits - before.l1_hits,
          .l2_hits = now.l2_hits - before.l2_hits,
          .l3_hits = now.l3_hits - before.l3_hits,
          .checksum_failures = now.checksum_failures - before.checksum_failures,
          .device_bytes_written = now.device_bytes_written - before.device_bytes_written};
}

}  // namespace

JobThread::JobThread(const Job& job, uint32_t clone, uint32_t group, Target& target,
                     std::unique_ptr<Session> session, const std::function<bool()>& stop)
    : job_(job),
      target_(target),
      session_(std::move(session)),
      stop_(stop),
      depth_(session_->synchronous() ? 1 : job.depth),
      order_(job, clone, target.UnitCount(job)),
      slots_(depth_),
      free_slots_(depth_) {
  std::iota(free_slots_.rbegin(), free_slots_.rend(), size_t{0});
  if (job.verify) written_.resize(target.UnitCount(job));
  report_.job = job;
  report_.memcpy_bytes_per_s = session_->memcpy_bytes_per_s();
  report_.group = group;
}

void JobThread::Run() {
  started_ = Clock::now();
  if (job_.ramp_s <= 0) BeginMeasuring(started_);
  Time last = started_;
  for (;;) {
    if (!Done(last)) Issue();
    if (free_slots_.size() == slots_.size()) {
      if (Done(Clock::now())) break;
      continue;
    }
    ReapSome();
    last = Clock::now();
    if (!measuring_ && last - started_ >= Duration(job_.ramp_s)) BeginMeasuring(last);
    if (measuring_) Sample(last);
  }
  if (measuring_) {
    report_.runtime_s = std::chrono::duration<double>(last - measured_from_).count();
    report_.cpu = CpuUsage::Now().Since(cpu_before_);
    report_.counters = Since(target_.Counters(), counters_before_);
  }
  if (job_.verify && job_.writes() && report_.error == 0) ReadBackWritten();
  report_.facts = target_.Facts();
}

bool JobThread::Done(Time now) const {
  if (report_.error != 0 || stop_()) return true;
  if (!measuring_) return false;
  if (job_.runtime_s > 0 && now - measured_from_ >= Duration(job_.runtime_s)) return true;
  return !job_.time_based && bytes_issued_ >= job_.bytes_wanted() && !sync_due_;
}

void JobThread::BeginMeasuring(Time now) {
  measuring_ = true;
  measured_from_ = now;
  sampled_ = now;
  cpu_before_ = CpuUsage::Now();
  counters_before_ = target_.Counters();
}

// Fills `request`, which has its slot. False when nothing may begin now.
bool JobThread::Plan(Request& request) {
  if (sync_due_) {
    // A flush covers the writes that have ended before it.
    if (free_slots_.size() < slots_.size() || !batch_.empty()) return false;
    sync_due_ = false;
    request.kind = Request::Kind::kSync;
    return true;
  }
  if (measuring_ && !job_.time_based && bytes_issued_ >= job_.bytes_wanted()) return false;
  const UnitOrder::Step step = order_.Next();
  request.kind = step.write ? Request::Kind::kWrite : Request::Kind::kRead;
  request.unit = step.unit;
  request.bytes = job_.BytesOf(step.unit);
  bytes_issued_ += measuring_ ? request.bytes : 0;
  if (step.write) {
    const bool last = job_.sync_every != 0 && ++writes_issued_ % job_.sync_every == 0;
    request.flushed = last && job_.tier == Tier::kStore;
    sync_due_ = last && job_.tier == Tier::kNvme;
    if (job_.verify) {
      session_->Fill(request);
      written_[step.unit] = true;
    }
  }
  return true;
}

void JobThread::Issue() {
  batch_.clear();
  while (!free_slots_.empty() && batch_.size() < depth_) {
    Request request = {.slot = free_slots_.back()};
    session_->Turn(request.slot);
    if (!Plan(request)) break;
    batch_.push_back(request);
    free_slots_.pop_back();
    slots_[request.slot].request = request;
    slots_[request.slot].created = Clock::now();
    const uint64_t outstanding = slots_.size() - free_slots_.size();
    const size_t level = static_cast<size_t>(std::bit_width(outstanding - 1));
    if (measuring_)
      ++report_.depth_levels[std::min<size_t>(level, report_.depth_levels.size() - 1)];
  }
  if (batch_.empty()) return;
  const Time begin = Clock::now();
  session_->Begin(batch_);
  // What ended within Begin has no submission of its own: all of it is completion.
  const Time submitted = session_->synchronous() ? begin : Clock::now();
  for (const Request& request : batch_) slots_[request.slot].submitted = submitted;
}

void JobThread::ReapSome() {
  ended_.clear();
  session_->Reap(ended_);
  const Time now = Clock::now();
  for (const Ended& end : ended_) {
    const Slot& slot = slots_[end.slot];
    if (measuring_ && !reading_back_ && end.status.ok()) Count(slot, now);
    Check(slot, end);
    free_slots_.push_back(end.slot);
  }
}

void JobThread::Count(const Slot& slot, Time now) {
  if (slot.request.kind == Request::Kind::kSync) {
    report_.sync.Record(Nanoseconds(now - slot.created));
    return;
  }
  const bool write = slot.request.kind == Request::Kind::kWrite;
  Direction& direction = write ? report_.write : report_.read;
  ++direction.ios;
  direction.bytes += slot.request.bytes;
  direction.slat.Record(Nanoseconds(slot.submitted - slot.created));
  direction.clat.Record(Nanoseconds(now - slot.submitted));
  direction.lat.Record(Nanoseconds(now - slot.created));
  (write ? moved_.write_ios : moved_.read_ios).store(direction.ios, std::memory_order_relaxed);
  (write ? moved_.write_bytes : moved_.read_bytes)
      .store(direction.bytes, std::memory_order_relaxed);
}

void JobThread::Check(const Slot& slot, const Ended& end) {
  const Request& request = slot.request;
  if (!end.status.ok()) {
    const char* const what = request.kind == Request::Kind::kRead    ? "read"
                             : request.kind == Request::Kind::kWrite ? "write"
                                                                     : "flush";
    return Fail(EIO, absl::StrCat(what, " of block ", request.unit, ": ", end.status.ToString()));
  }
  if (!job_.verify || request.kind != Request::Kind::kRead) return;
  const std::optional<uint64_t> at = session_->FirstDifference(request);
  report_.bytes_verified += request.bytes;
  if (!at.has_value()) return;
  ++report_.verify_failures;
  Fail(EILSEQ, absl::StrCat("verify: block ", request.unit, " of ", request.bytes,
                            " bytes is not what it must be at byte ", *at));
}

void JobThread::Sample(Time now) {
  if (now - sampled_ < kSampleTime) return;
  const double seconds = std::chrono::duration<double>(now - sampled_).count();
  const auto add = [seconds](Direction& direction, uint64_t(&sampled)[2]) {
    direction.ios_per_s_samples.push_back(static_cast<double>(direction.ios - sampled[0]) /
                                          seconds);
    direction.bytes_per_s_samples.push_back(static_cast<double>(direction.bytes - sampled[1]) /
                                            seconds);
    sampled[0] = direction.ios;
    sampled[1] = direction.bytes;
  };
  add(report_.read, sampled_read_);
  add(report_.write, sampled_write_);
  sampled_ = now;
}

// As fio does after a job that wrote: what was written is read and compared, out of the figures.
void JobThread::ReadBackWritten() {
  reading_back_ = true;
  uint64_t unit = 0;
  while (report_.error == 0) {
    batch_.clear();
    for (; unit < written_.size() && !free_slots_.empty() && !stop_(); ++unit) {
      if (!written_[unit]) continue;
      Request request = {.slot = free_slots_.back(), .unit = unit, .bytes = job_.BytesOf(unit)};
      free_slots_.pop_back();
      slots_[request.slot].request = request;
      batch_.push_back(request);
    }
    if (!batch_.empty()) session_->Begin(batch_);
    if (free_slots_.size() == slots_.size()) return;
    ReapSome();
  }
  while (free_slots_.size() < slots_.size()) ReapSome();
}

void JobThread::Fail(int error, const std::string& text) {
  if (report_.error != 0) return;
  report_.error = error;
  report_.error_text = text;
}

}  // namespace cairn::bench
