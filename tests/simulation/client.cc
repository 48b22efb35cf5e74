#include "tests/simulation/client.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/clock.h"
#include "tests/simulation/world.h"

namespace cairn {
namespace {

using Effect = KeyWrite::Effect;

uint64_t RoundUp(uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

}  // namespace

Client::Client(World* world, int number, uint64_t seed)
    : world_(world), random_(seed + static_cast<uint64_t>(number)) {
  queue_ = *CompletionQueue::Create(64);
}

Client::~Client() = default;

void Client::Run() {
  world_->schedule().Name("client");
  for (int i = 0; i < world_->scenario().operations && !world_->stopped(); ++i) Step();
  Drain(/*all=*/true);
  {
    MutexLock lock(mutex_);
    while (callbacks_left_ > 0) called_back_.Wait(mutex_);
  }
  for (const Held& held : held_) CheckHeld(held);
  held_.clear();
}

void Client::Step() {
  world_->schedule().Progress();
  ++world_->tally().operations;
  if (random_.OneIn(8)) SleepFor(std::chrono::microseconds(random_.Below(20000)));
  if (world_->scenario().ttls && random_.OneIn(40)) {
    world_->JumpClock(static_cast<int64_t>(random_.Below(5000)));
  }
  const uint64_t choice = random_.Below(40);
  if (choice < 9) return Put();
  if (choice < 12) return PutFrom();
  if (choice < 14) return PutFromAsync();
  if (choice < 18) return Get();
  if (choice < 20) return Hold();
  if (choice < 22) return GetInto();
  if (choice < 24) return GetIntoAsync();
  if (choice < 26) return GetAsync();
  if (choice < 27) return GetAsyncByCallback();
  if (choice < 29) return Erase();
  if (choice < 31) return Evict();
  if (choice < 32) return Flush();
  if (choice < 35) return CountLeading();
  if (choice < 37) return Prefetch();
  if (choice < 38) return Describe();
  if (choice < 39 && random_.OneIn(4)) return EraseSome();
  Drain(/*all=*/false);
}

int Client::AnyKey() {
  return static_cast<int>(random_.Below(static_cast<uint64_t>(world_->scenario().keys)));
}

absl::Duration Client::AnyTimeout() {
  constexpr int64_t kTimeoutsMs[] = {0, 5, 500, 30000, 30000, 30000};
  return absl::Milliseconds(kTimeoutsMs[random_.Below(6)]);
}

Level Client::AnyLevel() {
  const bool to_l1 = world_->scenario().l1_bytes > 0 && random_.OneIn(2);
  return to_l1 ? Level::kL1Gpu : Level::kL2Pinned;
}

PutOptions Client::AnyPutOptions() {
  PutOptions options;
  options.durability = static_cast<Durability>(random_.Below(4));
  options.retention = random_.OneIn(4) ? Retention::kKeep : Retention::kCache;
  options.if_exists = random_.OneIn(6) ? IfExists::kKeep : IfExists::kReplace;
  if (world_->scenario().ttls && random_.OneIn(3)) {
    options.ttl = absl::Milliseconds(static_cast<int64_t>(1 + random_.Below(3000)));
  }
  options.timeout = AnyTimeout();
  return options;
}

Survives Client::SurvivalOf(Durability durability) const {
  if (durability == Durability::kStoreDefault) {
    durability = world_->scenario().write_policy == WritePolicy::kWriteBack ? Durability::kInMemory
                                                                            : Durability::kOnDevice;
  }
  if (durability == Durability::kInMemory) return Survives::kNothing;
  return durability == Durability::kOnDevice ? Survives::kKill : Survives::kPowerCut;
}

Client::NewTensor Client::Begin(int key, const PutOptions& options) {
  NewTensor tensor = {.key = key};
  const uint64_t bytes_max = world_->scenario().bytes_max;
  tensor.bytes = random_.OneIn(3) ? random_.Between(1, bytes_max / 4096) * 4096
                                  : random_.Between(History::kContentBytesMin, bytes_max);
  tensor.content = world_->history().NewContent(key, tensor.bytes);
  const uint64_t shift = random_.OneIn(4) ? 8 : 0;
  tensor.buffer = std::make_unique<AlignedBuffer>(RoundUp(tensor.bytes) + 4096);
  const absl::Span<std::byte> span = tensor.buffer->span(shift, tensor.bytes);
  History::Fill(tensor.content, span);
  for (uint64_t at = 0; at < tensor.bytes;) {
    const uint64_t bytes = std::min(tensor.bytes - at, random_.Between(1, 60) * 4096);
    tensor.pieces.push_back({span.data() + at, bytes});
    at += bytes;
  }
  KeyWrite write = {.content = tensor.content, .start = world_->step()};
  write.keep = options.retention == Retention::kKeep;
  if (options.ttl != absl::InfiniteDuration()) {
    write.expires_first_unix_ms = world_->NowUnixMs() + absl::ToInt64Milliseconds(options.ttl);
  }
  tensor.write = world_->history().Begin(key, write);
  return tensor;
}

void Client::End(int key, size_t number, const PutOptions& options, const absl::Status& status) {
  if (world_->crashed()) return;
  world_->schedule().Note(static_cast<uint64_t>(status.code()) + 1000);
  KeyWrite& write = world_->history().At(key, number);
  write.end = world_->step();
  if (write.expires_first_unix_ms != 0) {
    write.expires_last_unix_ms = world_->NowUnixMs() + absl::ToInt64Milliseconds(options.ttl);
  }
  const bool may_keep = options.if_exists == IfExists::kKeep;
  if (status.ok()) {
    write.effect = may_keep ? Effect::kMaybe : Effect::kDone;
    write.survives = may_keep ? Survives::kNothing : SurvivalOf(options.durability);
  } else if (absl::IsResourceExhausted(status)) {
    write.effect = Effect::kNone;
  } else if (absl::IsDeadlineExceeded(status)) {
    write.effect = may_keep ? Effect::kMaybe : Effect::kDone;
  } else if (absl::IsUnavailable(status) && world_->scenario().fails()) {
    write.lost = true;
  } else {
    world_->FailKey(key, absl::StrCat("a put ended with ", status.ToString()));
  }
}

// A store that is slow must still answer in time; what the schedule takes from it is little.
void Client::CheckTime(const char* verb, Schedule::Time start, absl::Duration timeout) {
  const auto took = absl::FromChrono(SteadyNow() - start);
  if (world_->crashed() || took <= timeout + absl::Milliseconds(500)) return;
  world_->Fail(absl::StrCat(verb, " took ", absl::FormatDuration(took), " with a timeout of ",
                            absl::FormatDuration(timeout)));
}

void Client::Put() {
  const PutOptions options = AnyPutOptions();
  const NewTensor tensor = Begin(AnyKey(), options);
  const Schedule::Time start = SteadyNow();
  const absl::Status status = world_->store().Put(world_->key(tensor.key),
                                                  {.meta = TensorMeta::Bytes(tensor.bytes),
                                                   .data = tensor.pieces[0].data,
                                                   .size = tensor.bytes},
                                                  options);
  End(tensor.key, tensor.write, options, status);
  // A flush for a tensor that was there has no deadline.
  if (options.if_exists == IfExists::kReplace) CheckTime("Put", start, options.timeout);
}

PutOptions AtLeastOnDevice(PutOptions options) {
  if (options.durability != Durability::kFlushed) options.durability = Durability::kOnDevice;
  return options;
}

void Client::PutFrom() {
  const PutOptions options = AtLeastOnDevice(AnyPutOptions());
  std::vector<NewTensor> tensors;
  std::vector<PutRequest> requests;
  for (uint64_t i = random_.Below(3) + 1; i > 0; --i) tensors.push_back(Begin(AnyKey(), options));
  for (const NewTensor& tensor : tensors) {
    requests.push_back({.key = world_->key(tensor.key),
                        .meta = TensorMeta::Bytes(tensor.bytes),
                        .pieces = tensor.pieces});
  }
  const std::vector<absl::Status> statuses = world_->store().PutFrom(requests, options);
  for (size_t i = 0; i < tensors.size(); ++i) {
    End(tensors[i].key, tensors[i].write, options, statuses[i]);
  }
}

void Client::PutFromAsync() {
  const PutOptions options = AtLeastOnDevice(AnyPutOptions());
  NewTensor tensor = Begin(AnyKey(), options);
  const uint64_t tag = next_tag_++;
  const PutRequest request = {.key = world_->key(tensor.key),
                              .meta = TensorMeta::Bytes(tensor.bytes),
                              .pieces = tensor.pieces,
                              .tag = tag};
  Outstanding one = {.put = true, .write = tensor.write, .options = options};
  one.read.key = tensor.key;
  one.buffer = std::move(tensor.buffer);
  outstanding_.emplace_back(tag, std::move(one));
  const absl::Status status = world_->store().PutFrom({&request, 1}, options, *queue_);
  if (status.ok()) return;
  outstanding_.pop_back();
  End(tensor.key, tensor.write, options, status);
}

void Client::Get() {
  const History::Read read = world_->BeginRead(AnyKey());
  const GetOptions options = AnyGetOptions();
  const Schedule::Time start = SteadyNow();
  const absl::StatusOr<TensorHandle> handle = world_->store().Get(world_->key(read.key), options);
  if (world_->crashed()) return;
  CheckTime("Get", start, options.timeout);
  absl::Span<const std::byte> bytes;
  if (handle.ok()) bytes = {handle->view().data, handle->view().size};
  world_->Judge(read, handle.status(), bytes);
}

void Client::Hold() {
  if (held_.size() >= 2 || (!held_.empty() && random_.OneIn(2))) {
    CheckHeld(held_.front());
    held_.erase(held_.begin());
    return;
  }
  const int key = AnyKey();
  absl::StatusOr<TensorHandle> handle = world_->store().Get(world_->key(key), AnyGetOptions());
  if (!handle.ok()) return;
  std::string why;
  const uint64_t content =
      world_->history().Recognize(key, {handle->view().data, handle->view().size}, &why);
  if (content == 0) return world_->FailKey(key, why);
  held_.push_back({key, content, *std::move(handle)});
}

void Client::CheckHeld(const Held& held) {
  std::string why;
  const TensorView& view = held.handle.view();
  const uint64_t content = world_->history().Recognize(held.key, {view.data, view.size}, &why);
  if (content == held.content) return;
  world_->FailKey(held.key, absl::StrCat("content ", held.content, " changed under its pin to ",
                                         content, " ", why));
}

Client::Outstanding Client::BeginGet(int key) {
  Outstanding one;
  one.read = world_->BeginRead(key);
  const absl::StatusOr<TensorInfo> info = world_->store().Describe(world_->key(key));
  one.bytes = info.ok() ? info->bytes : 4096;
  one.buffer = std::make_unique<AlignedBuffer>(RoundUp(one.bytes) + 4096);
  return one;
}

void Client::GetInto() {
  std::vector<Outstanding> gets;
  std::vector<Piece> pieces;
  std::vector<GetRequest> requests;
  const uint64_t count = random_.Below(3) + 1;
  for (uint64_t i = 0; i < count; ++i) gets.push_back(BeginGet(AnyKey()));
  pieces.reserve(count);
  for (const Outstanding& one : gets) {
    pieces.push_back({one.buffer->data(), one.bytes});
    requests.push_back({.key = world_->key(one.read.key), .pieces = {&pieces.back(), 1}});
  }
  const std::vector<absl::Status> statuses =
      world_->store().GetInto(requests, {.timeout = AnyTimeout()});
  for (size_t i = 0; i < count && !world_->crashed(); ++i) {
    // Another size by now.
    if (absl::IsInvalidArgument(statuses[i])) continue;
    world_->Judge(gets[i].read, statuses[i], gets[i].buffer->span(0, gets[i].bytes));
  }
}

void Client::GetIntoAsync() {
  Outstanding one = BeginGet(AnyKey());
  const Piece piece = {one.buffer->data(), one.bytes};
  const uint64_t tag = next_tag_++;
  const GetRequest request = {.key = world_->key(one.read.key), .pieces = {&piece, 1}, .tag = tag};
  outstanding_.emplace_back(tag, std::move(one));
  const absl::Status status =
      world_->store().GetInto({&request, 1}, {.timeout = AnyTimeout()}, *queue_);
  if (!status.ok()) outstanding_.pop_back();
}

void Client::GetAsync() {
  std::vector<TensorKey> keys;
  const uint64_t first_tag = next_tag_;
  for (uint64_t i = random_.Below(3) + 1; i > 0; --i) {
    Outstanding one = {.read = world_->BeginRead(AnyKey())};
    keys.emplace_back(world_->key(one.read.key));
    outstanding_.emplace_back(next_tag_++, std::move(one));
  }
  const absl::Status status = world_->store().GetAsync(keys, AnyGetOptions(), *queue_, first_tag);
  if (status.ok()) return;
  for (size_t i = 0; i < keys.size(); ++i) outstanding_.pop_back();
}

void Client::GetAsyncByCallback() {
  const History::Read read = world_->BeginRead(AnyKey());
  {
    MutexLock lock(mutex_);
    ++callbacks_left_;
  }
  const auto end = [this] {
    MutexLock lock(mutex_);
    --callbacks_left_;
    called_back_.NotifyAll();
  };
  const absl::Status status =
      world_->store().GetAsync(world_->key(read.key), AnyGetOptions(),
                               [this, read, end](const absl::StatusOr<TensorHandle>& handle) {
                                 absl::Span<const std::byte> bytes;
                                 if (handle.ok())
                                   bytes = {handle->view().data, handle->view().size};
                                 if (!world_->crashed())
                                   world_->Judge(read, handle.status(), bytes);
                                 end();
                               });
  if (!status.ok()) end();
}

void Client::Drain(bool all) {
  while (!outstanding_.empty()) {
    Completion done[4];
    const absl::Duration wait = all ? absl::Minutes(5) : absl::Milliseconds(random_.Below(20));
    const size_t count = queue_->Wait(absl::MakeSpan(done), wait);
    for (size_t i = 0; i < count; ++i) EndOne(done[i]);
    if (!all) return;
    if (count == 0) return world_->Fail("a completion did not come");
  }
}

void Client::EndOne(Completion& completion) {
  const auto found = std::find_if(outstanding_.begin(), outstanding_.end(),
                                  [&](const auto& one) { return one.first == completion.tag; });
  if (found == outstanding_.end()) return world_->Fail("a completion came twice");
  const Outstanding one = std::move(found->second);
  outstanding_.erase(found);
  if (world_->crashed()) return;
  if (one.put) return End(one.read.key, one.write, one.options, completion.status);
  if (absl::IsInvalidArgument(completion.status) && one.buffer != nullptr) return;
  absl::Span<const std::byte> bytes;
  if (completion.handle.valid()) {
    bytes = {completion.handle.view().data, completion.handle.view().size};
  } else if (one.buffer != nullptr) {
    bytes = one.buffer->span(0, one.bytes);
  }
  world_->Judge(one.read, completion.status, bytes);
}

}  // namespace cairn
