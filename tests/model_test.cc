// Random verbs on one store against a plain map. A failure prints the seed: set CAIRN_TEST_SEED to
// replay it.

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>

#include "tests/store_fixture.h"

namespace cairn {
namespace {

class ModelTest : public StoreTest {
 protected:
  struct Expected {
    uint64_t size = 0;
    uint64_t version = 0;
    bool keep = false;
  };

  void Run(int steps, uint64_t size_max, bool may_evict) {
    const char* text = std::getenv("CAIRN_TEST_SEED");
    const uint64_t seed =
        text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
    SCOPED_TRACE("CAIRN_TEST_SEED=" + std::to_string(seed));
    std::printf("CAIRN_TEST_SEED=%lu\n", static_cast<unsigned long>(seed));
    random_.seed(seed);
    size_max_ = size_max;
    may_evict_ = may_evict;
    Open();
    for (int i = 0; i < steps && !HasFailure(); ++i) Step();
    if (HasFailure()) return;
    handles_.clear();
    Reopen();
    // A copy: what is found to be evicted leaves the model.
    for (const auto& [key, expected] : std::map(model_)) Check(key);
    if (!may_evict_) {
      EXPECT_EQ(store_->Scan("", "", 10000)->entries.size(), model_.size());
    }
    for (const auto& [key, expected] : model_) ASSERT_TRUE(store_->Erase(key).ok());
    EXPECT_EQ(store_->Stats().l3.bytes_used, 0u);
    EXPECT_EQ(store_->Stats().l2.bytes_used, 0u);
    EXPECT_EQ(store_->Stats().l1.bytes_used, 0u);
  }

 private:
  uint64_t Below(uint64_t bound) { return random_() % bound; }
  std::string AnyKey() { return "key" + std::to_string(Below(40)); }

  void Step() {
    const std::string key = AnyKey();
    switch (Below(16)) {
      case 0:
      case 1:
      case 2:
        return PutOne(key);
      case 3:
      case 4:
        return PutFromOne(key);
      case 5:
        ASSERT_TRUE(store_->Erase(key).ok());
        model_.erase(key);
        return;
      case 6:
        return HoldOrDrop(key);
      case 7:
        store_->Evict(key, Below(2) == 0 ? Level::kL3Nvme : Level::kL2Pinned).IgnoreError();
        return;
      case 8:
        store_->Prefetch({key, AnyKey(), AnyKey()}, {.to = AnyLevel(), .gpu = AnyGpu()});
        store_->Cancel(hinted_);
        hinted_ =
            store_->WillNeed({AnyKey(), AnyKey(), AnyKey()}, {.to = AnyLevel(), .gpu = AnyGpu()})
                .value_or(0);
        return;
      case 9:
        return CheckLeading();
      case 10:
        return GetIntoOne(key);
      case 11:
        if (Below(8) == 0) {
          ASSERT_TRUE(store_->Flush().ok());
        }
        return;
      case 12:
        if (Below(20) == 0) {
          handles_.clear();
          Reopen();
        }
        return;
      default:
        return Check(key);
    }
  }

  PutOptions AnyOptions() {
    PutOptions options;
    options.durability = static_cast<Durability>(Below(4));
    options.retention = Below(4) == 0 ? Retention::kKeep : Retention::kCache;
    options.if_exists = Below(4) == 0 ? IfExists::kKeep : IfExists::kReplace;
    options.tensor_class = static_cast<TensorClass>(Below(4));
    options.timeout = absl::Seconds(may_evict_ ? 1 : 30);
    return options;
  }

  void Account(const std::string& key, const absl::Status& status, const PutOptions& options,
               const Expected& put) {
    const bool goes_on = may_evict_ && absl::IsDeadlineExceeded(status);
    if (!status.ok() && !goes_on) {
      EXPECT_TRUE(may_evict_ && absl::IsResourceExhausted(status)) << status;
      return;
    }
    if (goes_on) {
      ASSERT_TRUE(store_->Flush().ok());
    }
    // Kept an older one if one was there; an evictable one may or may not have been. Nor is it
    // known which of the two a put has left whose time ran out.
    const auto found = model_.find(key);
    if ((goes_on || options.if_exists == IfExists::kKeep) && found != model_.end()) {
      absl::StatusOr<TensorHandle> handle = store_->Get(key, Options());
      if (Hindered(handle.status())) {
        // Which of the two it is must be known: nobody is in the way then.
        handles_.clear();
        handle = store_->Get(key, {});
      }
      if (!handle.ok()) return Missing(key, handle.status());
      if (handle->view().size == found->second.size && Matches(*handle, key, found->second)) return;
    }
    model_[key] = put;
  }

  void PutOne(const std::string& key) {
    const PutOptions options = AnyOptions();
    const Expected put = {1 + Below(size_max_), ++version_, options.retention == Retention::kKeep};
    Account(key, Put(key, put.size, put.version, options), options, put);
  }

  void PutFromOne(const std::string& key) {
    const PutOptions options = AnyOptions();
    Expected put = {1 + Below(size_max_), ++version_, options.retention == Retention::kKeep};
    if (Below(2) == 0) put.size = (put.size + 4095) / 4096 * 4096;
    const std::vector<std::byte> content = ContentOf(key, put.size, put.version);
    AlignedBuffer buffer((put.size + 8191) / 4096 * 4096);
    const uint64_t shift = Below(3) == 0 ? 1 : 0;
    std::memcpy(buffer.data() + shift, content.data(), put.size);
    std::vector<ConstPiece> pieces;
    uint64_t offset = 0;
    while (offset < put.size) {
      const uint64_t piece = std::min(put.size - offset, (1 + Below(40)) * 4096);
      pieces.push_back({buffer.data() + shift + offset, piece});
      offset += piece;
    }
    const std::vector<absl::Status> statuses = store_->PutFrom(
        {{.key = key, .meta = TensorMeta::Bytes(put.size), .pieces = pieces}}, options);
    Account(key, statuses[0], options, put);
  }

  void GetIntoOne(const std::string& key) {
    const auto found = model_.find(key);
    const uint64_t size = found == model_.end() ? 4096 : found->second.size;
    AlignedBuffer buffer((size + 8191) / 4096 * 4096);
    const uint64_t split = size > 4096 ? (1 + Below(size / 4096)) * 4096 : size;
    std::vector<Piece> pieces = {{buffer.data(), std::min(split, size)}};
    if (split < size) pieces.push_back({buffer.data() + split, size - split});
    const absl::Status status = store_->GetInto({{.key = key, .pieces = pieces}}, Options())[0];
    if (found == model_.end()) {
      EXPECT_TRUE(absl::IsNotFound(status)) << status;
    } else if (!status.ok()) {
      Missing(key, status);
    } else {
      const std::vector<std::byte> expected = ContentOf(key, size, found->second.version);
      EXPECT_EQ(std::memcmp(buffer.data(), expected.data(), size), 0) << key;
    }
  }

  void HoldOrDrop(const std::string& key) {
    if (handles_.size() >= 3 || (!handles_.empty() && Below(2) == 0)) {
      const auto& [held, expected, handle] = handles_.front();
      EXPECT_TRUE(Matches(handle, held, expected)) << held << " changed under its pin";
      handles_.erase(handles_.begin());
      return;
    }
    absl::StatusOr<TensorHandle> handle = store_->Get(key, AnyTier());
    if (handle.ok()) handles_.emplace_back(key, model_.at(key), *std::move(handle));
  }

  void CheckLeading() {
    std::vector<std::string> names;
    for (uint64_t i = 0; i < 1 + Below(6); ++i) names.push_back(AnyKey());
    const std::vector<TensorKey> keys(names.begin(), names.end());
    const absl::StatusOr<LeadingHits> hits = store_->CountLeading(keys, {});
    ASSERT_TRUE(hits.ok());
    for (size_t i = 0; i < hits->count; ++i) {
      ASSERT_TRUE(model_.contains(names[i])) << names[i];
      const absl::StatusOr<TensorHandle> handle = store_->Get(names[i], Options());
      if (Hindered(handle.status())) continue;
      ASSERT_TRUE(handle.ok()) << "leased " << names[i] << ": " << handle.status();
    }
    if (hits->count < names.size() && model_.contains(names[hits->count])) {
      Missing(names[hits->count], absl::NotFoundError("not counted"));
    }
  }

  bool Matches(const TensorHandle& handle, const std::string& key, const Expected& expected) {
    if (handle.view().size != expected.size) return false;
    std::vector<std::byte> bytes(expected.size);
    const absl::Status copied = handle.CopyTo(absl::MakeSpan(bytes));
    EXPECT_TRUE(copied.ok()) << copied;
    return bytes == ContentOf(key, expected.size, expected.version);
  }

  Level AnyLevel() {
    return options_.l1_bytes_max > 0 && Below(2) == 0 ? Level::kL1Gpu : Level::kL2Pinned;
  }
  int AnyGpu() { return options_.gpus[Below(options_.gpus.size())]; }
  GetOptions AnyTier() {
    GetOptions options = Options();
    options.want = AnyLevel();
    options.gpu = AnyGpu();
    return options;
  }

  // Under pressure handles and dirty tensors may take all of L2: that is said, and no loss.
  GetOptions Options() const {
    return {.timeout = may_evict_ ? absl::Milliseconds(200) : absl::Seconds(30)};
  }

  // Nor is it one that the disk takes longer than that.
  bool Hindered(const absl::Status& status) const {
    return may_evict_ && (absl::IsResourceExhausted(status) || absl::IsDeadlineExceeded(status));
  }

  void Missing(const std::string& key, const absl::Status& status) {
    if (Hindered(status)) return;
    EXPECT_TRUE(absl::IsNotFound(status)) << key << ": " << status;
    EXPECT_TRUE(may_evict_) << key << " is missing";
    EXPECT_FALSE(model_.at(key).keep) << key << " was to be kept";
    model_.erase(key);
  }

  void Check(const std::string& key) {
    const auto found = model_.find(key);
    const absl::StatusOr<TensorHandle> handle = store_->Get(key, AnyTier());
    if (found == model_.end()) {
      EXPECT_TRUE(absl::IsNotFound(handle.status())) << key << ": " << handle.status();
    } else if (!handle.ok()) {
      Missing(key, handle.status());
    } else {
      EXPECT_TRUE(Matches(*handle, key, found->second)) << key;
    }
  }

  std::mt19937_64 random_;
  uint64_t size_max_ = 0;
  bool may_evict_ = false;
  uint64_t version_ = 0;
  std::map<std::string, Expected> model_;
  PrefetchToken hinted_ = 0;
  std::vector<std::tuple<std::string, Expected, TensorHandle>> handles_;
};

// What fits must never be missing.
TEST_F(ModelTest, WithRoomForAll) { Run(1500, 600 * kKiB, /*may_evict=*/false); }

// Everything is small and under pressure; what is missing must be an evictable one.
TEST_F(ModelTest, UnderPressure) {
  options_.l2_bytes_max = 4 * kMiB;
  options_.l3_bytes_max = 32 * kMiB;
  Run(800, 1300 * kKiB, /*may_evict=*/true);
}

// The same with a third tier on top: half of what is read comes from there.
TEST_F(ModelTest, WithRoomForAllAndL1) {
  options_.l1_bytes_max = 8 * kMiB;
  Run(1500, 600 * kKiB, /*may_evict=*/false);
}

TEST_F(ModelTest, UnderPressureWithL1) {
  options_.l1_bytes_max = 4 * kMiB;
  options_.l2_bytes_max = 4 * kMiB;
  options_.l3_bytes_max = 32 * kMiB;
  Run(800, 1300 * kKiB, /*may_evict=*/true);
}

// And on each of three GPUs.
TEST_F(ModelTest, WithRoomForAllAndThreeGpus) {
  options_.l1_bytes_max = 4 * kMiB;
  options_.gpus = {2, 0, 5};
  Run(1500, 600 * kKiB, /*may_evict=*/false);
}

TEST_F(ModelTest, UnderPressureWithTwoGpus) {
  options_.l1_bytes_max = 3 * kMiB;
  options_.gpus = {0, 1};
  options_.l2_bytes_max = 4 * kMiB;
  options_.l3_bytes_max = 32 * kMiB;
  Run(800, 1300 * kKiB, /*may_evict=*/true);
}

}  // namespace
}  // namespace cairn
