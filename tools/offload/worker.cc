#include "tools/offload/worker.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "src/base/status_macros.h"
#include "tools/offload/block_content.h"
#include "tools/offload/replay.h"

namespace cairn::offload {
namespace {

using Clock = Interval::Clock;

constexpr absl::Duration kLease = absl::Seconds(60);
constexpr absl::Duration kWaitStep = absl::Seconds(1);
constexpr uint64_t kMismatchLinesMax = 20;

// What befalls a store that works: the block is computed anew, or not kept.
bool Bearable(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kUnavailable:
      return true;
    default:
      return false;
  }
}

uint64_t Microseconds(Clock::duration duration) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(duration).count());
}

}  // namespace

Worker::Worker(Store& store, std::unique_ptr<CompletionQueue> queue, const ReplayOptions& options,
               size_t window_blocks, Progress& progress)
    : store_(store),
      queue_(std::move(queue)),
      block_(options.block),
      want_(options.l1_bytes > 0 ? Level::kL1Gpu : Level::kL2Pinned),
      window_blocks_(window_blocks),
      progress_(progress),
      computed_(block_.bytes_max()),
      restored_(want_ == Level::kL1Gpu ? block_.bytes_max() : 0),
      drained_(window_blocks) {}

absl::Status Worker::Serve(const Request& request, int gpu) {
  Begin(request, gpu);
  CAIRN_RETURN_IF_ERROR(RestorePrefix());
  CAIRN_RETURN_IF_ERROR(ComputeRest());
  ++tally_.requests;
  tally_.blocks_looked_up += keys_.size();
  tally_.tokens_saved += std::min(usable_ * block_.tokens, request.input_tokens);
  return absl::OkStatus();
}

void Worker::Begin(const Request& request, int gpu) {
  request_ = &request;
  gpu_ = gpu;
  const size_t blocks = request.block_ids.size();
  key_texts_.clear();
  key_texts_.reserve(blocks);
  for (const uint64_t id : request.block_ids) key_texts_.push_back(BlockKey(id));
  keys_.assign(key_texts_.begin(), key_texts_.end());
  loads_ = std::vector<Completion>(blocks);
  damaged_.assign(blocks, false);
  usable_ = 0;
}

absl::Status Worker::RestorePrefix() {
  const Clock::time_point begin = Clock::now();
  absl::StatusOr<LeadingHits> hits = store_.CountLeading(keys_, {.duration = kLease});
  if (!hits.ok()) {
    ++tally_.load_failures;
    return Bearable(hits.status()) ? absl::OkStatus() : hits.status();
  }
  Clock::duration restoring = Clock::now() - begin;
  while (usable_ < hits->count) {
    const Window window = {usable_, std::min(usable_ + window_blocks_, hits->count)};
    Interval interval;
    CAIRN_RETURN_IF_ERROR(Load(window, interval));
    restoring += interval.end - interval.begin;
    CAIRN_RETURN_IF_ERROR(CountLoads(window, interval));
    // Without the block that failed, those behind it are of no use: they depend on it.
    if (usable_ < window.end) break;
  }
  if (hits->count > 0) tally_.restore_us.push_back(Microseconds(restoring));
  return absl::OkStatus();
}

// Loads the window's blocks all at once and waits for the last of them.
absl::Status Worker::Load(Window window, Interval& interval) {
  const auto keys = absl::MakeConstSpan(keys_).subspan(window.begin, window.end - window.begin);
  interval.begin = Clock::now();
  absl::Status started = store_.GetAsync(keys, {.want = want_, .gpu = gpu_}, *queue_, window.begin);
  if (!started.ok()) {
    interval.end = Clock::now();
    loads_[window.begin].status = started;
    for (size_t i = window.begin + 1; i < window.end; ++i) {
      loads_[i].status = absl::CancelledError("not started");
    }
    return Bearable(started) ? absl::OkStatus() : started;
  }
  for (size_t left = keys.size(); left > 0;) {
    const size_t count = queue_->Wait(absl::MakeSpan(drained_), kWaitStep);
    for (size_t i = 0; i < count; ++i) {
      const uint64_t block = drained_[i].tag;
      loads_[block] = std::move(drained_[i]);
    }
    left -= count;
  }
  interval.end = Clock::now();
  return absl::OkStatus();
}

// Compares what was loaded and lets go of it.
absl::Status Worker::CountLoads(Window window, const Interval& interval) {
  uint64_t bytes = 0;
  bool l3_only = true;
  for (size_t i = window.begin; i < window.end; ++i) {
    Completion& load = loads_[i];
    if (absl::IsCancelled(load.status)) continue;
    if (!load.status.ok()) {
      if (!Bearable(load.status)) return load.status;
      ++tally_.load_failures;
      damaged_[i] = absl::IsDataLoss(load.status);
      if (damaged_[i]) ++tally_.data_losses;
      continue;
    }
    const Level found_at = load.handle.found_at();
    l3_only = l3_only && found_at == Level::kL3Nvme;
    bytes += load.handle.view().size;
    damaged_[i] = !Verify(i, load.handle);
    load.handle.Release();
    if (damaged_[i] || usable_ != i) continue;
    ++usable_;
    ++tally_.hits_by_class[static_cast<size_t>(block_.Of(request_->block_ids[i]).tensor_class)];
    ++(found_at == Level::kL3Nvme
           ? tally_.hits_l3
           : (found_at == Level::kL2Pinned ? tally_.hits_l2 : tally_.hits_l1));
  }
  tally_.bytes_restored += bytes;
  tally_.restores.push_back(interval);
  if (l3_only && bytes > 0) {
    tally_.restores_l3_only.push_back(interval);
    tally_.bytes_restored_l3_only += bytes;
  }
  return absl::OkStatus();
}

bool Worker::Verify(size_t block, const TensorHandle& handle) {
  const uint64_t id = request_->block_ids[block];
  const uint64_t expected_bytes = block_.Of(id).bytes;
  absl::Span<const std::byte> bytes(handle.view().data, handle.view().size);
  if (handle.level() == Level::kL1Gpu) {
    restored_.resize(std::max<size_t>(restored_.size(), bytes.size()));
    const absl::Span<std::byte> target = absl::MakeSpan(restored_).first(bytes.size());
    if (const absl::Status copied = handle.CopyTo(target); !copied.ok()) {
      ++tally_.load_failures;
      progress_.Line(std::string(copied.message()));
      return false;
    }
    bytes = target;
  }
  tally_.bytes_compared += bytes.size();
  std::optional<uint64_t> difference = FirstDifference(id, bytes);
  if (!difference.has_value() && bytes.size() != expected_bytes) {
    difference = std::min<uint64_t>(bytes.size(), expected_bytes);
  }
  if (!difference.has_value()) return true;
  if (++tally_.mismatches <= kMismatchLinesMax) {
    progress_.Line(absl::StrFormat("mismatch: %s (%d of %d bytes) differs from byte %d on",
                                   BlockKey(id), bytes.size(), expected_bytes, *difference));
  }
  return false;
}

bool Worker::Partial(size_t block) const {
  return block + 1 == keys_.size() && request_->input_tokens < keys_.size() * block_.tokens;
}

absl::Status Worker::ComputeRest() {
  for (size_t i = usable_; i < keys_.size(); ++i) {
    const uint64_t id = request_->block_ids[i];
    const BlockPlan::Tensor tensor = block_.Of(id);
    FillBlock(id, absl::MakeSpan(computed_).first(tensor.bytes));
    const TensorView view = {.meta = tensor.meta, .data = computed_.data(), .size = tensor.bytes};
    const PutOptions options = {.if_exists = damaged_[i] ? IfExists::kReplace : IfExists::kKeep,
                                .tensor_class = tensor.tensor_class,
                                .partial_block = Partial(i)};
    const Clock::time_point begin = Clock::now();
    absl::Status put = store_.Put(keys_[i], view, options);
    tally_.put_waits.push_back({begin, Clock::now()});
    ++tally_.puts;
    // After the deadline the block is there, and its write goes on.
    if (put.ok() || absl::IsDeadlineExceeded(put)) continue;
    if (!Bearable(put)) return put;
    if (absl::IsUnavailable(put)) {
      if (++tally_.puts_unavailable == 1) tally_.unavailable = std::string(put.message());
    } else {
      ++tally_.puts_refused;
    }
    // A prefix ends at the first block that is not stored: those behind it could not be found.
    break;
  }
  return absl::OkStatus();
}

}  // namespace cairn::offload
