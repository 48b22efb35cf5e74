#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "io/async_io.h"
#include "src/admission/admission.h"
#include "src/base/mutex.h"
#include "src/directory.h"
#include "src/evictor.h"
#include "src/spill.h"
#include "src/worker.h"

namespace cairn {

// Spills of tensors that admission refused when they were put, so that L2 alone has them: when they
// are used again, or somebody asks for them to be on L3. Thread-safe; its lock ranks with queues.
class LateSpills {
 public:
  struct Parts {
    Directory* directory;
    Evictor* evictor;
    Admission* admission;
    PinnedTier* l2;
    NvmeTier* l3;
    AsyncIo* io;
    const SpillContext* spill_context;
  };
  explicit LateSpills(const Parts& parts) : parts_(parts) {}

  // Used tensors are written by this worker from now on.
  void Start(Worker* worker) ABSL_LOCKS_EXCLUDED(mutex_);
  // A tensor that was refused is used. With its stripe's lock held.
  void Used(const Entry& entry) ABSL_LOCKS_EXCLUDED(mutex_);

  // Starts the write of the key's tensor if it was refused and admission takes it now, as it must
  // when it is promised. OK, too, where there is nothing to do; else no room before the deadline.
  absl::Status Write(const HashedKey& key, bool promised, Deadline deadline);
  // Of all that were refused; not of those that there is no room for before the deadline.
  absl::Status WriteAll(Deadline deadline);

 private:
  struct Key {
    uint32_t fingerprint_id = 0;
    std::string key;
  };
  void WriteUsed() ABSL_LOCKS_EXCLUDED(mutex_);

  const Parts parts_;

  Mutex mutex_;
  Worker* worker_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::vector<Key> used_ ABSL_GUARDED_BY(mutex_);
  bool posted_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace cairn
