#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "cairn/store.h"
#include "tests/simulation/fiber_schedule.h"
#include "tests/simulation/history.h"
#include "tests/simulation/random.h"
#include "tests/simulation/simulated_disk.h"
#include "tests/simulation/simulated_index.h"
#include "tests/simulation/simulated_io.h"

namespace cairn {

// What a seed has chosen.
struct Scenario {
  explicit Scenario(uint64_t seed);

  enum class Ending : uint8_t { kClose, kKill, kPowerCut };
  struct Phase {
    Ending ending = Ending::kClose;
    uint64_t steps_until_crash = 0;
  };

  uint64_t seed;
  int clients;
  int keys;
  int operations;  // Of each client in each phase.
  uint64_t bytes_max;
  uint64_t l1_bytes = 0;  // 0: no L1.
  uint64_t device_delay_us_max = 0;
  uint64_t l3_free_bytes;  // 0: all of it.
  uint64_t l2_free_bytes;
  WritePolicy write_policy;
  IoFaults io_faults;
  SimulatedIndex::Faults index_faults;
  bool ttls;
  std::vector<Phase> phases;
  bool fails() const { return io_faults.fails; }
  bool lies() const { return io_faults.lies; }
};

// What a run was about, for those who read the sum of many.
struct Tally {
  uint64_t operations = 0;
  uint64_t kills = 0;
  uint64_t power_cuts = 0;
  uint64_t closes = 0;
  uint64_t evictions = 0;
  uint64_t damaged = 0;    // Reads that answered kDataLoss.
  uint64_t both_lost = 0;  // See History::ReplacedByLess.
  uint64_t switches = 0;
  double virtual_seconds = 0;
};

// A store over a simulated disk and index, and what is known of it. `path` holds data files, of
// which only the names and headers are used, so that every seed can have the same.
class World {
 public:
  World(const Scenario& scenario, std::string path, SimulatedDisk* disk, FiberSchedule* schedule);

  const Scenario& scenario() const { return scenario_; }
  FiberSchedule& schedule() { return *schedule_; }
  History& history() { return history_; }
  Tally& tally() { return tally_; }
  Store& store() { return *store_; }
  const std::string& key(int number) const { return key_names_[static_cast<size_t>(number)]; }
  uint64_t step() const { return schedule_->step(); }

  // Runs the whole scenario on the current schedule.
  void Run();

  // A client goes on until then.
  bool stopped() const { return crashed_ || !failure_.empty(); }
  bool crashed() const { return crashed_; }
  // The first is kept.
  void Fail(const std::string& what);
  const std::string& failure() const { return failure_; }

  int64_t NowUnixMs() const;
  void JumpClock(int64_t ms) { clock_jumps_ms_ += ms; }

  History::Read BeginRead(int key);
  // What a verb said of a key, with its bytes when it was OK.
  void Judge(History::Read read, const absl::Status& status, absl::Span<const std::byte> bytes);
  void FailKey(int key, const std::string& what);
  // Whether every copy that left L2 was on L3, so far.
  bool SpillsFailed();

 private:
  absl::Status Open();
  void FillWithBallast();
  void SqueezeL2();
  void RunPhase(const Scenario::Phase& phase);
  void RunClients();
  void Crash(Scenario::Ending ending);
  Survives End(const Scenario::Phase& phase);
  void VerifyAll(Survives survived);
  void VerifyKey(int key, Survives survived);
  void VerifySpace();
  void EraseAll();
  void CountEvictions();
  void SetFaults(bool on);

  const Scenario scenario_;
  const std::string path_;
  SimulatedDisk* const disk_;
  FiberSchedule* const schedule_;
  Random random_;
  History history_;
  Tally tally_;
  std::vector<std::string> key_names_;
  std::string failure_;

  IoFaults io_faults_;
  SimulatedIndex::Faults index_faults_;
  IndexLog log_;
  // Of the open store.
  SimulatedIo* io_ = nullptr;
  SimulatedIndex* index_ = nullptr;
  std::unique_ptr<Store> store_;
  TensorHandle squeeze_;
  bool crashed_ = false;
  uint64_t crash_step_ = 0;
  bool evicted_ = false;  // Ever.
  int64_t clock_jumps_ms_ = 0;
};

}  // namespace cairn
