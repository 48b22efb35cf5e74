#pragma once

#include <cstdint>
#include <iterator>
#include <list>
#include <unordered_map>
#include <vector>

namespace cairn {

// What an LRU cache of blocks with prefix semantics would hit: bookkeeping alone, no bytes. A
// request's hits are its leading blocks that are present; it touches all of its blocks in order,
// and what was not there is inserted.
class LruSimulation {
 public:
  struct Options {
    uint64_t bytes_max = 0;
    uint64_t block_bytes = 0;
  };

  explicit LruSimulation(const Options& options)
      : blocks_max_(options.bytes_max / RecordBytes(options.block_bytes)) {}

  // Returns the hits.
  uint64_t Replay(const std::vector<uint64_t>& block_ids) {
    uint64_t hits = 0;
    while (hits < block_ids.size() && places_.count(block_ids[hits]) != 0) ++hits;
    for (const uint64_t id : block_ids) Touch(id);
    hits_ += hits;
    lookups_ += block_ids.size();
    return hits;
  }

  uint64_t hits() const { return hits_; }
  uint64_t lookups() const { return lookups_; }
  uint64_t blocks() const { return places_.size(); }
  double hit_rate() const { return static_cast<double>(hits_) / static_cast<double>(lookups_); }

 private:
  // A block on the device: its header, and its bytes rounded up to whole sectors.
  static uint64_t RecordBytes(uint64_t block_bytes) {
    return 4096 + (block_bytes + 4095) / 4096 * 4096;
  }

  void Touch(uint64_t id) {
    const auto place = places_.find(id);
    if (place != places_.end()) {
      order_.splice(order_.end(), order_, place->second);
      return;
    }
    order_.push_back(id);
    places_[id] = std::prev(order_.end());
    if (places_.size() > blocks_max_) {
      places_.erase(order_.front());
      order_.pop_front();
    }
  }

  const uint64_t blocks_max_;
  std::list<uint64_t> order_;  // Least recently used first.
  std::unordered_map<uint64_t, std::list<uint64_t>::iterator> places_;
  uint64_t hits_ = 0;
  uint64_t lookups_ = 0;
};

}  // namespace cairn
