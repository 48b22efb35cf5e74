#include "bench/micro/tensor_map.h"

#include <list>
#include <unordered_map>
#include <utility>

#include "bench/micro/measured_locks.h"

#ifdef CAIRN_BENCH_TBB
#include <tbb/concurrent_hash_map.h>
#endif

namespace cairn::micro {
namespace {

// One table behind one lock, with the standard library's hash of strings.
template <typename By>
class LockedMap final : public TensorMap {
 public:
  explicit LockedMap(PinnedTier* l2) : l2_(l2) {}
  ~LockedMap() override {
    for (const auto& [key, tensor] : tensors_) LetGo(tensor, l2_);
  }

  void* Pin(const std::string& key) override {
    const typename By::Read lock(mutex_);
    return Hold(tensors_.find(key)->second);
  }
  void Unpin(void* pinned) override { LetGo(static_cast<CountedTensor*>(pinned), l2_); }
  void Replace(const std::string& key, Extent extent) override {
    auto* tensor = new CountedTensor(extent);
    {
      const typename By::Write lock(mutex_);
      const auto [at, inserted] = tensors_.try_emplace(key, tensor);
      if (inserted) return;
      std::swap(at->second, tensor);
    }
    LetGo(tensor, l2_);
  }

 private:
  PinnedTier* const l2_;
  typename By::Lock mutex_;
  std::unordered_map<std::string, CountedTensor*> tensors_;
};

// The same with an order of use, the simplest there is: what a look-up that counts as a use is
// compared with.
class LockedLruMap final : public TensorMap {
 public:
  explicit LockedLruMap(PinnedTier* l2) : l2_(l2) {}
  ~LockedLruMap() override {
    for (CountedTensor* const tensor : order_) LetGo(tensor, l2_);
  }

  void* Pin(const std::string& key) override {
    const MutexLock lock(mutex_);
    const auto place = places_.find(key)->second;
    order_.splice(order_.begin(), order_, place);
    return Hold(*place);
  }
  void Unpin(void* pinned) override { LetGo(static_cast<CountedTensor*>(pinned), l2_); }
  void Replace(const std::string& key, Extent extent) override {
    auto* tensor = new CountedTensor(extent);
    {
      const MutexLock lock(mutex_);
      const auto [at, inserted] = places_.try_emplace(key);
      if (inserted) {
        order_.push_front(tensor);
        at->second = order_.begin();
        return;
      }
      order_.splice(order_.begin(), order_, at->second);
      std::swap(*at->second, tensor);
    }
    LetGo(tensor, l2_);
  }

 private:
  using Order = std::list<CountedTensor*>;  // What was used last comes first.

  PinnedTier* const l2_;
  Mutex mutex_;
  Order order_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, Order::iterator> places_ ABSL_GUARDED_BY(mutex_);
};

#ifdef CAIRN_BENCH_TBB
class TbbMap final : public TensorMap {
 public:
  explicit TbbMap(PinnedTier* l2) : l2_(l2) {}
  ~TbbMap() override {
    for (const auto& [key, tensor] : tensors_) LetGo(tensor, l2_);
  }

  void* Pin(const std::string& key) override {
    Tensors::const_accessor found;
    tensors_.find(found, key);
    return Hold(found->second);
  }
  void Unpin(void* pinned) override { LetGo(static_cast<CountedTensor*>(pinned), l2_); }
  void Replace(const std::string& key, Extent extent) override {
    auto* tensor = new CountedTensor(extent);
    {
      Tensors::accessor at;
      if (tensors_.insert(at, {key, tensor})) return;
      std::swap(at->second, tensor);
    }
    LetGo(tensor, l2_);
  }

 private:
  using Tensors = tbb::concurrent_hash_map<std::string, CountedTensor*>;

  PinnedTier* const l2_;
  Tensors tensors_;
};
#endif

template <typename Map>
std::unique_ptr<TensorMap> Create(PinnedTier* l2) {
  return std::make_unique<Map>(l2);
}

}  // namespace

std::vector<MapKind> MapKinds() {
  return {
      {"directory", [](PinnedTier* l2) { return NewDirectoryMap(l2, /*as_get=*/false); }},
      {"mutex", Create<LockedMap<ByMutex>>},
      {"shared_mutex", Create<LockedMap<BySharedMutex>>},
#ifdef CAIRN_BENCH_TBB
      {"TBB", Create<TbbMap>},
#else
      {"TBB", nullptr},
#endif
      {"directory, as a Get", [](PinnedTier* l2) { return NewDirectoryMap(l2, /*as_get=*/true); }},
      {"mutex, LRU", Create<LockedLruMap>},
  };
}

}  // namespace cairn::micro
