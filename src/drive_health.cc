#include "src/drive_health.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

// How long the device took for a request since then, or nothing where there were too few.
std::optional<uint64_t> ServiceUs(const NvmeTier::DriveFigures& since,
                                  const NvmeTier::DriveFigures& now) {
  const uint64_t requests = now.requests - since.requests;
  if (requests < DriveHealth::kSpanRequestsMin) return std::nullopt;
  return (now.service_us - since.service_us) / requests;
}

uint64_t MedianOfOthers(const std::vector<std::optional<uint64_t>>& service_us, size_t number) {
  std::vector<uint64_t> others;
  for (size_t i = 0; i < service_us.size(); ++i) {
    if (i != number && service_us[i].has_value()) others.push_back(*service_us[i]);
  }
  if (others.empty()) return UINT64_MAX / DriveHealth::kSlowRatio;  // Nothing to be slower than.
  const auto middle = others.begin() + static_cast<ptrdiff_t>(others.size() / 2);
  std::nth_element(others.begin(), middle, others.end());
  return *middle;
}

}  // namespace

DriveHealth::DriveHealth(const StoreFiles* files, NvmeTier* l3)
    : files_(files), folders_(files->folders()), l3_(l3), drives_(folders_.size()) {
  for (size_t i = 0; i < folders_.size(); ++i) weights_.push_back(files->WeightOf(i));
}

void DriveHealth::Judge(Deadline now) {
  if (folders_.size() < 2) return;
  MutexLock lock(mutex_);
  for (size_t i = 0; i < drives_.size(); ++i) JudgeErrors(i);
  if (now < span_end_) return;
  if (span_end_ != Deadline::min()) JudgeService();
  span_end_ = now + kSpan;
  for (size_t i = 0; i < drives_.size(); ++i) drives_[i].span_start = l3_->drive_figures(i);
}

void DriveHealth::JudgeErrors(size_t number) {
  Drive& drive = drives_[number];
  const NvmeTier::DriveFigures figures = l3_->drive_figures(number);
  drive.recent_requests += figures.requests - drive.last.requests;
  drive.recent_errors += figures.errors - drive.last.errors;
  drive.last = figures;
  if (drive.recent_errors >= kErrorsMin &&
      drive.recent_errors * kRequestsPerErrorMax >= drive.recent_requests) {
    Drain(number, absl::StrCat(drive.recent_errors, " of its last ", drive.recent_requests,
                               " requests failed"));
  }
  while (drive.recent_requests > kRecentMax) {
    drive.recent_requests /= 2;
    drive.recent_errors /= 2;
  }
}

void DriveHealth::JudgeService() {
  std::vector<std::optional<uint64_t>> service_us;
  service_us.reserve(drives_.size());
  for (size_t i = 0; i < drives_.size(); ++i) {
    service_us.push_back(ServiceUs(drives_[i].span_start, drives_[i].last));
  }
  for (size_t i = 0; i < drives_.size(); ++i) {
    if (!service_us[i].has_value()) continue;  // Idle: neither slow nor well.
    const uint64_t others_us = MedianOfOthers(service_us, i);
    const bool slow = *service_us[i] >= kSlowServiceUs && *service_us[i] >= kSlowRatio * others_us;
    drives_[i].slow_spans = slow ? drives_[i].slow_spans + 1 : 0;
    if (drives_[i].slow_spans < kSlowSpans) continue;
    Drain(i, absl::StrCat("it took ", *service_us[i] / 1000, " ms for a request, and the others ",
                          others_us / 1000, " ms, for ", (kSlowSpans * kSpan).count(), " s"));
  }
}

void DriveHealth::Drain(size_t number, std::string why) {
  if (!drives_[number].drained.empty()) return;
  const auto in_use = std::count_if(drives_.begin(), drives_.end(),
                                    [](const Drive& drive) { return drive.drained.empty(); });
  if (in_use == 1) return;
  drives_[number].drained = std::move(why);
  for (size_t file = 0; file < files_->files().size(); ++file) {
    if (files_->FolderOf(file) == number && files_->files()[file].fd >= 0) l3_->GiveUp(file);
  }
}

std::vector<DriveStats> DriveHealth::Stats() const {
  MutexLock lock(mutex_);
  std::vector<DriveStats> stats;
  stats.reserve(drives_.size());
  for (size_t i = 0; i < drives_.size(); ++i) {
    const NvmeTier::DriveFigures figures = l3_->drive_figures(i);
    const NvmeTier::DriveBytes bytes = l3_->drive_bytes(i);
    stats.push_back(
        {.path = folders_[i],
         .weight = weights_[i],
         .bytes_max = bytes.max,
         .bytes_used = bytes.used,
         .requests = figures.requests,
         .errors = figures.errors,
         .service_us_mean = figures.service_us / std::max<uint64_t>(figures.requests, 1),
         .drained = drives_[i].drained});
  }
  return stats;
}

std::string DriveHealth::Drained() const {
  MutexLock lock(mutex_);
  std::string text;
  for (size_t i = 0; i < drives_.size(); ++i) {
    if (drives_[i].drained.empty()) continue;
    absl::StrAppend(&text, text.empty() ? "" : "; ", folders_[i],
                    " is drained until the next Open: ", drives_[i].drained);
  }
  return text;
}

}  // namespace cairn
