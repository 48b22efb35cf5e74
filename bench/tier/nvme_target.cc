#include "bench/tier/nvme_target.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/tier/null_io.h"
#include "bench/tier/nvme_session.h"
#include "bench/tier/own_store.h"
#include "io/async_io.h"
#include "io/data_file.h"
#include "io/file.h"
#include "io/store_files.h"
#include "io/store_layout.h"
#include "src/base/status_macros.h"

namespace cairn::bench {
namespace {

constexpr uint64_t kThreadsMax = 64;
constexpr uint64_t kRequestsMax = 4096;  // In the kernel.

class NvmeTarget : public Target {
 public:
  NvmeTarget(NvmeShared shared, const TargetOptions& options, bool direct,
             uint64_t bytes_in_flight_max)
      : shared_(std::move(shared)), options_(options) {
    facts_.engine = shared_.io->name();
    facts_.direct = direct;
    facts_.bytes_in_flight_max = bytes_in_flight_max;
  }

  uint64_t UnitCount(const Job& job) const override {
    const uint64_t wanted = job.size / job.slot_bytes();
    if (shared_.files == nullptr) return wanted;
    return std::min(wanted, Places(*shared_.files, job.slot_bytes()).total());
  }

  absl::StatusOr<std::unique_ptr<Session>> NewSession(const Job& job) override {
    CAIRN_ASSIGN_OR_RETURN(SlotMemory memory, SlotMemory::Create(job, options_.memory));
    facts_.pages = memory.pages();
    auto session = std::make_unique<NvmeSession>(std::move(memory), shared_, job);
    facts_.registered = session->registered();
    return session;
  }

  TargetCounters Counters() const override {
    return {.device_bytes_written = shared_.io->stats().bytes_written};
  }
  TargetFacts Facts() const override {
    TargetFacts facts = facts_;
    IoPolling polling = shared_.io->polling();
    facts.submissions_polled = polling.submissions;
    facts.completions_polled = polling.completions;
    facts.polling_refusal = std::move(polling.refusal);
    return facts;
  }

 private:
  const NvmeShared shared_;
  const TargetOptions options_;
  TargetFacts facts_;
};

struct Needs {
  uint64_t slot_bytes_max = 0;
  uint64_t size_max = 0;
  uint64_t ops = 0;
  uint64_t bytes_in_flight = 0;
  bool writes = false;
  bool writes_other_content = false;
  bool verifies = false;
};

Needs NeedsOf(absl::Span<const Job* const> jobs) {
  Needs needs;
  for (const Job* job : jobs) {
    needs.slot_bytes_max = std::max(needs.slot_bytes_max, job->slot_bytes());
    needs.size_max = std::max(needs.size_max, job->size);
    needs.ops += uint64_t{job->clones} * job->depth * PartsOf(job->slot_bytes());
    needs.bytes_in_flight += uint64_t{job->clones} * job->depth * job->slot_bytes();
    needs.writes = needs.writes || job->writes();
    needs.writes_other_content = needs.writes_other_content || (job->writes() && !job->verify);
    needs.verifies = needs.verifies || job->verify;
  }
  return needs;
}

// Data files for all blocks of the jobs, their first places and the last file's end lost.
uint64_t L3BytesFor(const Needs& needs) {
  const uint64_t data = needs.size_max + needs.size_max / 8 + 3 * needs.slot_bytes_max;
  return std::max(data + data / 32 + (uint64_t{16} << 20), 2 * StoreOptions::kL3BytesMin);
}

absl::StatusOr<std::unique_ptr<AsyncIo>> OpenEngine(const Job& job, const Needs& needs,
                                                    uint64_t bytes_in_flight_max) {
  const Engine engine = job.engine;
  if (engine == Engine::kNull) return std::make_unique<NullIo>();
  AsyncIo::Options options;
  options.kind = engine == Engine::kUring   ? IoEngineKind::kUring
                 : engine == Engine::kPosix ? IoEngineKind::kPosix
                                            : IoEngineKind::kAuto;
  options.bytes_in_flight_max = bytes_in_flight_max;
  options.depth_max =
      static_cast<uint32_t>(std::clamp<uint64_t>(needs.ops, options.depth_max, kRequestsMax));
  options.threads =
      static_cast<uint32_t>(std::clamp<uint64_t>(needs.ops, options.threads, kThreadsMax));
  if (job.polls_submissions) options.submission_polling = Job::kSubmissionPolling;
  options.completion_polling = job.polls_completions;
  return AsyncIo::Open(options);
}

// A store that is not ours: its files are read and nothing else.
absl::StatusOr<std::unique_ptr<StoreFiles>> OpenForeign(const std::string& directory,
                                                        const Needs& needs, bool& direct) {
  if (needs.writes) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory,
                     " is a store: tier=nvme would overwrite its tensors; give jobs "
                     "that write another directory"));
  }
  if (needs.verifies) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory,
                     " is a store: what its blocks must hold is not known to tier=nvme --verify "
                     "(store-inspect verify checks it)"));
  }
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<StoreFiles> files, StoreFiles::OpenReadOnly(directory));
  direct = true;
  for (const StoreFiles::File& file : files->files()) {
    direct = file.fd >= 0 && MakeDirect(file.fd) && direct;
  }
  return files;
}

absl::StatusOr<std::unique_ptr<StoreFiles>> OpenOwn(const std::string& directory,
                                                    const Needs& needs) {
  const std::string path = NvmeStorePath(directory);
  CAIRN_ASSIGN_OR_RETURN(OwnStoreMark mark, PrepareOwnStore(path, L3BytesFor(needs)));
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<StoreFiles> files,
                         StoreFiles::Open({.path = path, .bytes_max = mark.l3_bytes}));
  if (needs.verifies && !mark.content) {
    CAIRN_RETURN_IF_ERROR(WriteContent(*files));
    mark.content = true;
    CAIRN_RETURN_IF_ERROR(WriteMark(path, mark));
  }
  if (needs.writes_other_content && mark.content) {
    mark.content = false;  // Said before it is so: a run may end anywhere.
    CAIRN_RETURN_IF_ERROR(WriteMark(path, mark));
  }
  return files;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Target>> OpenNvmeTarget(absl::Span<const Job* const> jobs,
                                                       const TargetOptions& options) {
  const Job& first = *jobs.front();
  const Needs needs = NeedsOf(jobs);
  if (needs.writes_other_content && needs.verifies) {
    return absl::InvalidArgumentError(
        "a job with verify beside one that writes without it: give all of the group verify");
  }
  NvmeShared shared;
  bool direct = false;
  if (first.engine != Engine::kNull) {
    if (IsStore(first.directory)) {
      CAIRN_ASSIGN_OR_RETURN(shared.files, OpenForeign(first.directory, needs, direct));
    } else {
      CAIRN_ASSIGN_OR_RETURN(shared.files, OpenOwn(first.directory, needs));
      direct = shared.files->direct();
    }
  }
  // Writes get half of what may be in flight: twice the depth, so that it is really reached.
  const uint64_t bytes_in_flight_max = 2 * needs.bytes_in_flight;
  CAIRN_ASSIGN_OR_RETURN(shared.io, OpenEngine(first, needs, bytes_in_flight_max));
  if (shared.files == nullptr) shared.io_files = {0};
  for (size_t i = 0; shared.files != nullptr && i < shared.files->files().size(); ++i) {
    const int fd = shared.files->files()[i].fd;
    int file = -1;
    if (fd >= 0) {
      CAIRN_ASSIGN_OR_RETURN(file, shared.io->AddFile(fd));
    }
    shared.io_files.push_back(file);
  }
  auto target =
      std::make_unique<NvmeTarget>(std::move(shared), options, direct, bytes_in_flight_max);
  for (const Job* job : jobs) {
    if (target->UnitCount(*job) > 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("job ", job->name, ": bs does not fit the store's data files"));
  }
  return target;
}

std::string NvmeStorePath(const std::string& directory) {
  return absl::StrCat(directory, "/tier-bench.nvme");
}

absl::Status PrepareNvmeStore(absl::Span<const Job* const> jobs) {
  const std::string path = NvmeStorePath(jobs.front()->directory);
  CAIRN_ASSIGN_OR_RETURN(OwnStoreMark mark, PrepareOwnStore(path, L3BytesFor(NeedsOf(jobs))));
  mark.content = false;
  return WriteMark(path, mark);
}

absl::StatusOr<DataFiles> AllDataFiles(const std::string& path, uint64_t first_offset) {
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<StoreFiles> files, StoreFiles::OpenReadOnly(path));
  DataFiles result = {.first_offset = first_offset};
  for (size_t i = 0; i < files->files().size(); ++i) {
    if (files->files()[i].bytes < 2 * first_offset) continue;
    result.paths.push_back(files->data_file_path(i));
  }
  return result;
}

absl::StatusOr<DataFiles> NvmeDataFiles(const Job& job) {
  const std::string path = IsStore(job.directory) ? job.directory : NvmeStorePath(job.directory);
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<StoreFiles> files, StoreFiles::OpenReadOnly(path));
  const Places places(*files, job.slot_bytes());
  const size_t count = places.FilesFor(std::min(places.total(), job.size / job.slot_bytes()));
  CAIRN_ASSIGN_OR_RETURN(DataFiles result, AllDataFiles(path, job.slot_bytes()));
  result.paths.resize(std::min(result.paths.size(), count));
  return result;
}

}  // namespace cairn::bench
