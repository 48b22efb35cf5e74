#include "bench/policy/prefetch.h"

#include <memory>
#include <nlohmann/json.hpp>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "bench/peers/usage.h"
#include "src/eviction/policy.h"
#include "src/prediction/read_stream.h"
#include "src/prediction/successors.h"

namespace cairn::policy {
namespace {

struct FetchedBlock final : EvictionNode {
  uint64_t key_hash = 0;
  bool stored = false;
  bool in_l2 = false;
  uint32_t guessed_for = 0;  // The last request; 0: none.
};

EvictionPolicy::Copy DescribeFetched(const EvictionNode& node) {
  return {.key_hash = static_cast<const FetchedBlock&>(node).key_hash, .bytes = 1};
}

class Simulation {
 public:
  Simulation(const Workload& workload, uint64_t l2_blocks_max, size_t ahead)
      : workload_(workload),
        l2_blocks_max_(l2_blocks_max),
        ahead_(ahead),
        policy_(NewEvictionPolicy(EvictionKind::kTuned, DescribeFetched)),
        successors_(workload.blocks),
        blocks_(workload.blocks) {
    for (uint32_t i = 0; i < workload.blocks; ++i) {
      blocks_[i].key_hash = workload.key_hashes[i];
      numbers_.emplace(workload.key_hashes[i], i);
    }
    outcome_.ahead = ahead;
    outcome_.memory_bytes = successors_.memory_bytes();
  }

  void Serve(size_t number) {
    const std::vector<uint32_t>& request = workload_.requests[number];
    number_ = static_cast<uint32_t>(number) + 1;
    if (l2_blocks_max_ == 0) EmptyL2();
    bool found = true;
    stream_.Break();
    for (const uint32_t index : request) {
      FetchedBlock& block = blocks_[index];
      found = found && block.stored;
      if (found) Read(block);
      ToL2(block);
      stream_.Read(block.key_hash, successors_);
      if (found) Guess();
    }
    for (const uint32_t index : request) blocks_[index].stored = true;
  }

  const PrefetchOutcome& outcome() const { return outcome_; }

 private:
  void Read(FetchedBlock& block) {
    ++outcome_.reads;
    if (!block.in_l2) {
      ++outcome_.demand_misses;
    } else if (block.guessed_for == number_) {
      ++outcome_.used;
      block.guessed_for = 0;
    } else {
      ++outcome_.reads_from_l2;
    }
  }

  void Guess() {
    while (const uint64_t hash = stream_.Next(ahead_, successors_)) {
      FetchedBlock& block = blocks_[numbers_.at(hash)];
      if (!block.stored || block.in_l2) continue;
      ++outcome_.issued;
      ToL2(block);
      block.guessed_for = number_;
    }
  }

  void ToL2(FetchedBlock& block) {
    if (block.in_l2) {
      if (block.tracked()) policy_->Touch(&block);
      return;
    }
    block.in_l2 = true;
    if (l2_blocks_max_ == 0) {
      of_request_.push_back(&block);
      return;
    }
    while (policy_->size() >= l2_blocks_max_) {
      static_cast<FetchedBlock*>(policy_->Pick())->in_l2 = false;
    }
    policy_->Track(&block);
  }

  void EmptyL2() {
    for (FetchedBlock* const block : of_request_) block->in_l2 = false;
    of_request_.clear();
  }

  const Workload& workload_;
  const uint64_t l2_blocks_max_;
  const size_t ahead_;
  const std::unique_ptr<EvictionPolicy> policy_;
  Successors successors_;
  ReadStream stream_;
  std::vector<FetchedBlock> blocks_;
  std::vector<FetchedBlock*> of_request_;
  absl::flat_hash_map<uint64_t, uint32_t> numbers_;
  uint32_t number_ = 0;
  PrefetchOutcome outcome_;
};

// Of all blocks of the workload, read one by one: what a Get pays when nothing is to be loaded.
double NsPerRead(const Workload& workload, size_t ahead) {
  Successors successors(workload.blocks);
  ReadStream stream;
  uint64_t guesses = 0;
  const double begin_s = peers::ThreadCpuSeconds();
  for (const std::vector<uint32_t>& request : workload.requests) {
    stream.Break();
    for (const uint32_t block : request) {
      stream.Read(workload.key_hashes[block], successors);
      while (stream.Next(ahead, successors) != 0) ++guesses;
    }
  }
  const double seconds = peers::ThreadCpuSeconds() - begin_s;
  // Uses the guesses, or the compiler could leave them out.
  return seconds * 1e9 / static_cast<double>(workload.accesses + (guesses == UINT64_MAX ? 1 : 0));
}

double Share(uint64_t part, uint64_t of) {
  return of == 0 ? 0 : static_cast<double>(part) / static_cast<double>(of);
}

}  // namespace

double PrefetchOutcome::accuracy() const { return Share(used, issued); }
double PrefetchOutcome::coverage() const { return Share(used, used + demand_misses); }

PrefetchOutcome SimulatePrefetch(const Workload& workload, uint64_t l2_blocks_max, size_t ahead) {
  Simulation simulation(workload, l2_blocks_max, ahead);
  for (size_t i = 0; i < workload.requests.size(); ++i) simulation.Serve(i);
  PrefetchOutcome outcome = simulation.outcome();
  outcome.ns_per_read = NsPerRead(workload, ahead);
  return outcome;
}

std::string PrefetchTable(const Workload& workload, uint64_t l2_blocks,
                          const std::vector<PrefetchOutcome>& outcomes) {
  std::string text = absl::StrFormat(
      "prefetches without hints: %d requests, %d block accesses; L2 of %d blocks, L3 with all that "
      "was put\n%6s %9s %9s %9s %9s %9s %9s %9s %8s\n",
      workload.requests.size(), workload.accesses, l2_blocks, "ahead", "reads", "from L2", "issued",
      "used", "missed", "accuracy", "coverage", "ns/read");
  for (const PrefetchOutcome& outcome : outcomes) {
    absl::StrAppendFormat(&text, "%6d %9d %9d %9d %9d %9d %9.4f %9.4f %8.1f\n", outcome.ahead,
                          outcome.reads, outcome.reads_from_l2, outcome.issued, outcome.used,
                          outcome.demand_misses, outcome.accuracy(), outcome.coverage(),
                          outcome.ns_per_read);
  }
  return text;
}

std::string PrefetchJson(const std::string& source, const Workload& workload, uint64_t l2_blocks,
                         const std::vector<PrefetchOutcome>& outcomes) {
  nlohmann::ordered_json json = {{"source", source},
                                 {"requests", workload.requests.size()},
                                 {"accesses", workload.accesses},
                                 {"l2_blocks", l2_blocks}};
  json["prefetch"] = nlohmann::ordered_json::array();
  for (const PrefetchOutcome& outcome : outcomes) {
    json["prefetch"].push_back({{"ahead", outcome.ahead},
                                {"reads", outcome.reads},
                                {"reads_from_l2", outcome.reads_from_l2},
                                {"issued", outcome.issued},
                                {"used", outcome.used},
                                {"demand_misses", outcome.demand_misses},
                                {"accuracy", outcome.accuracy()},
                                {"coverage", outcome.coverage()},
                                {"ns_per_read", outcome.ns_per_read},
                                {"memory_bytes", outcome.memory_bytes}});
    if (outcome.ahead != ReadStream::kAhead) continue;
    json["accuracy"] = outcome.accuracy();
    json["coverage"] = outcome.coverage();
  }
  return json.dump(2) + "\n";
}

}  // namespace cairn::policy
