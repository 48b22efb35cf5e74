// All verbs from eight threads, on a device that fails and lies now and then and a host whose
// memory runs short now and then. For four seconds here; tests/campaign/soak.sh has the long run.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/faulty_io.h"
#include "tests/stress_fixture.h"

namespace cairn {
namespace {

constexpr int kThreads = 8;
constexpr int kKeys = 512;
constexpr uint64_t kTensorBytesMax = 4096 * 41;

enum Verb : uint8_t {
  kPut,
  kPutFrom,
  kGet,
  kGetL1,
  kGetInto,
  kGetAsync,
  kHints,
  kLease,
  kEvict,
  kErase,
  kFlush,
  kLook,
  kVerbs
};
constexpr std::array<const char*, kVerbs> kVerbNames = {"Put",
                                                        "PutFrom",
                                                        "Get",
                                                        "Get to L1",
                                                        "GetInto",
                                                        "GetAsync",
                                                        "WillNeed and Cancel",
                                                        "CountLeading",
                                                        "Evict",
                                                        "Erase",
                                                        "Flush",
                                                        "Stats, Scan, Explain"};

class SoakTest : public StressFixture {
 protected:
  SoakTest() : StressFixture(kKeys) {
    options_.l1_bytes_max = kMiB;
    options_.device = DeviceKind::kHost;
    options_.l2_bytes_max = 8 * kMiB;
    options_.l3_bytes_max = 40 * kMiB;
    options_.l3_write_bytes_per_day = uint64_t{100} << 30;
  }

  void OpenInBadWeather(uint64_t seed) {
    using Kind = FaultyIo::Kind;
    StoreSeams seams = WrappedIn(&io_);
    seams.read_pressure = [this] {
      constexpr uint64_t kHostBytes = 8192 * kMiB;
      return PressureReadings{.host = MemoryAmount{kHostBytes, kHostBytes / 8 * free_eighths_ / 8}};
    };
    Open(std::move(seams));
    io_->SetPlan([transfers = uint64_t{0}, faults = FaultyIo::RandomPlan(
                                               seed, 1.0 / 500,
                                               {Kind::kFail, Kind::kShort, Kind::kTear, Kind::kDrop,
                                                Kind::kFlipBit, Kind::kMisdirect, Kind::kDelay})](
                     const IoOp& op, uint64_t ordinal) mutable {
      // A flush that fails ends a data file for good, and there are few.
      if (op.kind == IoOp::Kind::kSync) return FaultyIo::Fault{};
      const FaultyIo::Fault fault = faults(op, ordinal);
      // One at least, however slow the machine.
      return ++transfers == 50 ? FaultyIo::Fault{.kind = Kind::kFail} : fault;
    });
  }

  void RunVerb(Verb verb, int thread, std::mt19937_64& random, AlignedBuffer& buffer) {
    const auto start = std::chrono::steady_clock::now();
    const absl::Status status = Call(verb, thread, random, buffer);
    const int64_t us = std::chrono::duration_cast<std::chrono::microseconds>(
                           std::chrono::steady_clock::now() - start)
                           .count();
    Tally& tally = tallies_[verb];
    ++tally.calls;
    if (status.ok()) ++tally.done;
    int64_t longest = tally.longest_us;
    while (us > longest && !tally.longest_us.compare_exchange_weak(longest, us)) {
    }
  }

  absl::Status Call(Verb verb, int thread, std::mt19937_64& random, AlignedBuffer& buffer) {
    const int any = static_cast<int>(random() % kKeys);
    const int own = any / kThreads * kThreads + thread;
    switch (verb) {
      case kPut:
      case kPutFrom:
        return Write(verb, own, random, buffer);
      case kGet:
        return Read(any, {});
      case kGetL1:
        return Read(any, {.want = Level::kL1Gpu});
      case kGetInto:
        return ReadInto(any, buffer);
      case kGetAsync:
        return ReadBatch(any);
      case kHints:
        return Hint(any, random);
      case kLease:
        return Lease(any);
      case kEvict:
        store_->Evict(NameOf(any), random() % 2 == 0 ? Level::kL3Nvme : Level::kL2Pinned)
            .IgnoreError();
        return absl::OkStatus();
      case kErase:
        return store_->Erase(NameOf(own));
      case kFlush:
        // Of what was not written because the device failed it says so.
        store_->Flush().IgnoreError();
        return absl::OkStatus();
      default:
        return Look(any);
    }
  }

  absl::Status Write(Verb verb, int key, std::mt19937_64& random, AlignedBuffer& buffer) {
    const uint64_t version = keys_[key].started.load() + 1;
    keys_[key].started.store(version);
    FillContent(buffer.data(), key, version);
    const TensorMeta meta = TensorMeta::Bytes(SizeOf(key, version));
    PutOptions options = {.durability = static_cast<Durability>(random() % 4),
                          .tensor_class = static_cast<TensorClass>(random() % 4),
                          .partial_block = random() % 16 == 0};
    if (random() % 16 == 0) options.ttl = absl::Milliseconds(1 + random() % 2000);
    const ConstPiece piece = {buffer.data(), meta.byte_count()};
    const absl::Status status =
        verb == kPut ? store_->Put(NameOf(key),
                                   {.meta = meta, .data = piece.data, .size = piece.size}, options)
                     : store_->PutFrom({{.key = NameOf(key), .meta = meta, .pieces = {&piece, 1}}},
                                       options)[0];
    if (status.ok()) keys_[key].completed.store(version);
    EXPECT_TRUE(status.ok() || IsRefusal(status)) << status;
    return status;
  }

  absl::Status Read(int key, const GetOptions& options) {
    const uint64_t oldest = keys_[key].completed.load();
    const absl::StatusOr<TensorHandle> handle = store_->Get(NameOf(key), options);
    if (handle.ok()) {
      ExpectContent(static_cast<const std::byte*>(handle->view().data), handle->view().size, key,
                    oldest);
    }
    return Checked(handle.status());
  }

  absl::Status ReadInto(int key, AlignedBuffer& buffer) {
    const uint64_t oldest = keys_[key].completed.load();
    const absl::StatusOr<TensorInfo> info = store_->Describe(NameOf(key));
    if (!info.ok()) return Checked(info.status());
    const Piece piece = {buffer.data(), info->bytes};
    const absl::Status status =
        store_->GetInto({{.key = NameOf(key), .pieces = {&piece, 1}}}, {})[0];
    // Put anew with another size meanwhile.
    if (absl::IsInvalidArgument(status)) return status;
    if (status.ok()) ExpectContent(buffer.data(), piece.size, key, oldest);
    return Checked(status);
  }

  absl::Status ReadBatch(int first) {
    constexpr int kBatch = 8;
    const auto queue = CompletionQueue::Create(kBatch);
    std::vector<std::string> names;
    std::array<uint64_t, kBatch> oldest;
    for (int i = 0; i < kBatch; ++i) {
      names.push_back(NameOf((first + i) % kKeys));
      oldest[i] = keys_[(first + i) % kKeys].completed.load();
    }
    const std::vector<TensorKey> keys(names.begin(), names.end());
    const absl::Status begun = store_->GetAsync(keys, {}, **queue, 0);
    EXPECT_TRUE(begun.ok()) << begun;
    absl::Status best = absl::NotFoundError("none of them");
    for (int i = 0; i < kBatch; ++i) {
      Completion done;
      if ((*queue)->Wait({&done, 1}, absl::Minutes(5)) != 1) {
        ADD_FAILURE() << "a completion never came";
        return absl::DeadlineExceededError("GetAsync");
      }
      if (done.status.ok()) {
        ExpectContent(static_cast<const std::byte*>(done.handle.view().data),
                      done.handle.view().size, (first + static_cast<int>(done.tag)) % kKeys,
                      oldest[done.tag]);
      }
      if (Checked(done.status).ok()) best = absl::OkStatus();
    }
    return best;
  }

  absl::Status Hint(int first, std::mt19937_64& random) {
    std::vector<std::string> names;
    for (int i = 0; i < 8; ++i) names.push_back(NameOf((first + i) % kKeys));
    const std::vector<TensorKey> keys(names.begin(), names.end());
    if (random() % 2 == 0) {
      store_->Prefetch(keys, {});
      return absl::OkStatus();
    }
    const absl::StatusOr<PrefetchToken> token = store_->WillNeed(
        keys,
        {.due = absl::Milliseconds(random() % 20), .priority = static_cast<int>(random() % 3)});
    if (token.ok() && random() % 2 == 0) store_->Cancel(*token);
    return token.status();
  }

  absl::Status Lease(int first) {
    const std::string names[] = {NameOf(first), NameOf((first + 1) % kKeys)};
    const TensorKey keys[] = {names[0], names[1]};
    const absl::StatusOr<LeadingHits> hits =
        store_->CountLeading(keys, {.duration = absl::Milliseconds(50)});
    return hits.status();
  }

  absl::Status Look(int key) {
    const StatsSnapshot stats = store_->Stats();
    EXPECT_LE(stats.l2.bytes_used, options_.l2_bytes_max);
    EXPECT_LE(stats.l3.bytes_used, options_.l3_bytes_max);
    const absl::StatusOr<ScanPage> page = store_->Scan("", NameOf(key), 16);
    return page.ok() ? store_->Explain(NameOf(key)).status() : page.status();
  }

  bool HasHadAll() const {
    return io_->fault_count() > 0 && std::all_of(tallies_.begin(), tallies_.end(),
                                                 [](const Tally& tally) { return tally.done > 0; });
  }

  // No room in time, or the device refused: what a put may say here.
  static bool IsRefusal(const absl::Status& status) {
    return absl::IsResourceExhausted(status) || absl::IsDeadlineExceeded(status) ||
           absl::IsUnavailable(status);
  }
  static absl::Status Checked(const absl::Status& read) {
    EXPECT_TRUE(read.ok() || absl::IsNotFound(read) || absl::IsDataLoss(read) || IsRefusal(read))
        << read;
    return read;
  }

  struct Tally {
    std::atomic<uint64_t> calls = 0;
    std::atomic<uint64_t> done = 0;
    std::atomic<int64_t> longest_us = 0;
  };
  FaultyIo* io_ = nullptr;
  std::atomic<uint64_t> free_eighths_ = 16;  // Of what is to stay free of the host's memory.
  std::array<Tally, kVerbs> tallies_;
};

TEST_F(SoakTest, AllVerbsInBadWeather) {
  const char* const seconds = std::getenv("CAIRN_TEST_SOAK_SECONDS");
  const uint64_t seed = std::random_device{}();
  std::printf("seed %lu\n", static_cast<unsigned long>(seed));
  OpenInBadWeather(seed);
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::seconds(seconds == nullptr ? 4 : std::atoi(seconds));
  // On a slow disk until all has happened.
  const auto goes_on = [this, end] {
    const auto now = std::chrono::steady_clock::now();
    return now < end || (!HasHadAll() && now < end + std::chrono::minutes(2));
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t, &goes_on, seed] {
      std::mt19937_64 random(seed + static_cast<uint64_t>(t));
      AlignedBuffer buffer(kTensorBytesMax);
      // Flush waits for all the others' writes: a verb in a hundred.
      std::discrete_distribution<int> verbs({15, 10, 20, 5, 10, 3, 5, 5, 5, 3, 1, 2});
      while (goes_on() && !HasFailure()) {
        RunVerb(static_cast<Verb>(verbs(random)), t, random, buffer);
      }
    });
  }
  std::mt19937_64 weather(seed);
  while (goes_on() && !HasFailure()) {
    free_eighths_ = weather() % 3 == 0 ? weather() % 4 : 8 + weather() % 4;
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + weather() % 400));
  }
  for (std::thread& thread : threads) thread.join();
  for (int verb = 0; verb < kVerbs; ++verb) {
    const Tally& tally = tallies_[verb];
    std::printf("%-20s %9lu calls, %9lu done, longest %8.1f ms\n", kVerbNames[verb],
                static_cast<unsigned long>(tally.calls), static_cast<unsigned long>(tally.done),
                static_cast<double>(tally.longest_us) / 1e3);
    EXPECT_GT(tally.done, 0u) << kVerbNames[verb];
  }
  // Nothing is pinned or leased any more: whatever the weather was, some can be given back now.
  io_->SetPlan(nullptr);
  free_eighths_ = 16;
  AwaitPressure(
      [this](const PressureStats& is) { return is.l2_bytes_usable == options_.l2_bytes_max; });
  free_eighths_ = 0;
  AwaitPressure([](const PressureStats& is) { return is.l2_bytes_given_back > 0; });
  const StatsSnapshot stats = store_->Stats();
  std::printf("%lu faults, %lu reads did not verify, %lu bytes of L2 given back, %lu taken back\n",
              static_cast<unsigned long>(io_->fault_count()),
              static_cast<unsigned long>(stats.checksum_failures),
              static_cast<unsigned long>(stats.pressure.l2_bytes_given_back),
              static_cast<unsigned long>(stats.pressure.l2_bytes_taken_back));
  EXPECT_GT(io_->fault_count(), 0u);
  // Nothing is left behind.
  free_eighths_ = 8;
  store_->Flush().IgnoreError();
  ASSERT_TRUE(store_->ErasePrefix("").ok());
  store_->Flush().IgnoreError();
  EXPECT_EQ(store_->Stats().l1.bytes_used, 0u);
  EXPECT_EQ(store_->Stats().l2.bytes_used, 0u);
}

}  // namespace
}  // namespace cairn
