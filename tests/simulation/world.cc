#include "tests/simulation/world.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/pack.h"
#include "io/record.h"
#include "src/base/check.h"
#include "src/base/clock.h"
#include "src/base/thread.h"
#include "src/store_core.h"
#include "tests/simulation/client.h"
#include "tiers/host_device.h"

namespace cairn {
namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint32_t kStripes = 64;
constexpr const char* kBallast = "ballast";
// Of a pack of as many of the shortest tensors as there can be.
const uint64_t kTableBytesMax =
    PackTableBytes(0, kPackBytesMax / kBlockBytes * PackMemberBytes(sizeof("ballast"), 1));

// One key to a stripe of the directory: the order of a hash table's entries would follow their
// addresses, and so differ between two runs.
std::vector<std::string> KeyNames(int count) {
  std::vector<std::string> names;
  std::set<uint64_t> stripes;
  for (uint64_t i = 0; static_cast<int>(names.size()) < count; ++i) {
    std::string name = absl::StrCat("key", i);
    if (stripes.insert(HashKey({1, name}) / (UINT64_MAX / kStripes + 1)).second) {
      names.push_back(std::move(name));
    }
  }
  return names;
}

}  // namespace

World::World(const Scenario& scenario, std::string path, SimulatedDisk* disk,
             FiberSchedule* schedule)
    : scenario_(scenario),
      path_(std::move(path)),
      disk_(disk),
      schedule_(schedule),
      random_(scenario.seed * 5 + 2),
      history_(scenario.keys),
      key_names_(KeyNames(scenario.keys)) {
  disk_->Reset();
}

int64_t World::NowUnixMs() const {
  const auto now = schedule_->Now().time_since_epoch();
  return 1700000000000 + clock_jumps_ms_ +
         std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

void World::Fail(const std::string& what) {
  if (failure_.empty()) failure_ = absl::StrCat("at step ", step(), ": ", what);
}

void World::FailKey(int key, const std::string& what) {
  Fail(absl::StrCat("key ", key, ": ", what, "\n", history_.Describe(key)));
}

void World::SetFaults(bool on) {
  io_faults_ = on ? scenario_.io_faults : IoFaults();
  index_faults_ = on ? scenario_.index_faults : SimulatedIndex::Faults();
}

absl::Status World::Open() {
  crashed_ = false;
  StoreOptions options;
  options.path = path_;
  options.device = DeviceKind::kHost;
  options.l1_bytes_max = scenario_.l1_bytes;
  options.l2_bytes_max = StoreOptions::kL2BytesMin;
  options.l3_bytes_max = StoreOptions::kL3BytesMin;
  options.write_policy = scenario_.write_policy;
  options.stripe_count = kStripes;
  // History knows of no tensor that was refused.
  options.l3_write_bytes_per_day = StoreOptions::kL3WritesUnlimited;
  options.heed_memory_pressure = false;  // Of the machine that this runs on.
  options.log = [](std::string_view) {};
  StoreSeams seams;
  seams.now_unix_ms = [this] { return NowUnixMs(); };
  seams.open_device = [this](DeviceKind, int ordinal) {
    return NewHostDevice({.ordinal = ordinal,
                          .delay_us_max = scenario_.device_delay_us_max,
                          .delay_seed = scenario_.seed});
  };
  seams.open_io = [this](const AsyncIo::Options&) -> absl::StatusOr<std::unique_ptr<AsyncIo>> {
    auto io = std::make_unique<SimulatedIo>(schedule_, disk_, &io_faults_, random_.Next());
    io_ = io.get();
    return io;
  };
  seams.open_index = [this](const RocksDbIndexOptions&) -> absl::StatusOr<std::unique_ptr<Index>> {
    auto index = std::make_unique<SimulatedIndex>(schedule_, &log_, &index_faults_, random_.Next());
    index_ = index.get();
    return index;
  };
  seams.flush_file = [this](int fd) { return io_->Flush(fd); };
  absl::StatusOr<std::unique_ptr<Store>> store = OpenStore(options, std::move(seams));
  if (!store.ok()) return store.status();
  store_ = *std::move(store);
  return absl::OkStatus();
}

// Tensors that only the index knows of leave little room on L3, at no expense.
void World::FillWithBallast() {
  if (scenario_.l3_free_bytes == 0) return;
  SimulatedIndex index(schedule_, &log_, &index_faults_, 1);
  if (index.FingerprintId("").value_or(0) != 1) Fail("the first fingerprint is not number 1");
  // The second file, of 8 MiB, is free but for its end; so is the end of the first.
  constexpr uint64_t kSecond = SimulatedDisk::kFileBytesMax;
  constexpr uint64_t kSecondBytes = 8 * kMiB - 4 * kKiB;
  const uint64_t free = std::min(scenario_.l3_free_bytes, kSecondBytes + 12 * kMiB) / 4096 * 4096;
  const uint64_t free_of_second = std::min(free / 2, kSecondBytes - kMiB) / 4096 * 4096;
  const uint64_t begins[] = {free - free_of_second, kSecond + free_of_second};
  const uint64_t ends[] = {kSecond, kSecond + kSecondBytes};
  for (int i = 0; i < 2; ++i) {
    IndexRecord record;
    const std::string name = absl::StrCat(kBallast, i);
    const uint64_t bytes = ends[i] - begins[i] - 4096;
    record.sequence = static_cast<uint64_t>(i) + 1;
    record.offset = begins[i] + 4096;
    record.header_bytes = RecordHeaderBytes(0, name.size(), bytes);
    record.payload_bytes = bytes - record.header_bytes;
    record.meta = TensorMeta::Bytes(record.payload_bytes);
    record.retention = Retention::kKeep;
    const IndexEdit edit = {.kind = IndexEdit::Kind::kPut, .key = {1, name}, .record = record};
    if (!index.Commit({&edit, 1}, /*sync=*/true).ok()) Fail("no ballast");
  }
}

void World::Run() {
  FillWithBallast();
  if (const absl::Status status = Open(); !status.ok()) return Fail(status.ToString());
  for (const Scenario::Phase& phase : scenario_.phases) {
    RunPhase(phase);
    if (!failure_.empty()) break;
  }
  if (failure_.empty()) VerifySpace();
  if (failure_.empty()) EraseAll();
  const absl::Status closed = store_->Close();
  if (failure_.empty() && !closed.ok()) Fail(absl::StrCat("the last Close: ", closed.ToString()));
  store_.reset();
  tally_.switches = schedule_->switches();
  tally_.virtual_seconds =
      std::chrono::duration<double>(schedule_->Now().time_since_epoch()).count() - 3600;
}

// A tensor that stays pinned leaves little room in L2. (None on L3: then there is room in L2.)
void World::SqueezeL2() {
  if (scenario_.l2_free_bytes == 0) return;
  const uint64_t bytes = StoreOptions::kL2BytesMin - scenario_.l2_free_bytes;
  const AlignedBuffer buffer(bytes);
  const std::string name = "squeeze";
  const absl::Status put =
      store_->Put(name, {.meta = TensorMeta::Bytes(bytes), .data = buffer.data(), .size = bytes},
                  {.timeout = absl::ZeroDuration()});
  if (absl::IsResourceExhausted(put)) return;
  absl::StatusOr<TensorHandle> handle = store_->Get(name, {});
  if (!handle.ok()) return Fail(handle.status().ToString());
  squeeze_ = *std::move(handle);
}

void World::RunPhase(const Scenario::Phase& phase) {
  SqueezeL2();
  SetFaults(true);
  if (phase.ending != Scenario::Ending::kClose) {
    schedule_->SetAlarm(step() + phase.steps_until_crash,
                        [this, ending = phase.ending] { Crash(ending); });
  }
  RunClients();
  if (!failure_.empty()) {
    squeeze_.Release();
    return schedule_->SetAlarm(UINT64_MAX, nullptr);
  }
  squeeze_.Release();
  const Survives survived = End(phase);
  if (phase.ending == Scenario::Ending::kPowerCut) {
    history_.PowerLost();
  } else if (disk_->lost_blocks() > 0) {
    history_.FlushFailed();
  }
  store_.reset();
  SetFaults(false);
  if (!failure_.empty()) return;
  if (const absl::Status status = Open(); !status.ok()) return Fail(status.ToString());
  VerifyAll(survived);
}

void World::RunClients() {
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<std::unique_ptr<Thread>> threads;
  for (int i = 0; i < scenario_.clients; ++i) {
    clients.push_back(std::make_unique<Client>(this, i, random_.Next()));
    threads.push_back(std::make_unique<Thread>());
    const absl::Status started =
        threads.back()->Start("client", [client = clients.back().get()] { client->Run(); });
    CAIRN_CHECK(started.ok());
  }
  for (const std::unique_ptr<Thread>& thread : threads) thread->Join();
}

// Anywhere in the run, between two steps of whatever fiber. The old store then ends by itself, on a
// device that is gone; nobody looks at what it says.
void World::Crash(Scenario::Ending ending) {
  io_->CutOff();
  index_->CutOff();
  if (ending == Scenario::Ending::kPowerCut) {
    disk_->PowerCut(random_);
    log_.PowerCut(random_);
  }
  crashed_ = true;
  crash_step_ = step();
  schedule_->Note(crash_step_);
}

Survives World::End(const Scenario::Phase& phase) {
  schedule_->Progress();
  CountEvictions();
  Survives needed = Survives::kPowerCut;
  if (phase.ending == Scenario::Ending::kClose) {
    bool certain = !SpillsFailed();
    const uint64_t start = step();
    const absl::Status closed = store_->Close();
    certain = certain && closed.ok();
    if (!closed.ok() && !scenario_.fails()) Fail(absl::StrCat("Close: ", closed.ToString()));
    if (certain) history_.Flushed(start, /*all_erases=*/true);
    // What a Close that failed leaves is what a kill would.
    needed = certain ? Survives::kPowerCut : Survives::kKill;
    history_.Ended(step(), needed, evicted_);
    ++tally_.closes;
    return needed;
  }
  schedule_->SetAlarm(UINT64_MAX, nullptr);
  if (!crashed_) Crash(phase.ending);
  if (phase.ending == Scenario::Ending::kKill) needed = Survives::kKill;
  ++(needed == Survives::kKill ? tally_.kills : tally_.power_cuts);
  store_->Close().IgnoreError();
  CountEvictions();
  history_.Ended(crash_step_, needed, evicted_);
  return needed;
}

void World::CountEvictions() {
  const StatsSnapshot stats = store_->Stats();
  // A tensor that could not be written may leave L2 unwritten.
  tally_.evictions += stats.l3.evictions;
  if (stats.l3.evictions > 0 || (stats.spill_failures > 0 && stats.l2.evictions > 0)) {
    evicted_ = true;
  }
}

bool World::SpillsFailed() {
  const StatsSnapshot stats = store_->Stats();
  return stats.spill_failures > 0 || scenario_.index_faults.one_in != 0;
}

History::Read World::BeginRead(int key) {
  return {.key = key, .start = step(), .start_unix_ms = NowUnixMs()};
}

void World::Judge(History::Read read, const absl::Status& status,
                  absl::Span<const std::byte> bytes) {
  schedule_->Note(static_cast<uint64_t>(status.code()));
  read.fails = io_faults_.fails;
  read.evicted_some = evicted_;
  read.end_unix_ms = NowUnixMs();
  if (status.ok()) {
    std::string why;
    const uint64_t content = history_.Recognize(read.key, bytes, &why);
    schedule_->Note(content);
    if (content != 0) why = history_.CheckFound(read, content);
    if (!why.empty()) FailKey(read.key, why);
  } else if (absl::IsNotFound(status)) {
    std::string why = history_.CheckAbsent(read);
    for (int i = 0; i < 3 && !why.empty() && !evicted_; ++i) {
      // An eviction is counted a moment after it can be seen.
      SleepFor(std::chrono::milliseconds(10));
      if (crashed_) return;
      CountEvictions();
      read.evicted_some = evicted_;
      why = history_.CheckAbsent(read);
    }
    if (!why.empty()) FailKey(read.key, why);
  } else if (absl::IsDataLoss(status)) {
    ++tally_.damaged;
    const bool may_be = io_faults_.fails || scenario_.lies() || history_.MayBeDamaged(read);
    if (!may_be) FailKey(read.key, absl::StrCat("damaged: ", status.ToString()));
  } else if (!absl::IsResourceExhausted(status) && !absl::IsDeadlineExceeded(status)) {
    FailKey(read.key, absl::StrCat("a read ended with ", status.ToString()));
  }
}

void World::VerifyAll(Survives survived) {
  for (int key = 0; key < scenario_.keys && failure_.empty(); ++key) VerifyKey(key, survived);
}

void World::VerifyKey(int key, Survives survived) {
  schedule_->Progress();
  const History::Read read = BeginRead(key);
  const absl::StatusOr<TensorHandle> handle = store_->Get(this->key(key), {});
  absl::Span<const std::byte> bytes;
  if (handle.ok()) bytes = {handle->view().data, handle->view().size};
  Judge(read, handle.status(), bytes);
  const bool damaged = absl::IsDataLoss(handle.status());
  if (!handle.ok() && !damaged && !absl::IsNotFound(handle.status())) {
    FailKey(key, absl::StrCat("after reopening: ", handle.status().ToString()));
  }
  if (!failure_.empty()) return;
  std::string ignored;
  std::optional<uint64_t> content;
  if (handle.ok()) content = history_.Recognize(key, bytes, &ignored);
  if (!handle.ok() && !evicted_ && history_.ReplacedByLess(key)) ++tally_.both_lost;
  history_.Observed(key, content, step(), survived, damaged);
}

// No byte of L3 is taken but by what is there.
void World::VerifySpace() {
  schedule_->Progress();
  std::string said;
  // What is past its time goes stripe by stripe, a tenth of a second each.
  for (int i = 0; i < 20; ++i) {
    SleepFor(std::chrono::milliseconds(500));
    const absl::StatusOr<ScanPage> page = store_->Scan("", "", 1000);
    uint64_t bytes = 0;
    // Of packs, each of which has a member at least; all of them may have been in one.
    uint64_t tables_max = 0;
    for (const ScanEntry& entry : page->entries) {
      bytes += (entry.info.bytes + 4095) / 4096 * 4096;
      if (entry.info.bytes > kPackedPayloadBytesMax) {
        bytes += RecordHeaderBytes(0, entry.key.size(), entry.info.bytes);
      } else {
        ++tables_max;
      }
    }
    const uint64_t used = store_->Stats().l3.bytes_used;
    if (used >= bytes && used <= bytes + tables_max * kTableBytesMax) return;
    said = absl::StrCat(used, " bytes of L3 are in use, and ", bytes,
                        " by tensors that are there, ", tables_max, " of them in packs");
  }
  Fail(said);
}

void World::EraseAll() {
  schedule_->Progress();
  const absl::StatusOr<uint64_t> erased = store_->ErasePrefix("");
  if (!erased.ok()) return Fail(erased.status().ToString());
  const StatsSnapshot stats = store_->Stats();
  tally_.evictions += stats.l3.evictions;
  if (stats.l3.bytes_used != 0 || stats.l2.bytes_used != 0) {
    Fail(absl::StrCat("after everything was erased ", stats.l2.bytes_used, " bytes of L2 and ",
                      stats.l3.bytes_used, " of L3 are in use"));
  }
}

}  // namespace cairn
