#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "cairn/store.h"
#include "src/base/mutex.h"
#include "tests/io_fixture.h"
#include "tests/simulation/history.h"
#include "tests/simulation/random.h"

namespace cairn {

class World;

// One thread of a host: calls the store's verbs at random and has the answers judged. Ends early
// when the store's world does.
class Client {
 public:
  Client(World* world, int number, uint64_t seed);
  ~Client();

  void Run();

 private:
  // A tensor of an asynchronous call.
  struct Outstanding {
    bool put = false;
    size_t write = 0;  // Of a put.
    PutOptions options;
    History::Read read;
    std::unique_ptr<AlignedBuffer> buffer;
    uint64_t bytes = 0;
  };
  struct Held {
    int key = 0;
    uint64_t content = 0;
    TensorHandle handle;
  };
  struct NewTensor {
    int key = 0;
    uint64_t content = 0;
    uint64_t bytes = 0;
    size_t write = 0;
    std::unique_ptr<AlignedBuffer> buffer;
    std::vector<ConstPiece> pieces;
  };

  void Step();
  int AnyKey();
  absl::Duration AnyTimeout();
  // Where a tensor is to be brought.
  Level AnyLevel();
  GetOptions AnyGetOptions() { return {.want = AnyLevel(), .timeout = AnyTimeout()}; }
  PutOptions AnyPutOptions();
  NewTensor Begin(int key, const PutOptions& options);
  void End(int key, size_t write, const PutOptions& options, const absl::Status& status);
  Survives SurvivalOf(Durability durability) const;
  void CheckTime(const char* verb, Schedule::Time start, absl::Duration timeout);

  void Put();
  void PutFrom();
  void PutFromAsync();
  void Get();
  void Hold();
  void CheckHeld(const Held& held);
  void GetInto();
  void GetIntoAsync();
  void GetAsync();
  void GetAsyncByCallback();
  void Erase();
  void EraseSome();
  void EndErase(int key, size_t write, const absl::Status& status);
  void Evict();
  void Flush();
  void CountLeading();
  void Prefetch();
  void Describe();
  // A buffer for the tensor that the key probably is.
  Outstanding BeginGet(int key);
  void Drain(bool all);
  void EndOne(Completion& completion);

  World* const world_;
  Random random_;
  std::unique_ptr<CompletionQueue> queue_;
  std::deque<std::pair<uint64_t, Outstanding>> outstanding_;  // By tag.
  uint64_t next_tag_ = 1;
  std::vector<Held> held_;

  Mutex mutex_;
  CondVar called_back_;
  uint64_t callbacks_left_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace cairn
