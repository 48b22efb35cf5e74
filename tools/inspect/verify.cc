#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tools/inspect/commands.h"
#include "tools/inspect/record_map.h"
#include "tools/inspect/tensor_check.h"

namespace cairn::inspect {
namespace {

using Clock = std::chrono::steady_clock;

// "45 %  2310 MiB/s" on a terminal, nothing elsewhere.
class Progress {
 public:
  explicit Progress(uint64_t bytes_total)
      : terminal_(isatty(STDERR_FILENO) != 0), bytes_total_(bytes_total) {}
  ~Progress() {
    if (drawn_) std::fputs("\r\033[K", stderr);
  }

  void Add(uint64_t bytes) {
    bytes_ += bytes;
    const Clock::time_point now = Clock::now();
    if (!terminal_ || now - drawn_at_ < std::chrono::milliseconds(200)) return;
    drawn_at_ = now;
    drawn_ = true;
    std::fputs(
        absl::StrFormat("\r\033[K%d %%  %.0f MiB/s",
                        bytes_total_ == 0 ? 100 : bytes_ * 100 / bytes_total_, MibPerSecond())
            .c_str(),
        stderr);
  }
  double Seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }
  double MibPerSecond() const {
    return static_cast<double>(bytes_) / (1 << 20) / std::max(Seconds(), 1e-9);
  }

 private:
  const bool terminal_;
  const uint64_t bytes_total_;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point drawn_at_ = begin_;
  bool drawn_ = false;
  uint64_t bytes_ = 0;
};

class Verifier {
 public:
  Verifier(const StoreView& view, const Options& options)
      : view_(view), options_(options), map_(&view.files()) {}

  absl::Status Run();
  void Print(Output& output) const;
  bool sound() const { return findings_.empty(); }

 private:
  enum class State : uint8_t { kUnknown, kSound, kDamaged, kSuperseded };
  struct Tensor {
    StoreView::Entry entry;
    State state = State::kUnknown;
  };
  struct Finding {
    std::string key;  // Printable; empty: of no tensor.
    uint32_t fingerprint_id = 0;
    Damage damage;
    const Tensor* tensor = nullptr;
  };

  absl::Status CheckIndex();
  void CheckTensors();
  void CheckOverlaps();
  void ForgetWhatChanged();
  void Add(Tensor& tensor, Damage damage);
  std::string Fingerprint(uint32_t id) const;

  const StoreView& view_;
  const Options& options_;
  RecordMap map_;
  std::vector<Tensor> tensors_;  // In order of offset.
  std::vector<Finding> findings_;
  uint64_t bytes_ = 0;
  uint64_t superseded_ = 0;
  uint64_t changed_ = 0;
  double seconds_ = 0;
  double mib_per_second_ = 0;
};

absl::Status Verifier::Run() {
  for (const std::string& problem : view_.files().problems()) {
    findings_.push_back({.damage = {.what = "file", .detail = problem}});
  }
  CAIRN_RETURN_IF_ERROR(CheckIndex());
  CheckTensors();
  CheckOverlaps();
  if (!findings_.empty()) ForgetWhatChanged();
  return absl::OkStatus();
}

absl::Status Verifier::CheckIndex() {
  const absl::Status& status = view_.index_status();
  if (absl::IsNotFound(status)) {
    // A store that was made and never used has none. One that was used has lost it.
    uint64_t records = 0;
    for (size_t file = 0; file < view_.files().files().size(); ++file) {
      if (view_.files().files()[file].fd >= 0) records += map_.InFile(file).size();
    }
    if (records == 0) return absl::OkStatus();
    findings_.push_back(
        {.damage = {.what = "index",
                    .detail = absl::StrCat("the index is missing: ", records,
                                           " records in the data files cannot be found")}});
    return absl::OkStatus();
  }
  if (absl::IsDataLoss(status)) {
    findings_.push_back({.damage = {.what = "index", .detail = std::string(status.message())}});
    return absl::OkStatus();
  }
  CAIRN_RETURN_IF_ERROR(status);

  std::vector<StoreView::DamagedEntry> damaged;
  const auto visit = [this](StoreView::Entry entry) {
    tensors_.push_back({.entry = std::move(entry)});
    return true;
  };
  const absl::Status read = view_.ForEach(visit, damaged);
  for (const StoreView::DamagedEntry& entry : damaged) {
    const absl::StatusOr<IndexKey> key = DecodeIndexKey(entry.raw_key);
    findings_.push_back(
        {.key = key.ok() ? PrintableKey(key->key) : PrintableKey(entry.raw_key),
         .fingerprint_id = key.ok() ? key->fingerprint_id : 0,
         .damage = {.what = "index", .detail = std::string(entry.status.message())}});
  }
  if (absl::IsDataLoss(read)) {
    findings_.push_back({.damage = {.what = "index", .detail = std::string(read.message())}});
    return absl::OkStatus();
  }
  return read;
}

void Verifier::CheckTensors() {
  std::sort(tensors_.begin(), tensors_.end(), [](const Tensor& a, const Tensor& b) {
    return a.entry.record.offset < b.entry.record.offset;
  });
  uint64_t bytes_total = 0;
  for (const Tensor& tensor : tensors_) bytes_total += tensor.entry.record.extent_bytes();
  Progress progress(bytes_total);
  TensorCheck check(&view_, [&progress](uint64_t bytes) { progress.Add(bytes); });
  for (Tensor& tensor : tensors_) {
    const IndexRecord& record = tensor.entry.record;
    TensorCheck::Result result = check.Check(tensor.entry);
    bytes_ += record.payload_bytes;
    tensor.state = State::kSound;
    if (result.damage.empty()) continue;
    const uint64_t header = record.header_offset();
    if (ExtentProblem(view_.files(), record).empty() &&
        (map_.Later(record.offset, record.offset + record.extent_bytes(), record.sequence) ||
         map_.Later(header, header + record.header_bytes, record.sequence))) {
      tensor.state = State::kSuperseded;
      ++superseded_;
      continue;
    }
    for (Damage& damage : result.damage) Add(tensor, std::move(damage));
  }
  seconds_ = progress.Seconds();
  mib_per_second_ = progress.MibPerSecond();
}

void Verifier::CheckOverlaps() {
  Tensor* before = nullptr;  // The one that reaches farthest of those so far.
  for (Tensor& tensor : tensors_) {
    if (tensor.state == State::kSuperseded) continue;
    const auto end = [](const Tensor& of) {
      return of.entry.record.offset + of.entry.record.extent_bytes();
    };
    if (before != nullptr && tensor.entry.record.offset < end(*before)) {
      const bool older = tensor.entry.record.sequence < before->entry.record.sequence;
      Tensor& loser = older ? tensor : *before;
      const Tensor& winner = older ? *before : tensor;
      Add(loser,
          {.what = "overlap",
           .detail = absl::StrCat("its extent overlaps that of ", PrintableKey(winner.entry.key)),
           .offset = loser.entry.record.offset});
    }
    if (before == nullptr || end(tensor) > end(*before)) before = &tensor;
  }
}

void Verifier::Add(Tensor& tensor, Damage damage) {
  tensor.state = State::kDamaged;
  findings_.push_back({.key = PrintableKey(tensor.entry.key),
                       .fingerprint_id = tensor.entry.fingerprint_id,
                       .damage = std::move(damage),
                       .tensor = &tensor});
}

// A store in use goes on while we read: what its index no longer says is no damage.
void Verifier::ForgetWhatChanged() {
  const absl::StatusOr<StoreView> now = StoreView::Open(options_.path);
  if (!now.ok() || !now->index_status().ok()) return;
  const auto changed = [&](const Finding& finding) {
    if (finding.tensor == nullptr) return false;
    const absl::StatusOr<IndexRecord> record = now->Find(finding.tensor->entry.index_key());
    return absl::IsNotFound(record.status()) ||
           (record.ok() && record->sequence != finding.tensor->entry.record.sequence);
  };
  const size_t before = findings_.size();
  findings_.erase(std::remove_if(findings_.begin(), findings_.end(), changed), findings_.end());
  changed_ = before - findings_.size();
}

std::string Verifier::Fingerprint(uint32_t id) const {
  const std::string* const text = view_.FingerprintText(id);
  return text == nullptr ? "" : PrintableKey(*text);
}

void Verifier::Print(Output& output) const {
  if (options_.json) {
    nlohmann::ordered_json damaged = nlohmann::ordered_json::array();
    for (const Finding& finding : findings_) {
      const bool of_tensor = !finding.key.empty();
      damaged.push_back(
          {{"key", of_tensor ? nlohmann::ordered_json(finding.key) : nlohmann::ordered_json()},
           {"fingerprint", Fingerprint(finding.fingerprint_id)},
           {"what", finding.damage.what},
           {"detail", finding.damage.detail},
           {"offset", finding.damage.offset}});
    }
    output.Json({{"store", options_.path},
                 {"uuid", UuidText(view_.files().uuid())},
                 {"format_version", kFormatVersion},
                 {"tensors", tensors_.size()},
                 {"bytes", bytes_},
                 {"seconds", seconds_},
                 {"mib_per_second", mib_per_second_},
                 {"superseded", superseded_},
                 {"changed", changed_},
                 {"damaged", std::move(damaged)},
                 {"sound", sound()}});
    return;
  }
  for (const Finding& finding : findings_) {
    output.Line(absl::StrCat(
        "damaged: ", finding.key.empty() ? "" : finding.key + ": ", finding.damage.what, ": ",
        finding.damage.detail,
        finding.damage.offset == 0 ? "" : absl::StrCat(" (offset ", finding.damage.offset, ")")));
  }
  std::string others;
  if (superseded_ > 0) {
    absl::StrAppend(&others, ", ", superseded_, " superseded by later writes (no damage)");
  }
  if (changed_ > 0) absl::StrAppend(&others, ", ", changed_, " changed meanwhile");
  output.Line(
      absl::StrFormat("%d tensors, %s, read at %.0f MiB/s%s: %s", tensors_.size(),
                      FormatBytes(bytes_), mib_per_second_, others,
                      sound() ? "sound" : absl::StrCat("damage in ", findings_.size(), " places")));
}

}  // namespace

absl::StatusOr<int> Verify(const StoreView& view, const Options& options, Output& output) {
  const auto verifier = std::make_unique<Verifier>(view, options);
  CAIRN_RETURN_IF_ERROR(verifier->Run());
  verifier->Print(output);
  return verifier->sound() ? kSound : kDamaged;
}

}  // namespace cairn::inspect
