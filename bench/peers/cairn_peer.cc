// Cairn itself: batches straight from and into the caller's memory, one thread.

#include <algorithm>
#include <utility>

#include "bench/peers/peer_store.h"
#include "cairn/store.h"
#include "src/base/status_macros.h"

namespace cairn::peers {
namespace {

constexpr uint64_t kL2Bytes = uint64_t{64} << 20;

// With room for record headers, the index's share, and the free space that evictions keep ahead:
// a tensor that were evicted here would be missed.
uint64_t L3BytesFor(uint64_t bytes) { return bytes + bytes / 12 + (uint64_t{64} << 20); }

absl::Status First(const std::vector<absl::Status>& statuses) {
  for (const absl::Status& status : statuses) CAIRN_RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

class CairnPeer final : public PeerStore {
 public:
  CairnPeer(std::unique_ptr<Store> store, const PeerOptions& options, Durability durability)
      : store_(std::move(store)), memory_(options.memory), durability_(durability) {
    // Saves CPU time where the kernel allows it, and is never needed.
    registered_ = store_->RegisterMemory(memory_).ok();
  }

  absl::Status Put(absl::Span<const PutItem> batch) override {
    std::vector<ConstPiece> pieces(batch.size());
    std::vector<PutRequest> requests;
    for (size_t i = 0; i < batch.size(); ++i) {
      pieces[i] = {batch[i].bytes.data(), batch[i].bytes.size()};
      requests.push_back({.key = batch[i].key,
                          .meta = TensorMeta::Bytes(batch[i].bytes.size()),
                          .pieces = {&pieces[i], 1}});
    }
    return First(store_->PutFrom(requests, {.durability = durability_}));
  }

  absl::Status Flush() override { return store_->Flush(); }

  absl::Status Get(absl::Span<const GetItem> batch) override {
    std::vector<Piece> pieces(batch.size());
    std::vector<GetRequest> requests;
    for (size_t i = 0; i < batch.size(); ++i) {
      pieces[i] = {batch[i].target.data(), batch[i].target.size()};
      requests.push_back({.key = batch[i].key, .pieces = {&pieces[i], 1}});
    }
    return First(store_->GetInto(requests, {}));
  }

  absl::Status Close() override {
    if (registered_) CAIRN_RETURN_IF_ERROR(store_->UnregisterMemory(memory_));
    return store_->Close();
  }

 private:
  const std::unique_ptr<Store> store_;
  const absl::Span<std::byte> memory_;
  const Durability durability_;
  bool registered_ = false;
};

PeerKind CairnKind(const char* name, const char* what, Durability durability) {
  const auto open =
      [durability](const PeerOptions& options) -> absl::StatusOr<std::unique_ptr<PeerStore>> {
    CAIRN_ASSIGN_OR_RETURN(
        std::unique_ptr<Store> store,
        Store::Open({.path = options.directory + "/store",
                     .l2_bytes_max = kL2Bytes,
                     .l3_bytes_max = L3BytesFor(options.bytes),
                     // The others write all that they are given.
                     .l3_write_bytes_per_day = StoreOptions::kL3WritesUnlimited}));
    return std::make_unique<CairnPeer>(std::move(store), options, durability);
  };
  return {name, what, durability == Durability::kFlushed, open};
}

}  // namespace

std::vector<PeerKind> CairnKinds() {
  return {
      CairnKind("cairn", "PutFrom, `kOnDevice`; GetInto; 1 thread", Durability::kOnDevice),
      CairnKind("cairn-flushed", "PutFrom, `kFlushed`; GetInto; 1 thread", Durability::kFlushed)};
}

}  // namespace cairn::peers
