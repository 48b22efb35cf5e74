// The verbs of a client that move no bytes.

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/clock.h"
#include "tests/simulation/client.h"
#include "tests/simulation/world.h"

namespace cairn {

using Effect = KeyWrite::Effect;

void Client::Erase() {
  const int key = AnyKey();
  const size_t write = world_->history().Begin(key, {.start = world_->step()});
  const absl::Status status = world_->store().Erase(world_->key(key));
  EndErase(key, write, status);
}

// An erase that was refused by the index has removed the tensor from the store all the same, until
// it is opened again.
void Client::EndErase(int key, size_t number, const absl::Status& status) {
  if (world_->crashed()) return;
  world_->schedule().Note(static_cast<uint64_t>(status.code()) + 2000);
  KeyWrite& write = world_->history().At(key, number);
  write.end = world_->step();
  write.effect = Effect::kDone;
  if (status.ok()) {
    write.survives = Survives::kKill;
  } else if (!absl::IsUnavailable(status) || !world_->scenario().fails()) {
    world_->FailKey(key, absl::StrCat("an erase ended with ", status.ToString()));
  }
}

void Client::EraseSome() {
  // key1, key10, key11, ...
  const std::string prefix = absl::StrCat("key", random_.Between(1, 9));
  std::vector<std::pair<int, size_t>> writes;
  for (int key = 0; key < world_->scenario().keys; ++key) {
    if (world_->key(key).compare(0, prefix.size(), prefix) != 0) continue;
    writes.emplace_back(key, world_->history().Begin(key, {.start = world_->step()}));
  }
  const absl::StatusOr<uint64_t> count = world_->store().ErasePrefix(prefix);
  for (const auto& [key, write] : writes) EndErase(key, write, count.status());
}

void Client::Evict() {
  const int key = AnyKey();
  const Level keep = AnyLevel() == Level::kL1Gpu ? Level::kL2Pinned : Level::kL3Nvme;
  const absl::Status status = world_->store().Evict(world_->key(key), keep);
  if (world_->crashed()) return;
  world_->schedule().Note(static_cast<uint64_t>(status.code()) + 3000);
  const bool may_be = status.ok() || absl::IsNotFound(status) ||
                      absl::IsResourceExhausted(status) ||
                      (absl::IsUnavailable(status) && world_->scenario().fails());
  if (!may_be) world_->FailKey(key, absl::StrCat("Evict: ", status.ToString()));
}

void Client::Flush() {
  const uint64_t start = world_->step();
  const absl::Status status = world_->store().Flush();
  if (world_->crashed()) return;
  if (!status.ok() && !world_->scenario().fails()) {
    return world_->Fail(absl::StrCat("Flush: ", status.ToString()));
  }
  if (!status.ok()) return;
  // A failure that an earlier Flush told of is not told again.
  const bool certain = !world_->SpillsFailed();
  if (certain && !world_->crashed()) world_->history().Flushed(start, /*all_erases=*/false);
}

void Client::CountLeading() {
  std::vector<int> numbers;
  std::vector<TensorKey> keys;
  for (uint64_t i = random_.Between(1, 5); i > 0; --i) numbers.push_back(AnyKey());
  for (const int number : numbers) keys.emplace_back(world_->key(number));
  const absl::Duration duration = random_.OneIn(3) ? absl::Milliseconds(20) : absl::Seconds(10);
  const uint64_t start = world_->step();
  const Schedule::Time started = SteadyNow();
  const History::Read missing = world_->BeginRead(0);  // Its key follows.
  absl::StatusOr<LeadingHits> hits = world_->store().CountLeading(keys, {.duration = duration});
  if (world_->crashed()) return;
  if (!hits.ok()) return world_->Fail(absl::StrCat("CountLeading: ", hits.status().ToString()));
  world_->schedule().Note(hits->count);
  if (hits->count < numbers.size()) {
    History::Read read = missing;
    read.key = numbers[hits->count];
    // What is quarantined is not counted either.
    const bool quarantined = world_->scenario().fails() || world_->scenario().lies() ||
                             world_->history().MayBeDamaged(read);
    if (!quarantined) world_->Judge(read, absl::NotFoundError(""), {});
  }
  for (size_t i = 0; i < hits->count && !world_->stopped(); ++i) {
    History::Read read = world_->BeginRead(numbers[i]);
    const absl::StatusOr<TensorHandle> handle =
        world_->store().Get(world_->key(read.key), AnyGetOptions());
    if (world_->crashed()) return;
    if (absl::FromChrono(SteadyNow() - started) < duration) read.leased_at = start;
    absl::Span<const std::byte> bytes;
    if (handle.ok()) bytes = {handle->view().data, handle->view().size};
    world_->Judge(read, handle.status(), bytes);
  }
}

void Client::Prefetch() {
  std::vector<TensorKey> keys;
  for (uint64_t i = random_.Between(1, 4); i > 0; --i) keys.emplace_back(world_->key(AnyKey()));
  world_->store().Prefetch(keys, {.to = AnyLevel()});
}

void Client::Describe() {
  const History::Read read = world_->BeginRead(AnyKey());
  const absl::StatusOr<TensorInfo> info = world_->store().Describe(world_->key(read.key));
  if (world_->crashed()) return;
  if (absl::IsNotFound(info.status())) return world_->Judge(read, info.status(), {});
  if (!info.ok()) return world_->FailKey(read.key, info.status().ToString());
  if (info->in_l2 || info->in_l3 || info->quarantined || world_->scenario().fails()) return;
  // On neither level: only a put from the caller's memory that the index has not confirmed yet.
  world_->schedule().Note(info->bytes);
}

}  // namespace cairn
