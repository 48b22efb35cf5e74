// The module cairn._cairn: names, defaults and documentation of what the other files do.

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "native/errors.h"
#include "native/options.h"
#include "native/store.h"

namespace cairn::python {
namespace {

void BindEnums(nb::module_& module) {
  nb::enum_<Durability>(module, "Durability", "When a put is acknowledged.")
      .value("STORE_DEFAULT", Durability::kStoreDefault, "As the store's write_policy says.")
      .value("IN_MEMORY", Durability::kInMemory, "In L2.")
      .value("ON_DEVICE", Durability::kOnDevice, "On L3 and indexed: survives the process.")
      .value("FLUSHED", Durability::kFlushed, "Flushed: survives the loss of power.");
  nb::enum_<Retention>(module, "Retention", "Whether L3 may drop a tensor to make room.")
      .value("CACHE", Retention::kCache)
      .value("KEEP", Retention::kKeep);
  nb::enum_<IfExists>(module, "IfExists", "What a put of a key that is there does.")
      .value("REPLACE", IfExists::kReplace)
      .value("KEEP", IfExists::kKeep);
  nb::enum_<TensorClass>(module, "TensorClass", "What a tensor is for.")
      .value("GENERAL", TensorClass::kGeneral)
      .value("KV", TensorClass::kKv)
      .value("VISION", TensorClass::kVision)
      .value("TEXT", TensorClass::kText);
  nb::enum_<Level>(module, "Level", "Where a copy of a tensor is.")
      .value("L1_GPU", Level::kL1Gpu)
      .value("L2_PINNED", Level::kL2Pinned)
      .value("L3_NVME", Level::kL3Nvme);
  nb::enum_<OtherFingerprint>(module, "OtherFingerprint",
                              "What opening a directory with tensors of another fingerprint does.")
      .value("REFUSE", OtherFingerprint::kRefuse)
      .value("SHARE", OtherFingerprint::kShare)
      .value("PURGE", OtherFingerprint::kPurge);
  nb::enum_<DeviceKind>(module, "DeviceKind", "What L1 is on, and what pins L2.")
      .value("AUTO", DeviceKind::kAuto, "A GPU where one answers.")
      .value("CUDA", DeviceKind::kCuda, "UnavailableError without a GPU.")
      .value("HOST", DeviceKind::kHost);
  nb::enum_<L1Memory>(module, "L1Memory", "What memory of a GPU L1 is.")
      .value("DEVICE", L1Memory::kDevice, "The GPU's alone.")
      .value("MANAGED", L1Memory::kManaged, "One that the host may touch too.");
  nb::enum_<IoEngineKind>(module, "IoEngineKind", "How files are read and written.")
      .value("AUTO", IoEngineKind::kAuto, "io_uring where the kernel lets us.")
      .value("URING", IoEngineKind::kUring)
      .value("POSIX", IoEngineKind::kPosix);
  nb::enum_<WritePolicy>(module, "WritePolicy", "When a put of STORE_DEFAULT is acknowledged.")
      .value("WRITE_BACK", WritePolicy::kWriteBack)
      .value("WRITE_THROUGH", WritePolicy::kWriteThrough);
  nb::enum_<AllocatorKind>(module, "AllocatorKind", "How L2's memory is divided.")
      .value("HYBRID", AllocatorKind::kHybrid)
      .value("BUDDY", AllocatorKind::kBuddy)
      .value("BEST_FIT", AllocatorKind::kBestFit);
  nb::enum_<EvictionKind>(module, "EvictionKind", "What leaves a tier that is full.")
      .value("TUNED", EvictionKind::kTuned)
      .value("LRU", EvictionKind::kLru)
      .value("CLOCK", EvictionKind::kClock)
      .value("ARC", EvictionKind::kArc)
      .value("S3_FIFO", EvictionKind::kS3Fifo);
}

void BindResults(nb::module_& module) {
  nb::class_<TensorInfo>(module, "TensorInfo", "What the store knows of a tensor.")
      .def_prop_ro(
          "dtype", [](const TensorInfo& info) { return NumpyDtype(info.meta.dtype); },
          nb::sig("def dtype(self) -> numpy.dtype"))
      .def_prop_ro(
          "shape", [](const TensorInfo& info) { return Shape(info.meta); },
          nb::sig("def shape(self) -> tuple[int, ...]"))
      .def_ro("nbytes", &TensorInfo::bytes)
      .def_ro("tensor_class", &TensorInfo::tensor_class)
      .def_ro("retention", &TensorInfo::retention)
      .def_ro("in_l1", &TensorInfo::in_l1)
      .def_ro("gpus", &TensorInfo::gpus)
      .def_ro("in_l2", &TensorInfo::in_l2)
      .def_ro("in_l3", &TensorInfo::in_l3, "Written and indexed.")
      .def_ro("quarantined", &TensorInfo::quarantined,
              "Its copy on L3 failed verification: a get raises DataLossError.")
      .def_prop_ro(
          "expires",
          [](const TensorInfo& info) -> std::optional<double> {
            if (info.expires == absl::InfiniteFuture()) return std::nullopt;
            return absl::ToDoubleSeconds(info.expires - absl::UnixEpoch());
          },
          "Seconds since the epoch; None: never.")
      .def_prop_ro(
          "arrival", [](const TensorInfo& info) { return absl::ToDoubleSeconds(info.arrival); },
          "Seconds until it would be in L2, were it asked for now, by what L3 does at this "
          "moment.\n"
          "0: it is, or in L1; inf: it is quarantined.")
      .def("__repr__", [](const TensorInfo& info) {
        return "<cairn.TensorInfo " + info.meta.ToString() + ">";
      });
  nb::class_<PlacementAdvice>(module, "PlacementAdvice",
                              "Where a tensor would be had from that is put now.")
      .def_prop_ro(
          "level",
          [](const PlacementAdvice& advice) -> nb::object {
            return advice.level.has_value() ? nb::cast(*advice.level) : nb::none();
          },
          nb::sig("def level(self) -> Level | None"),
          "L2 or L3; None: nowhere, it will have to be made again.")
      .def_prop_ro("reason",
                   [](const PlacementAdvice& advice) {
                     return nb::str(advice.reason.data(), advice.reason.size());
                   })
      .def_prop_ro(
          "arrival",
          [](const PlacementAdvice& advice) { return absl::ToDoubleSeconds(advice.arrival); },
          "Seconds, from there; inf: nowhere.");
  nb::class_<LeadingHits>(module, "LeadingHits",
                          "How many of a chain of keys are there, and the lease that keeps them:\n"
                          "until release(), the end of its `with` block, or its duration.")
      .def_ro("count", &LeadingHits::count, "keys[:count] are in the store; keys[count] is not.")
      .def_ro("count_l1", &LeadingHits::count_l1)
      .def_ro("count_l2", &LeadingHits::count_l2, "Not in L1.")
      .def_ro("count_l3", &LeadingHits::count_l3, "Only on L3.")
      .def_ro("nbytes", &LeadingHits::bytes)
      .def_prop_ro(
          "arrival", [](const LeadingHits& hits) { return absl::ToDoubleSeconds(hits.arrival); },
          "Seconds until all of them would be in L1 or L2, were they asked for now.")
      .def("release", [](LeadingHits& hits) { hits.lease.Release(); })
      .def("__enter__", [](nb::object self) { return self; })
      .def("__exit__", [](LeadingHits& hits, nb::args) { hits.lease.Release(); });
}

// The keyword arguments that the verbs share.
PutOptions ToPutOptions(Durability durability, Retention retention, IfExists if_exists,
                        TensorClass tensor_class, bool partial_block,
                        std::optional<double> recompute_cost, std::optional<double> ttl,
                        std::optional<double> timeout) {
  return {.durability = durability,
          .retention = retention,
          .if_exists = if_exists,
          .tensor_class = tensor_class,
          .partial_block = partial_block,
          .recompute_cost = recompute_cost.has_value() ? Seconds("recompute_cost", recompute_cost)
                                                       : absl::ZeroDuration(),
          .ttl = Seconds("ttl", ttl),
          .timeout = Seconds("timeout", timeout)};
}

#define CAIRN_PUT_PARAMETERS                                                                \
  Durability durability, Retention retention, IfExists if_exists, TensorClass tensor_class, \
      bool partial_block, std::optional<double> recompute_cost, std::optional<double> ttl,  \
      std::optional<double> timeout
#define CAIRN_PUT_OPTIONS                                                                          \
  ToPutOptions(durability, retention, if_exists, tensor_class, partial_block, recompute_cost, ttl, \
               timeout)
#define CAIRN_PUT_ARGUMENTS                                                                        \
  nb::kw_only(),                                                                                   \
      nb::arg("durability") = Durability::kStoreDefault, nb::arg("retention") = Retention::kCache, \
      nb::arg("if_exists") = IfExists::kReplace, nb::arg("tensor_class") = TensorClass::kGeneral,  \
      nb::arg("partial_block") = false, nb::arg("recompute_cost") = nb::none(),                    \
      nb::arg("ttl") = nb::none(), nb::arg("timeout") = 30.0

// As the stub says it: of keys and tensors a C++ signature says only that they are objects.
#define CAIRN_KEYS "str | bytes | Sequence[str | bytes]"
#define CAIRN_PUT_SIGNATURE                                                                       \
  "*, durability: Durability = ..., retention: Retention = ..., if_exists: IfExists = ..., "      \
  "tensor_class: TensorClass = ..., partial_block: bool = False, recompute_cost: float | None = " \
  "None, "                                                                                        \
  "ttl: float | None = None, timeout: float | None = 30.0) -> None"

using StoreClass = nb::class_<PyStore>;

void Construct(PyStore* self, const std::string& path, const nb::kwargs& fields) {
  new (self) PyStore(ToStoreOptions(path, fields));
}

using KvThree = std::tuple<uint64_t, uint64_t, uint64_t>;
using KvTwo = std::pair<uint64_t, uint64_t>;

// Its text is the stub's (_cairn.pyi), which says the defaults.
void BindConstructor(StoreClass& store) {
  store.def("__init__", &Construct, nb::arg("path"), nb::arg("options"),
            "Creates or opens the store at `path`, and finds what an earlier process left there.\n"
            "The keyword arguments are the fields of StoreOptions (include/cairn/options.h) but\n"
            "log; l3_write_bytes_per_day=None: no budget; seconds where that has a Duration.");
}

void BindTensorVerbs(StoreClass& store) {
  store
      .def(
          "put",
          [](PyStore& self, nb::handle key, nb::handle tensor, CAIRN_PUT_PARAMETERS) {
            self.Put(key, tensor, CAIRN_PUT_OPTIONS);
          },
          nb::arg("key").none(), nb::arg("tensor").none(), CAIRN_PUT_ARGUMENTS,
          nb::sig("def put(self, key: str | bytes, tensor: object, " CAIRN_PUT_SIGNATURE),
          "Stores a copy of a contiguous tensor (numpy, DLPack, or a buffer). Returns when it is\n"
          "acknowledged as `durability` asks. ResourceExhaustedError: nothing has changed.")
      .def(
          "get",
          [](PyStore& self, nb::handle key, std::optional<double> timeout, Level want,
             std::optional<int> gpu) {
            return self.Get(key,
                            {.want = want, .gpu = gpu, .timeout = Seconds("timeout", timeout)});
          },
          nb::arg("key").none(), nb::kw_only(), nb::arg("timeout") = 30.0,
          nb::arg("want") = Level::kL2Pinned, nb::arg("gpu").none() = nb::none(),
          nb::sig("def get(self, key: str | bytes, *, timeout: float | None = 30.0, "
                  "want: Level = ..., gpu: int | None = None) -> TensorHandle"),
          "Pins the tensor, loading and verifying it where it is only on L3. `gpu`: of "
          "want=L1_GPU,\n"
          "on which (None: the first of the store's).\n"
          "NotFoundError and DataLossError: recompute it.")
      .def(
          "put_from",
          [](PyStore& self, nb::handle keys, nb::handle tensors, CAIRN_PUT_PARAMETERS) {
            self.PutFrom(keys, tensors, CAIRN_PUT_OPTIONS);
          },
          nb::arg("keys").none(), nb::arg("tensors").none(), CAIRN_PUT_ARGUMENTS,
          nb::sig("def put_from(self, keys: " CAIRN_KEYS ", tensors: object, " CAIRN_PUT_SIGNATURE),
          "Stores tensors straight from their memory, without a copy where address and size are\n"
          "multiples of 4096. Lists of keys and tensors, or one of each; a tensor may be a list\n"
          "of pieces, stored as flat bytes. Of a list: BatchError says which failed.")
      .def(
          "get_into",
          [](PyStore& self, nb::handle keys, nb::handle tensors, std::optional<double> timeout) {
            self.GetInto(keys, tensors, {.timeout = Seconds("timeout", timeout)});
          },
          nb::arg("keys").none(), nb::arg("tensors").none(), nb::kw_only(),
          nb::arg("timeout") = 30.0,
          nb::sig("def get_into(self, keys: " CAIRN_KEYS
                  ", tensors: object, *, timeout: float | None = 30.0) -> None"),
          "Reads tensors into contiguous memory of the caller, of the same dtype or uint8; as\n"
          "put_from for lists and pieces. Where it raises, the memory holds garbage: BatchError's\n"
          "errors[i] is None for those that are right.")
      .def(
          "submit_get",
          [](PyStore& self, nb::object queue, nb::handle keys, uint64_t first_tag,
             std::optional<double> timeout, Level want, std::optional<int> gpu) {
            self.SubmitGet(queue, keys,
                           {.want = want, .gpu = gpu, .timeout = Seconds("timeout", timeout)},
                           first_tag);
          },
          nb::arg("queue"), nb::arg("keys").none(), nb::kw_only(), nb::arg("first_tag") = 0,
          nb::arg("timeout") = 30.0, nb::arg("want") = Level::kL2Pinned,
          nb::arg("gpu").none() = nb::none(),
          nb::sig("def submit_get(self, queue: CompletionQueue, keys: Sequence[str | bytes], *, "
                  "first_tag: int = 0, timeout: float | None = 30.0, want: Level = ..., "
                  "gpu: int | None = None) -> None"),
          "Like get for each key, ending in the queue. Raises only where nothing was started.")
      .def(
          "submit_put_from",
          [](PyStore& self, nb::object queue, nb::handle keys, nb::handle tensors,
             uint64_t first_tag, CAIRN_PUT_PARAMETERS) {
            self.SubmitPutFrom(queue, keys, tensors, CAIRN_PUT_OPTIONS, first_tag);
          },
          nb::arg("queue"), nb::arg("keys").none(), nb::arg("tensors").none(),
          nb::arg("first_tag") = 0, CAIRN_PUT_ARGUMENTS,
          nb::sig("def submit_put_from(self, queue: CompletionQueue, keys: " CAIRN_KEYS
                  ", tensors: object, "
                  "first_tag: int = 0, " CAIRN_PUT_SIGNATURE),
          "Like put_from, ending in the queue.")
      .def(
          "submit_get_into",
          [](PyStore& self, nb::object queue, nb::handle keys, nb::handle tensors,
             uint64_t first_tag, std::optional<double> timeout) {
            self.SubmitGetInto(queue, keys, tensors, {.timeout = Seconds("timeout", timeout)},
                               first_tag);
          },
          nb::arg("queue"), nb::arg("keys").none(), nb::arg("tensors").none(),
          nb::arg("first_tag") = 0, nb::kw_only(), nb::arg("timeout") = 30.0,
          nb::sig("def submit_get_into(self, queue: CompletionQueue, keys: " CAIRN_KEYS
                  ", tensors: object, "
                  "first_tag: int = 0, *, timeout: float | None = 30.0) -> None"),
          "Like get_into, ending in the queue.");
}

void BindOtherVerbs(StoreClass& store) {
  store
      .def("count_leading", &PyStore::CountLeading, nb::arg("keys").none(), nb::kw_only(),
           nb::arg("duration") = 10.0,
           nb::sig("def count_leading(self, keys: Sequence[str | bytes], *, duration: float | None "
                   "= 10.0) "
                   "-> LeadingHits"),
           "How many of the keys, from the first on, are there without a gap. They are leased for\n"
           "`duration` seconds: readable, whatever else is put.")
      .def("prefetch", &PyStore::Prefetch, nb::arg("keys").none(), nb::kw_only(),
           nb::arg("to") = Level::kL2Pinned, nb::arg("gpu").none() = nb::none(),
           nb::sig("def prefetch(self, keys: Sequence[str | bytes], *, to: Level = ..., "
                   "gpu: int | None = None) -> int"),
           "Starts loading what is only below `to`; returns how many loads were started or queued.")
      .def("will_need", &PyStore::WillNeed, nb::arg("keys").none(), nb::kw_only(),
           nb::arg("to") = Level::kL2Pinned, nb::arg("due").none() = 0.0, nb::arg("priority") = 0,
           nb::arg("gpu").none() = nb::none(),
           nb::sig("def will_need(self, keys: Sequence[str | bytes], *, to: Level = ..., "
                   "due: float | None = 0.0, priority: int = 0, gpu: int | None = None) -> int"),
           "Says that the keys will be asked for, in this order, `due` seconds from now (None: no\n"
           "time known); of what is due at the same moment the highest priority is loaded first.\n"
           "Loads them behind what is due earlier, as far ahead as prefetch_ahead_bytes_max lets.\n"
           "Returns a token for cancel(). ResourceExhaustedError: too many wait; none was taken.")
      .def("cancel", &PyStore::Cancel, nb::arg("token"),
           nb::sig("def cancel(self, token: int) -> int"),
           "Takes back what of a will_need has not begun, and says how many keys.")
      .def("evict", &PyStore::Evict, nb::arg("key").none(), nb::arg("keep"),
           nb::sig("def evict(self, key: str | bytes, keep: Level) -> None"),
           "Drops the copies above level `keep`.")
      .def("erase", &PyStore::Erase, nb::arg("key").none(),
           nb::sig("def erase(self, key: str | bytes) -> None"),
           "Not an error when it was not there.")
      .def("erase_prefix", &PyStore::ErasePrefix, nb::arg("key_prefix").none(),
           nb::sig("def erase_prefix(self, key_prefix: str | bytes) -> int"),
           "Erases all whose keys begin so, and says how many.")
      .def("purge_fingerprint", &PyStore::PurgeFingerprint, nb::arg("fingerprint"),
           "Erases all of a fingerprint, and says how many.")
      .def("flush", &PyStore::Flush, "Returns when everything put before is on L3 and flushed.")
      .def("describe", &PyStore::Describe, nb::arg("key").none(),
           nb::sig("def describe(self, key: str | bytes) -> TensorInfo"),
           "What the store knows of a tensor.")
      .def("explain", &PyStore::Explain, nb::arg("key").none(),
           nb::sig("def explain(self, key: str | bytes) -> list[dict[str, Any]]"),
           "What was decided for a tensor and why, oldest first, as far back as the journal goes:\n"
           "dicts of `time` (seconds since the epoch), `decision`, `text` and `nbytes`.")
      .def("advise", &PyStore::Advise, nb::arg("nbytes"),
           nb::arg("tensor_class") = TensorClass::kGeneral,
           nb::sig(
               "def advise(self, nbytes: int, tensor_class: TensorClass = ...) -> PlacementAdvice"),
           "Where a tensor of this size and class would be a while from now, were it put now for\n"
           "the first time, and why.")
      .def("_scan_page", &PyStore::ScanPage, nb::arg("key_prefix").none(), nb::arg("after"),
           nb::arg("limit"))
      .def("stats", &PyStore::Stats, nb::sig("def stats(self) -> dict"),
           "The figures of StatsSnapshot (include/cairn/stats.h), by name.")
      .def("forget_stream", &PyStore::ForgetStream, nb::arg("stream"), nb::arg("gpu") = 0,
           "Before a stream that a release_after was given is destroyed: the store touches it no\n"
           "more. Waits for nothing.")
      .def(
          "copy_kv_blocks",
          [](PyStore& self, nb::handle target, nb::handle source, const KvThree& shape,
             const KvTwo& target_pitch, const KvTwo& source_pitch, uint64_t stream, int gpu) {
            const auto [blocks, layers, piece_bytes] = shape;
            self.CopyKvBlocks(target, source, {blocks, layers, piece_bytes},
                              {target_pitch.first, target_pitch.second},
                              {source_pitch.first, source_pitch.second}, Stream(stream, gpu));
          },
          nb::arg("target").none(), nb::arg("source").none(), nb::kw_only(), nb::arg("shape"),
          nb::arg("target_pitch"), nb::arg("source_pitch"), nb::arg("stream") = 0,
          nb::arg("gpu") = 0,
          nb::sig("def copy_kv_blocks(self, target: object, source: object, *, "
                  "shape: tuple[int, int, int], target_pitch: tuple[int, int], "
                  "source_pitch: tuple[int, int], stream: int = 0, gpu: int = 0) -> None"),
          "Turns KV blocks from one order to another (include/cairn/kv_layout.h), between\n"
          "contiguous tensors. `shape`: blocks, layers, bytes of a piece; a pitch: bytes from a\n"
          "block's piece to the next block's, and from a layer's to the next layer's. Where one\n"
          "end is on a GPU: in copies on that stream of it, which have been done when the stream\n"
          "has; until then both tensors must stay. Else by this thread, with no stream.")
      .def(
          "register_memory", &PyStore::RegisterMemory, nb::arg("tensor").none(),
          "Makes the tensor's memory a registered end of transfers, which saves CPU time. Address\n"
          "and size are multiples of 4096. Keep the tensor, and unregister it first.")
      .def("unregister_memory", &PyStore::UnregisterMemory, nb::arg("tensor").none())
      .def("close", &PyStore::Close,
           "Finishes what is in flight, writes what is dirty, closes the files. Calls after it\n"
           "raise FailedPreconditionError; handles stay readable. Does nothing in a forked child.")
      .def_prop_ro("is_open", &PyStore::IsOpen, "Not closed, and opened by this process.");
}

}  // namespace

void BindStore(nb::module_& module) {
  StoreClass store(module, "Store", nb::is_weak_referenceable());
  BindConstructor(store);
  BindTensorVerbs(store);
  BindOtherVerbs(store);
}

}  // namespace cairn::python

NB_MODULE(_cairn, module) {
  cairn::python::WatchForks();
  cairn::python::BindEnums(module);
  cairn::python::BindResults(module);
  cairn::python::BindTensorHandle(module);
  cairn::python::BindCompletionQueue(module);
  cairn::python::BindStore(module);
}
