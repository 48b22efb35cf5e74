#include <algorithm>
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
#include "tools/inspect/progress.h"
#include "tools/inspect/record_map.h"
#include "tools/inspect/tensor_check.h"
#include "tools/inspect/unwritten.h"

namespace cairn::inspect {
namespace {

class Verifier {
 public:
  Verifier(const StoreView& view, const Options& options)
      : view_(view), options_(options), map_(&view.files()), evidence_(&map_) {}

  absl::Status CheckAll();
  void Print(Output& output) const;
  bool sound() const { return findings_.empty(); }

 private:
  enum class State : uint8_t { kUnknown, kSound, kDamaged, kSuperseded };
  struct Tensor {
    StoreView::Entry entry;
    State state = State::kUnknown;
    bool overlapped = false;  // By another that the index names.

    Run extent() const { return {entry.record.offset, entry.record.extent_bytes()}; }
  };
  struct Finding {
    std::string key;  // Printable; empty: of no tensor.
    uint32_t fingerprint_id = 0;
    Damage damage;
    const Tensor* tensor = nullptr;
  };

  absl::Status CheckIndex();
  void MarkOverlapped();
  void CheckTensors();
  bool Superseded(const IndexRecord& record, bool header_sound);
  std::string NeverWritten(const Tensor& tensor, const std::vector<Damage>& damage);
  void CheckOverlaps();
  void ForgetWhatChanged();
  void Forget(const StoreView& now, std::vector<Finding>& findings);
  void Add(Tensor& tensor, Damage damage);
  nlohmann::ordered_json ToJson(const std::vector<Finding>& findings) const;
  void PrintText(Output& output) const;
  std::string Fingerprint(uint32_t id) const;

  const StoreView& view_;
  const Options& options_;
  RecordMap map_;
  UnwrittenEvidence evidence_;
  std::vector<Tensor> tensors_;  // In order of offset.
  std::vector<Finding> findings_;
  std::vector<Finding> never_written_;
  uint64_t bytes_ = 0;
  uint64_t superseded_ = 0;
  uint64_t changed_ = 0;
  double seconds_ = 0;
  double mib_per_second_ = 0;
};

absl::Status Verifier::CheckAll() {
  for (const std::string& problem : view_.files().problems()) {
    findings_.push_back({.damage = {.what = "file", .detail = problem}});
  }
  CAIRN_RETURN_IF_ERROR(CheckIndex());
  MarkOverlapped();
  CheckTensors();
  CheckOverlaps();
  if (!findings_.empty() || !never_written_.empty()) ForgetWhatChanged();
  return absl::OkStatus();
}

absl::Status Verifier::CheckIndex() {
  const absl::Status& status = view_.index_status();
  if (absl::IsNotFound(status)) {
    // A store that was made and never used has none. One that was used has lost it.
    uint64_t records = 0;
    for (size_t file = 0; file < view_.files().files().size(); ++file) {
      if (view_.files().files()[file].fd >= 0) records += map_.InFile(file).found.size();
    }
    if (records == 0) return absl::OkStatus();
    findings_.push_back(
        {.damage = {.what = "index",
                    .detail = absl::StrCat("the index is missing: ", records,
                                           " records in the data files cannot be found",
                                           RebuildInstruction(options_.path))}});
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

void Verifier::MarkOverlapped() {
  std::sort(tensors_.begin(), tensors_.end(), [](const Tensor& a, const Tensor& b) {
    return a.entry.record.offset < b.entry.record.offset;
  });
  Tensor* before = nullptr;  // The one that reaches farthest of those so far.
  for (Tensor& tensor : tensors_) {
    if (before != nullptr && tensor.extent().offset < before->extent().end()) {
      tensor.overlapped = before->overlapped = true;
    }
    if (before == nullptr || tensor.extent().end() > before->extent().end()) before = &tensor;
  }
}

void Verifier::CheckTensors() {
  uint64_t bytes_total = 0;
  std::vector<const IndexRecord*> plan;
  for (const Tensor& tensor : tensors_) {
    bytes_total += tensor.entry.record.extent_bytes();
    plan.push_back(&tensor.entry.record);
  }
  Progress progress(bytes_total);
  TensorCheck check(&view_, plan, [&progress](uint64_t bytes) { progress.Add(bytes); });
  for (Tensor& tensor : tensors_) {
    const IndexRecord& record = tensor.entry.record;
    TensorCheck::Result result = check.Check(tensor.entry);
    bytes_ += record.payload_bytes;
    tensor.state = State::kSound;
    if (result.damage.empty()) continue;
    if (Superseded(record, /*header_sound=*/result.header == "ok")) {
      tensor.state = State::kSuperseded;
      ++superseded_;
      continue;
    }
    const std::string evidence = NeverWritten(tensor, result.damage);
    if (!evidence.empty()) {
      Damage& first = result.damage.front();
      first.detail = evidence;
      never_written_.push_back({.key = PrintableKey(tensor.entry.key),
                                .fingerprint_id = tensor.entry.fingerprint_id,
                                .damage = std::move(first),
                                .tensor = &tensor});
      continue;
    }
    for (Damage& damage : result.damage) Add(tensor, std::move(damage));
  }
  seconds_ = progress.Seconds();
  mib_per_second_ = progress.MibPerSecond();
}

// A table that is this tensor's own is its neighbours' too, and some of those have later numbers.
bool Verifier::Superseded(const IndexRecord& record, bool header_sound) {
  if (!ExtentProblem(view_.files(), record).empty()) return false;
  const auto later = [&](uint64_t offset, uint64_t bytes) {
    return map_.Later(offset, offset + bytes, record.sequence) != nullptr;
  };
  return later(record.offset, record.extent_bytes()) ||
         (!header_sound && later(record.header_offset(), record.header_bytes));
}

// What shows that all that is wrong are writes that never reached the disk; empty: nothing does.
std::string Verifier::NeverWritten(const Tensor& tensor, const std::vector<Damage>& damage) {
  // The store never gives a place to two: then it is not the power that did it.
  if (tensor.overlapped) return "";
  const uint64_t sequence = tensor.entry.record.sequence;
  std::string evidence;
  for (const Damage& one : damage) {
    if ((one.what != "header" && one.what != "payload") || one.bytes == 0) return "";
    if (one.what != "header") continue;
    evidence = evidence_.Of({one.offset, one.bytes}, sequence);
    // Where not even the header arrived, nothing is known of the rest.
    return evidence;
  }
  for (const Damage& one : damage) {
    evidence = evidence_.Of({one.offset, one.bytes}, sequence);
    if (evidence.empty()) break;
  }
  return evidence;
}

void Verifier::CheckOverlaps() {
  Tensor* before = nullptr;  // The one that reaches farthest of those so far.
  for (Tensor& tensor : tensors_) {
    if (tensor.state == State::kSuperseded) continue;
    if (before != nullptr && tensor.extent().offset < before->extent().end()) {
      const bool older = tensor.entry.record.sequence < before->entry.record.sequence;
      Tensor& loser = older ? tensor : *before;
      const Tensor& winner = older ? *before : tensor;
      Add(loser,
          {.what = "overlap",
           .detail = absl::StrCat("its extent overlaps that of ", PrintableKey(winner.entry.key)),
           .offset = loser.entry.record.offset});
    }
    if (before == nullptr || tensor.extent().end() > before->extent().end()) before = &tensor;
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
  Forget(*now, findings_);
  Forget(*now, never_written_);
}

void Verifier::Forget(const StoreView& now, std::vector<Finding>& findings) {
  const auto changed = [&](const Finding& finding) {
    if (finding.tensor == nullptr) return false;
    const absl::StatusOr<IndexRecord> record = now.Find(finding.tensor->entry.index_key());
    return absl::IsNotFound(record.status()) ||
           (record.ok() && record->sequence != finding.tensor->entry.record.sequence);
  };
  const size_t before = findings.size();
  findings.erase(std::remove_if(findings.begin(), findings.end(), changed), findings.end());
  changed_ += before - findings.size();
}

std::string Verifier::Fingerprint(uint32_t id) const {
  const std::string* const text = view_.FingerprintText(id);
  return text == nullptr ? "" : PrintableKey(*text);
}

nlohmann::ordered_json Verifier::ToJson(const std::vector<Finding>& findings) const {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const Finding& finding : findings) {
    const bool of_tensor = !finding.key.empty();
    all.push_back(
        {{"key", of_tensor ? nlohmann::ordered_json(finding.key) : nlohmann::ordered_json()},
         {"fingerprint", Fingerprint(finding.fingerprint_id)},
         {"what", finding.damage.what},
         {"detail", finding.damage.detail},
         {"offset", finding.damage.offset}});
  }
  return all;
}

void Verifier::Print(Output& output) const {
  if (!options_.json) {
    PrintText(output);
    return;
  }
  output.Json({{"store", options_.path},
               {"uuid", UuidText(view_.files().uuid())},
               {"format_version", view_.files().format_version()},
               {"tensors", tensors_.size()},
               {"bytes", bytes_},
               {"seconds", seconds_},
               {"mib_per_second", mib_per_second_},
               {"superseded", superseded_},
               {"changed", changed_},
               {"never_written", ToJson(never_written_)},
               {"damaged", ToJson(findings_)},
               {"sound", sound()}});
}

void Verifier::PrintText(Output& output) const {
  const auto line = [&output](std::string_view outcome, const Finding& finding) {
    const Damage& damage = finding.damage;
    output.Line(absl::StrCat(
        ToAbsl(outcome), ": ", finding.key.empty() ? "" : finding.key + ": ", damage.what, ": ",
        damage.detail, damage.offset == 0 ? "" : absl::StrCat(" (offset ", damage.offset, ")")));
  };
  for (const Finding& finding : never_written_) line("never written", finding);
  for (const Finding& finding : findings_) line("damaged", finding);
  std::string others;
  if (superseded_ > 0) {
    absl::StrAppend(&others, ", ", superseded_, " superseded by later writes (no damage)");
  }
  if (!never_written_.empty()) {
    absl::StrAppend(&others, ", ", never_written_.size(),
                    " never written (the power was lost first: no damage)");
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
  CAIRN_RETURN_IF_ERROR(verifier->CheckAll());
  verifier->Print(output);
  return verifier->sound() ? kSound : kDamaged;
}

}  // namespace cairn::inspect
