#include "native/store.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"
#include "cairn/kv_layout.h"
#include "native/errors.h"

namespace cairn::python {
namespace {

// Calls without the GIL; what it returns comes back with it.
template <typename Call>
auto Released(Call call) {
  const nb::gil_scoped_release released;
  return call();
}

bool IsKey(nb::handle keys) {
  return nb::isinstance<nb::str>(keys) || nb::isinstance<nb::bytes>(keys);
}

std::vector<TensorKey> KeyList(nb::handle keys) {
  if (IsKey(keys)) RaiseTypeError("keys is one key: give a list of them");
  std::vector<TensorKey> list;
  list.reserve(nb::len_hint(keys));
  for (const nb::handle key : nb::borrow<nb::iterable>(keys)) list.emplace_back(KeyBytes(key));
  return list;
}

// Keys and tensors in pairs: lists as long as each other, or one key and its tensor.
template <typename Each>
void ForEachPair(nb::handle keys, nb::handle tensors, Each each) {
  if (IsKey(keys)) return each(keys, tensors);
  const nb::list key_list(nb::borrow(keys));
  const nb::list tensor_list(nb::borrow(tensors));
  if (key_list.size() != tensor_list.size()) {
    RaiseInvalidArgument(absl::StrCat(key_list.size(), " keys and ", tensor_list.size(),
                                      " tensors: give one for each"));
  }
  for (size_t i = 0; i < key_list.size(); ++i) each(key_list[i], tensor_list[i]);
}

// Of one key: its own error. Of a batch: one that lists them all.
void RaiseIfAny(const std::vector<absl::Status>& statuses, bool is_batch) {
  const auto failed = [](const absl::Status& status) { return !status.ok(); };
  if (std::none_of(statuses.begin(), statuses.end(), failed)) return;
  if (!is_batch) RaiseIfError(statuses.front());
  nb::list errors;
  for (const absl::Status& status : statuses) errors.append(ToException(status));
  const nb::object error = nb::module_::import_("cairn.errors").attr("BatchError")(errors);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  nb::detail::raise_python_error();
}

// Whether the last byte of the last piece lies in a tensor of so many bytes. An empty shape is the
// copy's to refuse.
void CheckHolds(const char* name, uint64_t bytes, const KvShape& shape, const KvPitch& pitch) {
  if (shape.blocks == 0 || shape.layers == 0) return;
  const absl::uint128 needed = absl::uint128(shape.blocks - 1) * pitch.block_bytes +
                               absl::uint128(shape.layers - 1) * pitch.layer_bytes +
                               shape.piece_bytes;
  if (needed <= bytes) return;
  RaiseInvalidArgument(
      absl::StrCat("the ", name, " has ", bytes, " bytes, fewer than shape and pitch reach to"));
}

}  // namespace

PyStore::PyStore(const StoreOptions& options) : fork_generation_(EnterProcess()) {
  absl::StatusOr<std::unique_ptr<Store>> store = Released([&] { return Store::Open(options); });
  RaiseIfError(store.status());
  store_ = *std::move(store);
  gpu_there_ = store_->Stats().device != "host";
}

PyStore::~PyStore() {
  if (fork_generation_ != ForkGeneration()) {
    store_.release();  // The parent's: its threads are not here to be waited for.
    return;
  }
  const nb::gil_scoped_release released;
  store_.reset();
}

bool PyStore::IsOpen() const { return !closed_.load() && fork_generation_ == ForkGeneration(); }

void PyStore::Close() {
  if (fork_generation_ != ForkGeneration()) return;  // The parent's.
  closed_.store(true);
  RaiseIfError(Released([this] { return store_->Close(); }));
  queues_.clear();
}

Store& PyStore::open() {
  RaiseIfForked(fork_generation_);
  if (closed_.load()) {
    RaiseIfError(absl::FailedPreconditionError("the store is closed: open it again"));
  }
  return *store_;
}

PyCompletionQueue& PyStore::Attach(const nb::object& queue) {
  auto& attached = nb::cast<PyCompletionQueue&>(queue);
  const auto is_done = [&queue](const nb::object& other) {
    if (other.is(queue)) return false;
    auto& ended = nb::cast<PyCompletionQueue&>(other);
    // Of an event loop that is gone: nobody else is left to drain it.
    if (Py_REFCNT(other.ptr()) == 1) ended.Drain(std::numeric_limits<size_t>::max());
    return ended.outstanding() == 0;
  };
  queues_.erase(std::remove_if(queues_.begin(), queues_.end(), is_done), queues_.end());
  const auto is_it = [&queue](const nb::object& other) { return other.is(queue); };
  if (std::none_of(queues_.begin(), queues_.end(), is_it)) queues_.push_back(queue);
  return attached;
}

void PyStore::Put(nb::handle key, nb::handle tensor, const PutOptions& options) {
  Store& store = open();
  const std::string_view name = KeyBytes(key);
  const BorrowedTensor borrowed = Borrow(tensor, /*writable=*/false, gpu_there_);
  const TensorView view{borrowed.meta, borrowed.data, borrowed.size, borrowed.kind,
                        borrowed.device};
  RaiseIfError(Released([&] { return store.Put(name, view, options); }));
}

nb::object PyStore::Get(nb::handle key, const GetOptions& options) {
  Store& store = open();
  const std::string_view name = KeyBytes(key);
  absl::StatusOr<TensorHandle> handle = Released([&] { return store.Get(name, options); });
  RaiseIfError(handle.status());
  return NewTensorHandle(*std::move(handle));
}

PyStore::Batch<PutRequest> PyStore::PutBatch(nb::handle keys, nb::handle tensors) {
  Batch<PutRequest> batch;
  ForEachPair(keys, tensors, [&](nb::handle key, nb::handle tensor) {
    BorrowedPieces borrowed = BorrowPieces(tensor, /*writable=*/false, gpu_there_);
    std::vector<ConstPiece>& pieces = batch.const_pieces.emplace_back();
    for (const Piece& piece : borrowed.pieces) pieces.push_back({piece.data, piece.size});
    batch.requests.push_back(
        {KeyBytes(key), borrowed.meta, pieces, 0, borrowed.kind, borrowed.device});
    batch.owners.push_back(std::move(borrowed.owners));
  });
  return batch;
}

// Bytes may be read into any memory that was asked for as bytes; into a typed one only what was put
// as that.
void PyStore::CheckDType(std::string_view key, DType dtype) {
  if (dtype == DType::kUint8) return;
  const absl::StatusOr<TensorInfo> info = store_->Describe(key);
  if (!info.ok() || info->meta.dtype == dtype) return;  // The verb itself says what is wrong.
  RaiseInvalidArgument(absl::StrCat("the tensor in the store is ", info->meta.ToString(),
                                    " and the one to read into is ", DTypeName(dtype),
                                    ": pass one of that dtype, or its bytes as x.view(uint8)"));
}

PyStore::Batch<GetRequest> PyStore::GetBatch(nb::handle keys, nb::handle tensors) {
  Batch<GetRequest> batch;
  ForEachPair(keys, tensors, [&](nb::handle key, nb::handle tensor) {
    BorrowedPieces borrowed = BorrowPieces(tensor, /*writable=*/true, gpu_there_);
    const std::string_view name = KeyBytes(key);
    if (!name.empty()) CheckDType(name, borrowed.meta.dtype);
    const std::vector<Piece>& pieces = batch.pieces.emplace_back(std::move(borrowed.pieces));
    batch.requests.push_back({name, pieces, 0, borrowed.kind, borrowed.device});
    batch.owners.push_back(std::move(borrowed.owners));
  });
  return batch;
}

void PyStore::PutFrom(nb::handle keys, nb::handle tensors, const PutOptions& options) {
  Store& store = open();
  const Batch<PutRequest> batch = PutBatch(keys, tensors);
  RaiseIfAny(Released([&] { return store.PutFrom(batch.requests, options); }), !IsKey(keys));
}

void PyStore::GetInto(nb::handle keys, nb::handle tensors, const GetOptions& options) {
  Store& store = open();
  const Batch<GetRequest> batch = GetBatch(keys, tensors);
  RaiseIfAny(Released([&] { return store.GetInto(batch.requests, options); }), !IsKey(keys));
}

void PyStore::SubmitGet(nb::object queue, nb::handle keys, const GetOptions& options,
                        uint64_t first_tag) {
  Store& store = open();
  const std::vector<TensorKey> list = KeyList(keys);
  PyCompletionQueue& end = Attach(queue);
  CompletionQueue& native = end.queue();
  const uint64_t id = end.Remember(std::vector<std::vector<Borrowed>>(list.size()), first_tag);
  const absl::Status status = Released([&] { return store.GetAsync(list, options, native, id); });
  if (!status.ok()) end.Forget(id, list.size());
  RaiseIfError(status);
}

void PyStore::SubmitPutFrom(nb::object queue, nb::handle keys, nb::handle tensors,
                            const PutOptions& options, uint64_t first_tag) {
  Store& store = open();
  Batch<PutRequest> batch = PutBatch(keys, tensors);
  PyCompletionQueue& end = Attach(queue);
  CompletionQueue& native = end.queue();
  const uint64_t id = end.Remember(std::move(batch.owners), first_tag);
  for (size_t i = 0; i < batch.requests.size(); ++i) batch.requests[i].tag = id + i;
  const absl::Status status =
      Released([&] { return store.PutFrom(batch.requests, options, native); });
  if (!status.ok()) end.Forget(id, batch.requests.size());
  RaiseIfError(status);
}

void PyStore::SubmitGetInto(nb::object queue, nb::handle keys, nb::handle tensors,
                            const GetOptions& options, uint64_t first_tag) {
  Store& store = open();
  Batch<GetRequest> batch = GetBatch(keys, tensors);
  PyCompletionQueue& end = Attach(queue);
  CompletionQueue& native = end.queue();
  const uint64_t id = end.Remember(std::move(batch.owners), first_tag);
  for (size_t i = 0; i < batch.requests.size(); ++i) batch.requests[i].tag = id + i;
  const absl::Status status =
      Released([&] { return store.GetInto(batch.requests, options, native); });
  if (!status.ok()) end.Forget(id, batch.requests.size());
  RaiseIfError(status);
}

LeadingHits PyStore::CountLeading(nb::handle keys, std::optional<double> duration) {
  Store& store = open();
  const std::vector<TensorKey> list = KeyList(keys);
  const LeaseOptions options{.duration = Seconds("duration", duration)};
  absl::StatusOr<LeadingHits> hits = Released([&] { return store.CountLeading(list, options); });
  RaiseIfError(hits.status());
  return *std::move(hits);
}

size_t PyStore::Prefetch(nb::handle keys, Level to, std::optional<int> gpu) {
  Store& store = open();
  const std::vector<TensorKey> list = KeyList(keys);
  return Released([&] { return store.Prefetch(list, {.to = to, .gpu = gpu}); });
}

PrefetchToken PyStore::WillNeed(nb::handle keys, Level to, std::optional<double> due,
                                int32_t priority, std::optional<int> gpu) {
  Store& store = open();
  const std::vector<TensorKey> list = KeyList(keys);
  const WillNeedOptions options{
      .to = to, .gpu = gpu, .due = Seconds("due", due), .priority = priority};
  const absl::StatusOr<PrefetchToken> token =
      Released([&] { return store.WillNeed(list, options); });
  RaiseIfError(token.status());
  return *token;
}

size_t PyStore::Cancel(PrefetchToken token) {
  Store& store = open();
  return Released([&] { return store.Cancel(token); });
}

void PyStore::Evict(nb::handle key, Level keep) {
  Store& store = open();
  const std::string_view name = KeyBytes(key);
  RaiseIfError(Released([&] { return store.Evict(name, keep); }));
}

void PyStore::Erase(nb::handle key) {
  Store& store = open();
  const std::string_view name = KeyBytes(key);
  RaiseIfError(Released([&] { return store.Erase(name); }));
}

uint64_t PyStore::ErasePrefix(nb::handle key_prefix) {
  Store& store = open();
  const std::string_view prefix = KeyBytes(key_prefix);
  const absl::StatusOr<uint64_t> erased = Released([&] { return store.ErasePrefix(prefix); });
  RaiseIfError(erased.status());
  return *erased;
}

uint64_t PyStore::PurgeFingerprint(std::string_view fingerprint) {
  Store& store = open();
  const absl::StatusOr<uint64_t> erased =
      Released([&] { return store.PurgeFingerprint(fingerprint); });
  RaiseIfError(erased.status());
  return *erased;
}

void PyStore::Flush() {
  Store& store = open();
  RaiseIfError(Released([&] { return store.Flush(); }));
}

TensorInfo PyStore::Describe(nb::handle key) {
  Store& store = open();
  const std::string_view name = KeyBytes(key);
  absl::StatusOr<TensorInfo> info = Released([&] { return store.Describe(name); });
  RaiseIfError(info.status());
  return *std::move(info);
}

nb::list PyStore::Explain(nb::handle key) {
  Store& store = open();
  const std::string_view name = KeyBytes(key);
  const absl::StatusOr<std::vector<JournalEntry>> entries =
      Released([&] { return store.Explain(name); });
  RaiseIfError(entries.status());
  nb::list list;
  for (const JournalEntry& entry : *entries) {
    nb::dict fields;
    fields["time"] = absl::ToDoubleSeconds(entry.time - absl::UnixEpoch());
    fields["decision"] = DecisionName(entry.decision);
    fields["text"] = DecisionText(entry.decision);
    fields["nbytes"] = entry.bytes;
    list.append(fields);
  }
  return list;
}

PlacementAdvice PyStore::Advise(uint64_t nbytes, TensorClass tensor_class) {
  Store& store = open();
  absl::StatusOr<PlacementAdvice> advice =
      Released([&] { return store.Advise(nbytes, tensor_class); });
  RaiseIfError(advice.status());
  return *std::move(advice);
}

nb::tuple PyStore::ScanPage(nb::handle key_prefix, nb::handle after, size_t limit) {
  Store& store = open();
  const std::string_view prefix = KeyBytes(key_prefix);
  const std::string_view from = KeyBytes(after);
  const absl::StatusOr<cairn::ScanPage> page =
      Released([&] { return store.Scan(prefix, from, limit); });
  RaiseIfError(page.status());
  nb::list entries;
  for (const ScanEntry& entry : page->entries) {
    entries.append(nb::make_tuple(nb::bytes(entry.key.data(), entry.key.size()), entry.info));
  }
  return nb::make_tuple(entries, page->more);
}

nb::object PyStore::Stats() {
  Store& store = open();
  const std::string json = Released([&] { return store.Stats().ToJson(); });
  return nb::module_::import_("json").attr("loads")(nb::str(json.data(), json.size()));
}

void PyStore::ForgetStream(uint64_t stream, int gpu) {
  Store& store = open();
  RaiseIfError(Released([&] { return store.ForgetStream(Stream(stream, gpu)); }));
}

void PyStore::CopyKvBlocks(nb::handle target, nb::handle source, const KvShape& shape,
                           const KvPitch& target_pitch, const KvPitch& source_pitch,
                           StreamRef stream) {
  Store& store = open();
  const BorrowedTensor to = Borrow(target, /*writable=*/true, gpu_there_);
  const BorrowedTensor from = Borrow(source, /*writable=*/false, gpu_there_);
  CheckHolds("target", to.size, shape, target_pitch);
  CheckHolds("source", from.size, shape, source_pitch);
  const bool on_host = to.kind != MemoryKind::kGpu && from.kind != MemoryKind::kGpu;
  RaiseIfError(Released([&] {
    if (on_host) return cairn::CopyKvBlocks(shape, to.data, target_pitch, from.data, source_pitch);
    return store.CopyKvBlocks(stream, shape, {to.data, target_pitch, to.kind},
                              {from.data, source_pitch, from.kind});
  }));
}

void PyStore::RegisterMemory(nb::handle tensor) {
  Store& store = open();
  const BorrowedTensor memory = Borrow(tensor, /*writable=*/true, /*gpu_there=*/false);
  RaiseIfError(Released([&] { return store.RegisterMemory({memory.data, memory.size}); }));
}

void PyStore::UnregisterMemory(nb::handle tensor) {
  Store& store = open();
  const BorrowedTensor memory = Borrow(tensor, /*writable=*/true, /*gpu_there=*/false);
  RaiseIfError(Released([&] { return store.UnregisterMemory({memory.data, memory.size}); }));
}

}  // namespace cairn::python
