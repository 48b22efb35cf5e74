#include "bench/tier/job.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tools/offload/block_content.h"

namespace cairn::bench {
namespace {

constexpr uint64_t kDirectBytes = 4096;
constexpr uint64_t kRotatedBytesMin = uint64_t{64} << 10;

absl::Status Mistake(const Job& job, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("job ", job.name, ": ", absl::string_view(what.data(), what.size())));
}

bool AllAligned(const Job& job) {
  if (job.split.empty()) return job.block_bytes % kDirectBytes == 0;
  return std::all_of(job.split.begin(), job.split.end(),
                     [](const SizeShare& share) { return share.bytes % kDirectBytes == 0; });
}

absl::Status ValidateTier(const Job& job) {
  if (job.tier == Tier::kGpu && job.writes()) {
    return Mistake(job, "tier=gpu only reads: a put goes to L2 (tier=pinned)");
  }
  if (job.tier == Tier::kNvme) {
    if (!AllAligned(job)) return Mistake(job, "tier=nvme needs a bs in multiples of 4k");
    if (job.durability != Durability::kOnDevice) {
      return Mistake(job, "durable is for tier=store; for tier=nvme say fdatasync=N");
    }
    if (job.engine == Engine::kNull && job.verify) {
      return Mistake(job, "engine=null moves no bytes, so verify has nothing to compare");
    }
  } else if (job.engine == Engine::kNull) {
    return Mistake(job, "engine=null is for tier=nvme");
  }
  const bool uring = job.engine == Engine::kAuto || job.engine == Engine::kUring;
  if ((job.polls_submissions || job.polls_completions) && !uring) {
    return Mistake(job, "sqthread_poll and hipri are io_uring's");
  }
  if (job.l2_bytes != 0 && job.tier != Tier::kStore) {
    return Mistake(job, "l2 is for tier=store (tier=pinned takes what the size needs)");
  }
  if (job.buffers_bytes != 0 && job.tier != Tier::kStore) {
    return Mistake(job, "buffers is for tier=store; elsewhere nobody looks at the bytes");
  }
  if (job.sync_every != 0 && job.tier == Tier::kPinned) {
    return Mistake(job, "fdatasync is not for tier=pinned, which is memory");
  }
  return absl::OkStatus();
}

}  // namespace

const char* TierName(Tier tier) {
  switch (tier) {
    case Tier::kNvme:
      return "nvme";
    case Tier::kStore:
      return "store";
    case Tier::kPinned:
      return "pinned";
    case Tier::kGpu:
      return "gpu";
  }
  return "?";
}

const char* EngineName(Engine engine) {
  switch (engine) {
    case Engine::kAuto:
      return "auto";
    case Engine::kUring:
      return "uring";
    case Engine::kPosix:
      return "posix";
    case Engine::kNull:
      return "null";
  }
  return "?";
}

uint64_t Job::slot_bytes() const {
  uint64_t bytes = split.empty() ? block_bytes : 0;
  for (const SizeShare& share : split) bytes = std::max(bytes, share.bytes);
  return bytes;
}

uint32_t Job::buffers_per_slot() const {
  if (buffers_bytes == 0) return tier == Tier::kStore && slot_bytes() >= kRotatedBytesMin ? 2 : 1;
  const uint64_t outstanding = std::max<uint64_t>(depth * slot_bytes(), 1);
  return static_cast<uint32_t>((buffers_bytes + outstanding - 1) / outstanding);
}

uint64_t Job::BytesOf(uint64_t unit) const {
  if (split.empty()) return block_bytes;
  uint64_t point = offload::Scramble(unit) % 100;
  for (const SizeShare& share : split) {
    if (point < share.percent) return share.bytes;
    point -= share.percent;
  }
  return split.back().bytes;
}

absl::Status Validate(const Job& job) {
  if (absl::Status status = ValidateTier(job); !status.ok()) return status;
  if (job.directory.empty() && job.engine != Engine::kNull) {
    return Mistake(job, "directory is missing");
  }
  if (job.size == 0) return Mistake(job, "size is missing");
  if (job.size < job.slot_bytes()) return Mistake(job, "size is less than one bs");
  if (job.time_based && job.runtime_s <= 0) return Mistake(job, "time_based needs a runtime");
  if (job.sync_every != 0 && !job.writes()) {
    return Mistake(job, "fdatasync is for jobs that write");
  }
  if (job.durability != Durability::kOnDevice && !job.writes()) {
    return Mistake(job, "durable is for jobs that write");
  }
  return absl::OkStatus();
}

}  // namespace cairn::bench
