// Prefetches that nobody asked for: what followed a key the last time is likely to follow it again.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/store_impl.h"

namespace cairn {

void StoreImpl::Named(absl::Span<const HashedKey> chain) {
  Predictor* const predictor = core_->predictor.get();
  if (predictor == nullptr) return;
  for (size_t i = 1; i < chain.size(); ++i) {
    predictor->successors().Learn(chain[i - 1].hash, chain[i].hash);
  }
  predictor->ThisReader().stream.Break();
}

void StoreImpl::Asked(TensorKey key) {
  Predictor* const predictor = core_->predictor.get();
  if (predictor == nullptr) return;
  Predictor::Reader& reader = predictor->ThisReader();
  reader.stride.Read(key.bytes());
  if (reader.stream.Read(Hashed(key.bytes()).hash, predictor->successors())) return;
  if (!core_->predictions->empty()) core_->predictions->Cancel(std::exchange(reader.token, 0));
}

void StoreImpl::Predict(TensorKey last, size_t ahead) {
  Predictor* const predictor = core_->predictor.get();
  if (predictor == nullptr) return;
  Predictor::Reader& reader = predictor->ThisReader();
  std::vector<std::string> names;
  const auto take = [&](uint64_t hash) {
    std::optional<std::string> name = core_->directory->FindOnL3Alone(hash);
    if (name.has_value()) names.push_back(*std::move(name));
  };
  while (const uint64_t hash = reader.stream.Next(ahead, predictor->successors())) take(hash);
  if (!reader.stream.guessing()) {
    while (const std::optional<std::string> name = reader.stride.Next(last.bytes())) {
      take(Hashed(*name).hash);
    }
  }
  if (names.empty()) return;
  const std::vector<TensorKey> keys(names.begin(), names.end());
  // What the queue has no room for is loaded when it is asked for.
  reader.token = core_->predictions->Add(keys, {}, SteadyNow()).value_or(0);
}

}  // namespace cairn
