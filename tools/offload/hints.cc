#include "tools/offload/hints.h"

#include <algorithm>
#include <string>

#include "tools/offload/replay.h"

namespace cairn::offload {

void Hints::Announce(size_t next, size_t arrived) {
  if (ahead_ == 0) return;
  MutexLock lock(mutex_);
  announced_ = std::max(announced_, next);
  const size_t end = std::min(arrived, next + ahead_);
  for (; announced_ < end; ++announced_) AnnounceOne(announced_);
}

void Hints::AnnounceOne(size_t request) {
  // Without a block those behind it are of no use. Describe, unlike CountLeading, is no use of a
  // block that the eviction would count.
  std::vector<std::string> names;
  for (const uint64_t id : requests_[request].block_ids) {
    std::string name = BlockKey(id);
    if (!store_.Describe(name).ok()) break;
    names.push_back(std::move(name));
  }
  const std::vector<TensorKey> keys(names.begin(), names.end());
  // What the store's queue has no room for is loaded when it is asked for.
  tokens_[request] = store_.WillNeed(keys, {}).value_or(0);
}

void Hints::Served(size_t request) {
  if (ahead_ == 0) return;
  MutexLock lock(mutex_);
  store_.Cancel(tokens_[request]);
}

}  // namespace cairn::offload
