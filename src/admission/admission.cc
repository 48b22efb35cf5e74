#include "src/admission/admission.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "io/file.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

constexpr uint64_t kBurstShare = 10;  // Of a day.
// What drives are sold for: one write of the whole drive on each day of five years.
constexpr double kRatedDriveWrites = 5 * 365;
constexpr size_t kAdmissionFileBytesMax = 256;

struct Saved {
  int64_t unix_ms = 0;
  int64_t in_hand_bytes = 0;
};

absl::StatusOr<Saved> ReadSaved(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(const std::string text, ReadStart(path, kAdmissionFileBytesMax));
  const std::vector<std::string> words = absl::StrSplit(text, absl::ByAnyChar(" \n"));
  Saved saved;
  if (words.size() < 2 || !absl::SimpleAtoi(words[0], &saved.unix_ms) ||
      !absl::SimpleAtoi(words[1], &saved.in_hand_bytes)) {
    return absl::DataLossError(absl::StrCat(path, " is not to be read"));
  }
  return saved;
}

Decision DecisionOf(AdmissionReason reason) {
  switch (reason) {
    case AdmissionReason::kPromised:
      return Decision::kAdmittedPromised;
    case AdmissionReason::kSecondSight:
      return Decision::kAdmittedSecondSight;
    case AdmissionReason::kFirstSight:
      return Decision::kAdmittedFirstSight;
    case AdmissionReason::kPartial:
      return Decision::kRefusedPartial;
    case AdmissionReason::kNotSeenBefore:
      return Decision::kRefusedFirstSight;
    case AdmissionReason::kOverBudget:
      return Decision::kRefusedOverBudget;
  }
  return Decision::kRefusedOverBudget;
}

uint64_t BytesPerDay(const Admission::Options& options) {
  if (options.bytes_per_day != 0) return options.bytes_per_day;
  return options.drive_bytes == 0 ? StoreOptions::kL3WritesUnlimited : options.drive_bytes;
}

}  // namespace

Admission::Admission(const Options& options)
    : bytes_per_day_(BytesPerDay(options)),
      drive_bytes_(options.drive_bytes),
      path_(absl::StrCat(options.directory, "/", kFileName)),
      now_unix_ms_(options.now_unix_ms),
      opened_unix_ms_(now_unix_ms_()),
      journal_(options.journal),
      policy_(bytes_per_day_ == StoreOptions::kL3WritesUnlimited
                  ? nullptr
                  : std::make_unique<AdmissionPolicy>(
                        AdmissionPolicy::Options{BudgetOptions(options), options.l3_bytes_max})) {}

WriteBudget::Options Admission::BudgetOptions(const Options& options) const {
  WriteBudget::Options budget = {.bytes_per_day = bytes_per_day_,
                                 .burst_bytes = bytes_per_day_ / kBurstShare,
                                 .in_hand_bytes = 0,
                                 .now_ms = opened_unix_ms_};
  const bool derived = options.bytes_per_day == 0;
  // What was asked for is kept to from the first second on; what is only derived lets a new store
  // fill once without delay.
  if (derived) budget.burst_bytes = std::max(budget.burst_bytes, options.l3_bytes_max);
  const absl::StatusOr<Saved> saved =
      options.new_store ? absl::NotFoundError("a new store") : ReadSaved(path_);
  // A store that never had a budget is as good as new.
  if (derived && absl::IsNotFound(saved.status())) {
    budget.in_hand_bytes = static_cast<int64_t>(budget.burst_bytes);
  }
  if (saved.ok()) {
    budget.in_hand_bytes = saved->in_hand_bytes;
    budget.now_ms = std::min(saved->unix_ms, opened_unix_ms_);
  }
  return budget;
}

void Admission::Request(absl::Span<const uint64_t> key_hashes) {
  if (!limited()) return;
  MutexLock lock(mutex_);
  policy_->Request(key_hashes);
}

AdmissionReason Admission::Decide(const AdmissionPolicy::Tensor& tensor) {
  const AdmissionReason reason = Judge(tensor);
  if (limited()) Note(tensor, reason);
  return reason;
}

AdmissionReason Admission::Reconsider(const AdmissionPolicy::Tensor& tensor) {
  const AdmissionReason reason = Judge(tensor);
  if (limited() && Admitted(reason)) Note(tensor, reason);
  return reason;
}

void Admission::Note(const AdmissionPolicy::Tensor& tensor, AdmissionReason reason) const {
  journal_->Note(tensor.key_hash, DecisionOf(reason), tensor.bytes);
}

AdmissionReason Admission::Judge(const AdmissionPolicy::Tensor& tensor) {
  if (!limited()) return AdmissionReason::kFirstSight;
  const int64_t now_ms = now_unix_ms_();
  MutexLock lock(mutex_);
  return policy_->Decide(tensor, now_ms);
}

void Admission::Return(const AdmissionPolicy::Tensor& tensor, AdmissionReason reason) {
  if (!limited()) return;
  MutexLock lock(mutex_);
  policy_->Return(tensor, reason);
}

bool Admission::Spare(uint64_t bytes) {
  if (!limited()) return true;
  const int64_t now_ms = now_unix_ms_();
  MutexLock lock(mutex_);
  return policy_->Spare(bytes, now_ms);
}

bool Admission::CanSpare(uint64_t bytes) const {
  if (!limited()) return true;
  const int64_t now_ms = now_unix_ms_();
  MutexLock lock(mutex_);
  policy_->AdvanceTo(now_ms);
  return policy_->budget().in_hand_bytes() >= static_cast<double>(bytes);
}

void Admission::Left(uint64_t key_hash) {
  if (!limited()) return;
  MutexLock lock(mutex_);
  policy_->Left(key_hash);
}

WriteBudgetStats Admission::Stats() const {
  WriteBudgetStats stats;
  if (!limited()) return stats;
  const int64_t now_ms = now_unix_ms_();
  MutexLock lock(mutex_);
  policy_->AdvanceTo(now_ms);
  stats.bytes_per_day = bytes_per_day_;
  stats.bytes_granted = static_cast<uint64_t>(std::max(0.0, policy_->budget().granted_bytes()));
  stats.bytes_in_hand = static_cast<int64_t>(policy_->budget().in_hand_bytes());
  stats.bytes_written = policy_->written_bytes();
  stats.admitted_promised = policy_->count(AdmissionReason::kPromised);
  stats.admitted_second_sight = policy_->count(AdmissionReason::kSecondSight);
  stats.admitted_first_sight = policy_->count(AdmissionReason::kFirstSight);
  stats.refused_partial = policy_->count(AdmissionReason::kPartial);
  stats.refused_first_sight = policy_->count(AdmissionReason::kNotSeenBefore);
  stats.refused_over_budget = policy_->count(AdmissionReason::kOverBudget);
  const double days = static_cast<double>(now_ms - opened_unix_ms_) / kMillisecondsADay;
  if (days > 0 && stats.bytes_written > 0) {
    stats.drive_life_days = kRatedDriveWrites * static_cast<double>(drive_bytes_) /
                            (static_cast<double>(stats.bytes_written) / days);
  }
  return stats;
}

absl::Status Admission::Save() {
  if (!limited()) return absl::OkStatus();
  const int64_t now_ms = now_unix_ms_();
  int64_t in_hand_bytes = 0;
  uint64_t written_bytes = 0;
  {
    MutexLock lock(mutex_);
    written_bytes = policy_->written_bytes();
    if (written_bytes == saved_written_bytes_) return absl::OkStatus();
    policy_->AdvanceTo(now_ms);
    in_hand_bytes = static_cast<int64_t>(policy_->budget().in_hand_bytes());
  }
  const std::string beside = path_ + ".new";
  CAIRN_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(beside, O_WRONLY | O_CREAT | O_TRUNC));
  CAIRN_RETURN_IF_ERROR(
      WriteAt(file.get(), 0, absl::StrCat(now_ms, " ", in_hand_bytes, "\n"), beside));
  if (std::rename(beside.c_str(), path_.c_str()) != 0) {
    return ErrnoStatus(errno, "replacing", path_);
  }
  MutexLock lock(mutex_);
  saved_written_bytes_ = written_bytes;
  return absl::OkStatus();
}

}  // namespace cairn
