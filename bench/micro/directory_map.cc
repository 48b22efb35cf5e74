// The store's directory with the parts that pins and replaces go through: L2, the policies of the
// tiers, the journal. What it holds is in L2 alone, refused by admission: so no replace waits for
// an index, as in the maps that it is compared with.

#include <utility>

#include "bench/micro/tensor_map.h"
#include "src/base/check.h"
#include "src/base/clock.h"
#include "src/directory.h"

namespace cairn::micro {
namespace {

// Is never linked, as what is pinned is in L2.
class NeverFilled final : public FillWaiter {
 public:
  void OnFilled(absl::Status, cairn::Pin) override { CAIRN_CHECK(false); }
};

class DirectoryMap final : public TensorMap {
 public:
  DirectoryMap(PinnedTier* l2, bool as_get)
      : as_get_(as_get),
        l2_eviction_(TierEviction::OfL2(options_.eviction, {})),
        l3_eviction_(TierEviction::OfL3(options_.eviction, {})),
        journal_(options_.journal_records_max, [] { return int64_t{1}; }),
        directory_(options_.stripe_count, {.l2 = l2,
                                           .l3 = nullptr,
                                           .l2_eviction = &l2_eviction_,
                                           .l3_eviction = &l3_eviction_,
                                           .index_writer = nullptr,
                                           .admission = nullptr,
                                           .journal = &journal_,
                                           .refused_used = [](const Entry&) {},
                                           .room_made = [] {}}) {
    l2_eviction_.SetBytesMax(l2->bytes_max());
    l3_eviction_.SetBytesMax(l2->bytes_max());
  }

  void* Pin(const std::string& key) override {
    thread_local NeverFilled waiter;
    const Directory::Lookup found =
        directory_.Acquire({kFingerprint, key}, /*now_unix_ms=*/1, as_get_ ? &waiter : nullptr);
    CAIRN_CHECK(found.found == Directory::Found::kPinned);
    return found.entry;
  }
  void Unpin(void* pinned) override { directory_.Unpin(static_cast<Entry*>(pinned)); }
  void Replace(const std::string& key, Extent extent) override {
    IndexRecord record;
    record.sequence = next_sequence_.fetch_add(1, std::memory_order_relaxed);
    record.payload_bytes = kTensorBytes;
    record.meta = TensorMeta::Bytes(kTensorBytes);
    std::unique_ptr<Entry> entry = Entry::Create({kFingerprint, key}, record);
    entry->MakeHot().l2_extent = extent;
    entry->pins = 1;
    entry->l2 = CopyState::kResident;
    entry->refused = true;
    Entry* const listed = entry.get();
    directory_.List(std::move(entry));
    directory_.Unpin(listed);
  }

 private:
  static constexpr uint32_t kFingerprint = 1;

  const StoreOptions options_;
  const bool as_get_;
  TierEviction l2_eviction_;
  TierEviction l3_eviction_;
  Journal journal_;
  std::atomic<uint64_t> next_sequence_ = 1;
  Directory directory_;
};

}  // namespace

std::unique_ptr<TensorMap> NewDirectoryMap(PinnedTier* l2, bool as_get) {
  return std::make_unique<DirectoryMap>(l2, as_get);
}

}  // namespace cairn::micro
