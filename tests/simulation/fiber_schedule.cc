#include "tests/simulation/fiber_schedule.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "src/base/check.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CAIRN_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define CAIRN_ADDRESS_SANITIZER 1
#endif
#ifdef CAIRN_ADDRESS_SANITIZER
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cairn {
namespace {

constexpr size_t kStackBytes = size_t{1} << 20;
constexpr uint64_t kHangNs = uint64_t{600} * 1000 * 1000 * 1000;
constexpr uint64_t kHangSteps = 20 * 1000 * 1000;
constexpr uint64_t kNever = UINT64_MAX;

#ifdef CAIRN_ADDRESS_SANITIZER
// Lowest address and size of the stack that the program began on.
std::pair<void*, size_t> MainStack() {
  pthread_attr_t attributes;
  void* base = nullptr;
  size_t bytes = 0;
  CAIRN_CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0);
  CAIRN_CHECK(pthread_attr_getstack(&attributes, &base, &bytes) == 0);
  pthread_attr_destroy(&attributes);
  return {base, bytes};
}
#endif

uint64_t ToNs(Schedule::Time time) {
  if (time == Schedule::Time::max()) return kNever;
  const auto count = std::chrono::nanoseconds(time.time_since_epoch()).count();
  return count < 0 ? 0 : static_cast<uint64_t>(count);
}

}  // namespace

// Address space with a page at its lower end that nobody may touch.
struct FiberSchedule::Stack {
  Stack()
      : base(mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0)) {
    CAIRN_CHECK(base != MAP_FAILED && mprotect(base, 4096, PROT_NONE) == 0);
  }
  ~Stack() { munmap(base, kStackBytes); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  void* const base;
};

struct FiberSchedule::Fiber {
  uint64_t number = 0;
  std::string name;
  std::function<void()> body;
  std::unique_ptr<Stack> stack;
  ucontext_t context = {};
  void* fake_stack = nullptr;  // The address sanitizer's.
  bool ended = false;
  // What it waits for, one at a time; nothing: it can run.
  const void* mutex = nullptr;
  const void* condition = nullptr;
  uint64_t join = 0;
  bool sleeps = false;
  uint64_t deadline_ns = kNever;
  bool timed_out = false;

  bool ready() const {
    return mutex == nullptr && condition == nullptr && join == 0 && !sleeps && !ended;
  }
};

FiberSchedule::FiberSchedule(uint64_t seed)
    : random_(seed), digest_(seed ^ 0xcbf29ce484222325), now_ns_(uint64_t{3600} * 1000000000) {
  constexpr uint64_t kStepNs[] = {100, 1000, 20000};
  constexpr uint64_t kSwitchOneIn[] = {2, 4, 10, 40};
  step_ns_ = kStepNs[random_.Below(3)];
  switch_one_in_ = kSwitchOneIn[random_.Below(4)];
  starves_ = random_.OneIn(2);
}

FiberSchedule::~FiberSchedule() = default;

void FiberSchedule::Run(const std::function<void()>& body) {
  Set(this);
  // The caller's own stack is the first fiber's.
  auto first = std::make_unique<Fiber>();
  first->number = ++last_number_;
  first->name = "main";
  current_ = first.get();
  fibers_.push_back(std::move(first));
  Progress();
  body();
  if (fibers_.size() != 1) Hang("threads are left behind");
  if (!held_.empty()) Hang("a mutex is left locked");
  fibers_.clear();
  ended_.reset();
  stacks_.clear();
  Set(nullptr);
}

void FiberSchedule::Enter() {
  auto* const schedule = static_cast<FiberSchedule*>(Current());
#ifdef CAIRN_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  Fiber* const fiber = schedule->current_;
  fiber->body();
  fiber->body = nullptr;
  for (const Held& held : schedule->held_) {
    if (held.owner == fiber) schedule->Hang("a thread ended with a mutex locked");
  }
  fiber->ended = true;
  for (const std::unique_ptr<Fiber>& other : schedule->fibers_) {
    if (other->join == fiber->number) other->join = 0;
  }
  schedule->Block();
  CAIRN_CHECK(false);
}

uint64_t FiberSchedule::StartThread(std::function<void()> body) {
  auto fiber = std::make_unique<Fiber>();
  const uint64_t number = ++last_number_;
  fiber->number = number;
  fiber->name = "thread " + std::to_string(number);
  fiber->body = std::move(body);
  if (ended_ != nullptr) {
    stacks_.push_back(std::move(ended_->stack));
    ended_.reset();
  }
  if (stacks_.empty()) stacks_.push_back(std::make_unique<Stack>());
  fiber->stack = std::move(stacks_.back());
  stacks_.pop_back();
  CAIRN_CHECK(getcontext(&fiber->context) == 0);
  fiber->context.uc_stack.ss_sp = fiber->stack->base;
  fiber->context.uc_stack.ss_size = kStackBytes;
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, &FiberSchedule::Enter, 0);
  fibers_.push_back(std::move(fiber));
  Step();
  return number;
}

void FiberSchedule::JoinThread(uint64_t thread) {
  Step();
  for (const std::unique_ptr<Fiber>& fiber : fibers_) {
    if (fiber->number != thread || fiber->ended) continue;
    current_->join = thread;
    Block();
    return;
  }
}

FiberSchedule::Fiber* FiberSchedule::OwnerOf(const void* mutex) const {
  for (const Held& held : held_) {
    if (held.mutex == mutex) return held.owner;
  }
  return nullptr;
}

void FiberSchedule::Take(const void* mutex) {
  while (Fiber* const owner = OwnerOf(mutex)) {
    if (owner == current_) Hang("a thread takes a mutex that it holds");
    current_->mutex = mutex;
    Block();
  }
  held_.push_back({mutex, current_});
}

void FiberSchedule::GiveUp(const void* mutex) {
  const auto found = std::find_if(held_.begin(), held_.end(),
                                  [mutex](const Held& held) { return held.mutex == mutex; });
  if (found == held_.end() || found->owner != current_)
    Hang("a mutex that is not held is unlocked");
  held_.erase(found);
  for (const std::unique_ptr<Fiber>& fiber : fibers_) {
    if (fiber->mutex == mutex) fiber->mutex = nullptr;
  }
}

void FiberSchedule::Lock(const void* mutex) {
  Step();
  Take(mutex);
}

void FiberSchedule::Unlock(const void* mutex) {
  GiveUp(mutex);
  Step();
}

bool FiberSchedule::Wait(const void* condition, const void* mutex, Time deadline) {
  GiveUp(mutex);
  current_->condition = condition;
  current_->deadline_ns = ToNs(deadline);
  current_->timed_out = false;
  // A wait may end for no reason at all.
  if (random_.OneIn(200)) current_->condition = nullptr;
  Block();
  current_->deadline_ns = kNever;
  const bool in_time = !current_->timed_out;
  Take(mutex);
  return in_time;
}

void FiberSchedule::Notify(const void* condition, bool all) {
  std::vector<Fiber*> waiting;
  for (const std::unique_ptr<Fiber>& fiber : fibers_) {
    if (fiber->condition == condition) waiting.push_back(fiber.get());
  }
  if (!all && waiting.size() > 1) waiting = {waiting[random_.Below(waiting.size())]};
  for (Fiber* fiber : waiting) fiber->condition = nullptr;
  Step();
}

FiberSchedule::Time FiberSchedule::Now() { return Time(std::chrono::nanoseconds(now_ns_)); }

void FiberSchedule::SleepUntil(Time time) {
  current_->sleeps = true;
  current_->deadline_ns = ToNs(time);
  Block();
  current_->deadline_ns = kNever;
}

void FiberSchedule::Name(const std::string& name) { current_->name = name; }

size_t FiberSchedule::locks_held() const {
  return static_cast<size_t>(std::count_if(
      held_.begin(), held_.end(), [this](const Held& held) { return held.owner == current_; }));
}

void FiberSchedule::Progress() {
  progress_ns_ = now_ns_;
  progress_steps_ = steps_;
}

void FiberSchedule::SetAlarm(uint64_t step, std::function<void()> ring) {
  alarm_step_ = step;
  alarm_ = std::move(ring);
}

void FiberSchedule::Tick() {
  ++steps_;
  now_ns_ += step_ns_;
  if (steps_ - progress_steps_ > kHangSteps) Hang("it goes round and round");
  if (steps_ < alarm_step_) return;
  alarm_step_ = UINT64_MAX;
  std::exchange(alarm_, nullptr)();
}

void FiberSchedule::Step() {
  Tick();
  if (!random_.OneIn(switch_one_in_)) return;
  SwitchTo(Next());
}

void FiberSchedule::Block() {
  Tick();
  SwitchTo(Next());
}

// Never null: without anybody who can run there is nothing left to do here.
FiberSchedule::Fiber* FiberSchedule::Next() {
  std::vector<Fiber*> ready;
  while (true) {
    uint64_t first_deadline_ns = kNever;
    for (const std::unique_ptr<Fiber>& fiber : fibers_) {
      const bool timed = fiber->deadline_ns != kNever;
      if (timed && (fiber->sleeps || fiber->condition != nullptr)) {
        if (fiber->deadline_ns <= now_ns_) {
          fiber->timed_out = true;
          fiber->sleeps = false;
          fiber->condition = nullptr;
        } else {
          first_deadline_ns = std::min(first_deadline_ns, fiber->deadline_ns);
        }
      }
      if (fiber->ready()) ready.push_back(fiber.get());
    }
    if (!ready.empty()) return Choose(ready);
    if (first_deadline_ns == kNever) Hang("a deadlock");
    now_ns_ = first_deadline_ns;
    if (now_ns_ - progress_ns_ > kHangNs) Hang("a hang");
  }
}

FiberSchedule::Fiber* FiberSchedule::Choose(const std::vector<Fiber*>& ready) {
  Fiber* chosen = ready[random_.Below(ready.size())];
  if (!starves_) return chosen;
  if (random_.OneIn(100)) starved_ = chosen->number;
  if (chosen->number == starved_ && !random_.OneIn(10)) chosen = ready[random_.Below(ready.size())];
  return chosen;
}

void FiberSchedule::SwitchTo(Fiber* fiber) {
  Fiber* const from = current_;
  if (fiber == from) return;
  ++switches_;
  Note(fiber->number);
  if (from->ended) {
    if (ended_ != nullptr) stacks_.push_back(std::move(ended_->stack));
    const auto found =
        std::find_if(fibers_.begin(), fibers_.end(),
                     [from](const std::unique_ptr<Fiber>& other) { return other.get() == from; });
    ended_ = std::move(*found);
    fibers_.erase(found);
  }
  current_ = fiber;
#ifdef CAIRN_ADDRESS_SANITIZER
  static const std::pair<void*, size_t> main_stack = MainStack();
  const bool first = fiber->number == 1;
  __sanitizer_start_switch_fiber(from->ended ? nullptr : &from->fake_stack,
                                 first ? main_stack.first : fiber->stack->base,
                                 first ? main_stack.second : kStackBytes);
#endif
  CAIRN_CHECK(swapcontext(&from->context, &fiber->context) == 0);
#ifdef CAIRN_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

void FiberSchedule::Hang(const char* why) {
  std::fprintf(stderr, "simulation: %s, after %.3f s and %lu steps of the run\n", why,
               static_cast<double>(now_ns_) / 1e9 - 3600, static_cast<unsigned long>(steps_));
  for (const std::unique_ptr<Fiber>& fiber : fibers_) {
    std::fprintf(stderr, "  %s%s:", fiber->name.c_str(), fiber.get() == current_ ? " (runs)" : "");
    if (fiber->ready()) std::fprintf(stderr, " could run");
    if (fiber->join != 0) {
      std::fprintf(stderr, " waits for the end of thread %lu",
                   static_cast<unsigned long>(fiber->join));
    }
    if (fiber->mutex != nullptr) {
      const Fiber* const owner = OwnerOf(fiber->mutex);
      std::fprintf(stderr, " wants mutex %p, held by %s", fiber->mutex,
                   owner == nullptr ? "nobody" : owner->name.c_str());
    }
    if (fiber->condition != nullptr) std::fprintf(stderr, " waits on %p", fiber->condition);
    if (fiber->deadline_ns != kNever) {
      std::fprintf(stderr, " until %.6f s", static_cast<double>(fiber->deadline_ns) / 1e9 - 3600);
    }
    std::fprintf(stderr, "\n");
  }
  std::abort();
}

}  // namespace cairn
