#include "tests/simulation/simulated_io.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "src/base/check.h"
#include "src/base/clock.h"

namespace cairn {
namespace {

using std::chrono::microseconds;

constexpr uint64_t kBlockBytes = SimulatedDisk::kBlockBytes;

// Calls visit(address, number) for each block of the op's memory.
template <typename Visitor>
void ForEachBlock(const IoOp& op, const Visitor& visit) {
  uint64_t number = 0;
  for (const iovec& piece : op.pieces) {
    CAIRN_CHECK(reinterpret_cast<uintptr_t>(piece.iov_base) % kBlockBytes == 0);
    CAIRN_CHECK(piece.iov_len % kBlockBytes == 0);
    for (size_t at = 0; at < piece.iov_len; at += kBlockBytes) {
      visit(static_cast<std::byte*>(piece.iov_base) + at, number++);
    }
  }
}

}  // namespace

SimulatedIo::SimulatedIo(FiberSchedule* schedule, SimulatedDisk* disk, const IoFaults* faults,
                         uint64_t seed)
    : schedule_(schedule), disk_(disk), faults_(faults), random_(seed) {
  const uint64_t count = 1 + random_.Below(2);
  for (uint64_t i = 0; i < count; ++i) {
    threads_.push_back(std::make_unique<Thread>());
    const absl::Status started = threads_.back()->Start("engine", [this] {
      schedule_->Name("engine");
      Work();
    });
    CAIRN_CHECK(started.ok());
  }
}

SimulatedIo::~SimulatedIo() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
  }
  drain_.Wait();
  {
    MutexLock lock(mutex_);
    ending_ = true;
    changed_.NotifyAll();
  }
  threads_.clear();
}

absl::StatusOr<int> SimulatedIo::AddFile(int fd) {
  CAIRN_CHECK(files_.size() < SimulatedDisk::kFilesMax);
  files_.push_back(fd);
  return static_cast<int>(files_.size()) - 1;
}

SimulatedIo::Fault SimulatedIo::Strike(const IoOp& op) {
  if (faults_->one_in == 0 || !random_.OneIn(faults_->one_in)) return Fault::kNone;
  if (faults_->fails && (!faults_->lies || random_.OneIn(2))) return Fault::kFail;
  if (!faults_->lies) return Fault::kNone;
  if (op.kind == IoOp::Kind::kRead) {
    return random_.OneIn(2) ? Fault::kFlipRead : Fault::kMisdirect;
  }
  constexpr Fault kOfWrites[] = {Fault::kLose, Fault::kTear, Fault::kMisdirect, Fault::kFlipMedium};
  return kOfWrites[random_.Below(4)];
}

Schedule::Time SimulatedIo::Due() {
  uint64_t us = 20 + random_.Below(500);
  if (random_.OneIn(20)) us += random_.Below(20000);
  if (faults_->slow_one_in != 0 && random_.OneIn(faults_->slow_one_in))
    us += random_.Below(3000000);
  return SteadyNow() + microseconds(us);
}

void SimulatedIo::Spoil(const IoOp& op) {
  ForEachBlock(op, [](std::byte* block, uint64_t) { std::memset(block, 0xa5, 16); });
}

void SimulatedIo::Submit(absl::Span<IoOp* const> ops) {
  // None of the store's locks is held across I/O.
  CAIRN_CHECK(schedule_->locks_held() == 0);
  const uint8_t epoch = drain_.Enter(ops.size());
  MutexLock lock(mutex_);
  for (IoOp* op : ops) {
    CAIRN_CHECK(op->kind != IoOp::Kind::kSync && !op->pieces.empty());
    Request request = {.op = op, .epoch = epoch, .due = Due(), .fault = Strike(*op)};
    request.where = random_.Next();
    // The memory of a read is garbage from here on.
    if (op->kind == IoOp::Kind::kRead) Spoil(*op);
    if (op->kind == IoOp::Kind::kWrite && !gone_) Move(request, 0, 2);
    requests_.push_back(request);
    schedule_->Note(op->offset ^ (static_cast<uint64_t>(request.fault) << 56));
  }
  changed_.NotifyAll();
}

void SimulatedIo::Work() {
  while (true) {
    Request request;
    {
      MutexLock lock(mutex_);
      while (true) {
        if (ending_) return;
        const auto next =
            std::min_element(requests_.begin(), requests_.end(),
                             [](const Request& a, const Request& b) { return a.due < b.due; });
        if (next == requests_.end()) {
          changed_.Wait(mutex_);
        } else if (next->due > SteadyNow()) {
          changed_.WaitUntil(mutex_, next->due);
        } else {
          request = *next;
          requests_.erase(next);
          break;
        }
      }
    }
    absl::Status status = CarryOut(request);
    request.op->OnDone(std::move(status));
    CAIRN_CHECK(schedule_->locks_held() == 0);
    drain_.Leave(request.epoch);
  }
}

void SimulatedIo::Move(const Request& request, uint64_t part, uint64_t of) {
  const IoOp& op = *request.op;
  uint64_t first = SimulatedDisk::BlockAt(op.file, op.offset);
  const uint64_t end = SimulatedDisk::BlockAt(op.file + 1, 0);
  const uint64_t count = op.byte_count() / kBlockBytes;
  CAIRN_CHECK(first + count <= end);
  if (request.fault == Fault::kLose) return;
  if (request.fault == Fault::kMisdirect) {
    const uint64_t back = 1 + request.where % 8;
    first -= std::min(back, op.offset / kBlockBytes);
  }
  ForEachBlock(op, [&](std::byte* block, uint64_t number) {
    if (number % of != part) return;
    const bool torn = request.fault == Fault::kTear || request.fault == Fault::kFail;
    if (torn && (request.where >> (number % 64) & 1) == 0) return;
    if (op.kind == IoOp::Kind::kRead) {
      disk_->Read(first + number, block);
    } else {
      disk_->Write(first + number, block, random_);
    }
  });
}

absl::Status SimulatedIo::CarryOut(const Request& request) {
  const IoOp& op = *request.op;
  const bool read = op.kind == IoOp::Kind::kRead;
  if (gone_) {
    return read ? absl::DataLossError("the device is gone")
                : absl::UnavailableError("the device is gone");
  }
  if (read) Move(request, 0, 1);
  if (!read) Move(request, 1, 2);
  if (request.fault == Fault::kFail) {
    return read ? absl::DataLossError("an error of the medium")
                : absl::UnavailableError("an error of the device");
  }
  const uint64_t bit = request.where % (op.byte_count() * 8);
  const uint64_t block = bit / 8 / kBlockBytes;
  if (request.fault == Fault::kFlipRead) {
    ForEachBlock(op, [&](std::byte* bytes, uint64_t number) {
      if (number == block) bytes[bit / 8 % kBlockBytes] ^= std::byte{1} << (bit % 8);
    });
  }
  if (request.fault == Fault::kFlipMedium) {
    disk_->FlipBit(SimulatedDisk::BlockAt(op.file, op.offset) + block, bit);
  }
  Count(op);
  return absl::OkStatus();
}

void SimulatedIo::Count(const IoOp& op) {
  const bool read = op.kind == IoOp::Kind::kRead;
  ++(read ? stats_.reads : stats_.writes);
  (read ? stats_.bytes_read : stats_.bytes_written) += op.byte_count();
}

int SimulatedIo::Flush(int fd) {
  CAIRN_CHECK(schedule_->locks_held() == 0);
  const auto file = std::find(files_.begin(), files_.end(), fd) - files_.begin();
  if (gone_) return EIO;
  const SimulatedDisk::Flush flush = disk_->BeginFlush(static_cast<int>(file));
  const bool fails = faults_->flush_fails_one_in != 0 && random_.OneIn(faults_->flush_fails_one_in);
  SleepFor(microseconds(50 + random_.Below(2000)));
  if (gone_) return EIO;
  if (fails) {
    disk_->FailFlush(flush);
    return EIO;
  }
  disk_->EndFlush(flush);
  return 0;
}

void SimulatedIo::CutOff() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  for (const Request& request : requests_) {
    if (request.op->kind != IoOp::Kind::kWrite || random_.OneIn(2)) continue;
    Move(request, 1, random_.OneIn(2) ? 2 : 6);
  }
  gone_ = true;
  disk_->AbandonFlushes();
}

}  // namespace cairn
