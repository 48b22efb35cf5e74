#include "bench/tier/store_target.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/tier/device_copy_rate.h"
#include "bench/tier/memcpy_rate.h"
#include "bench/tier/own_store.h"
#include "bench/tier/store_session.h"
#include "cairn/store.h"
#include "io/index.h"
#include "src/base/status_macros.h"
#include "tools/offload/interrupt.h"

namespace cairn::bench {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kL2BytesDefault = 64 * kMiB;
constexpr uint64_t kRecordOverheadBytes = 8192;
constexpr uint32_t kFillDepth = 8;
constexpr uint64_t kIndexShareOfL3 = 64;  // IndexBytesReserved.
constexpr uint64_t kEvictionBytes = 18;   // Of each tensor, beside the index (DESIGN.md).

uint64_t UnitsOf(const Job& job) { return job.size / job.slot_bytes(); }

// What the tensors of all key spaces of the jobs take, by what each takes.
uint64_t SumOfTensors(absl::Span<const Job* const> jobs,
                      absl::FunctionRef<uint64_t(const Job&)> tensor_bytes) {
  std::set<std::string> seen;
  uint64_t bytes = 0;
  for (const Job* job : jobs) {
    if (!seen.insert(KeyPrefix(*job)).second) continue;
    uint64_t size_max = 0;
    for (const Job* other : jobs) {
      if (KeyPrefix(*other) == KeyPrefix(*job)) size_max = std::max(size_max, other->size);
    }
    bytes += size_max / job->slot_bytes() * tensor_bytes(*job);
  }
  return bytes;
}

uint64_t TensorBytes(absl::Span<const Job* const> jobs) {
  return SumOfTensors(jobs, [](const Job& job) { return job.slot_bytes() + kRecordOverheadBytes; });
}

uint64_t IndexBytes(absl::Span<const Job* const> jobs) {
  return SumOfTensors(jobs, [](const Job& job) {
    return IndexFootprintBytes(KeyOf(job, 0).size(), /*rank=*/1) + kEvictionBytes;
  });
}

uint64_t BytesInFlight(absl::Span<const Job* const> jobs) {
  uint64_t bytes = 0;
  for (const Job* job : jobs) bytes += uint64_t{job->clones} * job->depth * job->slot_bytes();
  return bytes;
}

uint64_t L3BytesFor(absl::Span<const Job* const> jobs) {
  // A put that replaces a tensor needs the room of both.
  const uint64_t data = TensorBytes(jobs) * 9 / 8 + 2 * BytesInFlight(jobs) + 64 * kMiB;
  // Of many small tensors the index would else have room for fewer than the data files.
  const uint64_t index = IndexBytes(jobs) * 9 / 8;
  return std::max(data + data / 32, index * kIndexShareOfL3);
}

StoreOptions StoreOptionsOf(absl::Span<const Job* const> jobs, uint64_t l3_bytes) {
  const Job& first = *jobs.front();
  StoreOptions options;
  options.path = StorePath(first.directory);
  options.device = DeviceKind::kHost;
  options.l3_bytes_max = l3_bytes;
  // Measured is the store, not how it spares the drive.
  options.l3_write_bytes_per_day = StoreOptions::kL3WritesUnlimited;
  if (first.tier == Tier::kGpu) {
    options.device = DeviceKind::kAuto;
    // Hardly any of it is there when it is asked for.
    options.l1_bytes_max = std::max(2 * kMiB, 2 * BytesInFlight(jobs));
  }
  if (first.tier != Tier::kStore) {
    options.l2_bytes_max = TensorBytes(jobs) * 5 / 4 + 64 * kMiB;
    // Puts are to find room, not to wait for L3.
    options.l2_dirty_share_max = 1;
  } else {
    options.l2_bytes_max = 0;
    for (const Job* job : jobs)
      options.l2_bytes_max = std::max(options.l2_bytes_max, job->l2_bytes);
    if (options.l2_bytes_max == 0) {
      options.l2_bytes_max = std::max(kL2BytesDefault, 4 * BytesInFlight(jobs));
    }
  }
  options.io_bytes_in_flight_max =
      std::max(options.io_bytes_in_flight_max, 2 * BytesInFlight(jobs));
  options.io_engine = first.engine == Engine::kUring   ? IoEngineKind::kUring
                      : first.engine == Engine::kPosix ? IoEngineKind::kPosix
                                                       : IoEngineKind::kAuto;
  if (first.polls_submissions) options.io_submission_polling = Job::kSubmissionPolling;
  options.io_completion_polling = first.polls_completions;
  return options;
}

absl::StatusOr<std::unique_ptr<StoreSession>> NewStoreSession(Store& store, const Job& job,
                                                              const MemorySource& source) {
  CAIRN_ASSIGN_OR_RETURN(SlotMemory memory, SlotMemory::Create(job, source));
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<CompletionQueue> queue,
                         CompletionQueue::Create(job.depth));
  return std::make_unique<StoreSession>(std::move(memory), store, std::move(queue), job);
}

// Erases what other jobs have left: it would only be in the way.
absl::Status EraseOthers(Store& store, absl::Span<const Job* const> jobs) {
  std::string after;
  for (bool more = true; more;) {
    CAIRN_ASSIGN_OR_RETURN(const ScanPage page, store.Scan("", after, size_t{1} << 20));
    for (const ScanEntry& entry : page.entries) {
      const bool ours = std::any_of(jobs.begin(), jobs.end(), [&entry](const Job* job) {
        return absl::StartsWith(entry.key, KeyPrefix(*job));
      });
      if (!ours) CAIRN_RETURN_IF_ERROR(store.Erase(entry.key));
    }
    more = page.more;
    if (more) after = page.entries.back().key;
  }
  return absl::OkStatus();
}

// Puts what is not there, straight to L3.
absl::Status PutMissing(Store& store, Job job) {
  job.depth = kFillDepth;
  job.durability = Durability::kOnDevice;
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<StoreSession> session,
                         NewStoreSession(store, job, {}));
  std::vector<size_t> free_slots;
  for (size_t slot = 0; slot < job.depth; ++slot) free_slots.push_back(slot);
  std::vector<Ended> ended;
  for (uint64_t unit = 0; unit < UnitsOf(job) || free_slots.size() < job.depth;) {
    if (unit < UnitsOf(job) && !free_slots.empty()) {
      if (offload::Interrupted()) return absl::CancelledError("interrupted while it was filled");
      const absl::StatusOr<TensorInfo> info = store.Describe(KeyOf(job, unit));
      const uint64_t bytes = job.BytesOf(unit);
      if (!info.ok() || info->bytes != bytes || info->quarantined) {
        const Request request = {
            .kind = Request::Kind::kWrite, .slot = free_slots.back(), .unit = unit, .bytes = bytes};
        free_slots.pop_back();
        session->Fill(request);
        session->Begin({&request, 1});
      }
      ++unit;
      continue;
    }
    ended.clear();
    session->Reap(ended);
    for (const Ended& end : ended) {
      CAIRN_RETURN_IF_ERROR(end.status);
      free_slots.push_back(end.slot);
    }
  }
  return absl::OkStatus();
}

absl::Status LoadIntoL2(Store& store, const Job& job) {
  for (uint64_t unit = 0; unit < UnitsOf(job); ++unit) {
    if (offload::Interrupted()) return absl::CancelledError("interrupted while it was loaded");
    CAIRN_RETURN_IF_ERROR(store.Get(KeyOf(job, unit), {}).status());
  }
  return absl::OkStatus();
}

class StoreTarget : public Target {
 public:
  StoreTarget(std::unique_ptr<Store> store, const TargetOptions& options,
              uint64_t bytes_in_flight_max)
      : store_(std::move(store)), options_(options) {
    const StatsSnapshot stats = store_->Stats();
    facts_.engine = stats.io_engine;
    facts_.device = stats.device;
    facts_.direct = stats.io_direct;
    facts_.bytes_in_flight_max = bytes_in_flight_max;
  }

  uint64_t UnitCount(const Job& job) const override { return UnitsOf(job); }

  absl::StatusOr<std::unique_ptr<Session>> NewSession(const Job& job) override {
    std::unique_ptr<KeySession> session;
    if (job.tier == Tier::kGpu) {
      CAIRN_ASSIGN_OR_RETURN(session, NewGpuSession(job));
    } else if (job.tier == Tier::kPinned) {
      CAIRN_ASSIGN_OR_RETURN(session, NewPinnedSession(job));
    } else {
      CAIRN_ASSIGN_OR_RETURN(session, NewStoreSession(*store_, job, options_.memory));
    }
    facts_.pages = session->memory().pages();
    facts_.registered = session->registered();
    return session;
  }

  TargetCounters Counters() const override {
    const StatsSnapshot stats = store_->Stats();
    return {.l1_hits = stats.l1.hits,
            .l2_hits = stats.l2.hits,
            .l3_hits = stats.l3.hits,
            .checksum_failures = stats.checksum_failures,
            .device_bytes_written = stats.device_bytes_written};
  }
  TargetFacts Facts() const override {
    TargetFacts facts = facts_;
    StatsSnapshot stats = store_->Stats();
    facts.submissions_polled = stats.io_submissions_polled;
    facts.completions_polled = stats.io_completions_polled;
    facts.polling_refusal = std::move(stats.io_polling_refusal);
    return facts;
  }

 private:
  absl::StatusOr<std::unique_ptr<PinnedSession>> NewPinnedSession(const Job& job) {
    double& memcpy_bytes_per_s = memcpy_bytes_per_s_[&job];
    if (memcpy_bytes_per_s == 0) {
      CAIRN_ASSIGN_OR_RETURN(memcpy_bytes_per_s,
                             MeasureMemcpy(job.slot_bytes(), job.size, job.clones));
    }
    CAIRN_ASSIGN_OR_RETURN(SlotMemory memory, SlotMemory::Create(job, options_.memory));
    return std::make_unique<PinnedSession>(std::move(memory), *store_, job,
                                           memcpy_bytes_per_s / job.clones);
  }

  absl::StatusOr<std::unique_ptr<GpuSession>> NewGpuSession(const Job& job) {
    double& copy_bytes_per_s = memcpy_bytes_per_s_[&job];
    if (copy_bytes_per_s == 0) {
      CAIRN_ASSIGN_OR_RETURN(copy_bytes_per_s, MeasureDeviceCopies(job.slot_bytes(), job.size,
                                                                   job.depth * job.clones));
    }
    CAIRN_ASSIGN_OR_RETURN(SlotMemory memory, SlotMemory::Create(job, options_.memory));
    CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<CompletionQueue> queue,
                           CompletionQueue::Create(job.depth));
    return std::make_unique<GpuSession>(std::move(memory), *store_, std::move(queue), job,
                                        copy_bytes_per_s / job.clones);
  }

  const std::unique_ptr<Store> store_;
  const TargetOptions options_;
  TargetFacts facts_;
  std::map<const Job*, double> memcpy_bytes_per_s_;  // Measured once for all clones of a job.
};

}  // namespace

std::string StorePath(const std::string& directory) {
  return absl::StrCat(directory, "/tier-bench.store");
}

std::string KeyPrefix(const Job& job) {
  std::string prefix = job.verify ? "content/" : "any/";
  if (job.split.empty()) {
    absl::StrAppend(&prefix, job.block_bytes);
  } else {
    for (const SizeShare& share : job.split)
      absl::StrAppend(&prefix, share.bytes, "-", share.percent, "-");
  }
  return prefix.substr(0, 200) + "/";
}

std::string KeyOf(const Job& job, uint64_t unit) {
  return absl::StrFormat("%s%010d", KeyPrefix(job), unit);
}

absl::StatusOr<std::unique_ptr<Target>> OpenStoreTarget(absl::Span<const Job* const> jobs,
                                                        const TargetOptions& options) {
  const std::string& directory = jobs.front()->directory;
  if (IsStore(directory)) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory, " is a store: tier=", TierName(jobs.front()->tier),
                     " makes one of its own; give it another directory"));
  }
  CAIRN_ASSIGN_OR_RETURN(const OwnStoreMark mark,
                         PrepareOwnStore(StorePath(directory), L3BytesFor(jobs)));
  const StoreOptions store_options = StoreOptionsOf(jobs, mark.l3_bytes);
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Store> store, Store::Open(store_options));
  CAIRN_RETURN_IF_ERROR(EraseOthers(*store, jobs));
  for (const Job* job : jobs) {
    if (!job->reads()) continue;
    CAIRN_RETURN_IF_ERROR(PutMissing(*store, *job));
  }
  CAIRN_RETURN_IF_ERROR(store->Flush());
  for (const Job* job : jobs) {
    if (job->reads() && job->tier != Tier::kStore) CAIRN_RETURN_IF_ERROR(LoadIntoL2(*store, *job));
  }
  return std::make_unique<StoreTarget>(std::move(store), options,
                                       store_options.io_bytes_in_flight_max);
}

}  // namespace cairn::bench
