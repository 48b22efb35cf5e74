#include "native/tensors.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "native/errors.h"

namespace cairn::python {
namespace {

using Code = nb::dlpack::dtype_code;

// 0: none of Cairn's.
DType ToDType(nb::dlpack::dtype dtype) {
  constexpr DType kNone = static_cast<DType>(0);
  if (dtype.lanes != 1) return kNone;
  const auto code = static_cast<Code>(dtype.code);
  switch (dtype.bits) {
    case 8:
      if (code == Code::UInt) return DType::kUint8;
      if (code == Code::Int) return DType::kInt8;
      if (code == Code::Bool) return DType::kBool;
      if (code == Code::Float8_E4M3FN) return DType::kFp8E4m3;
      if (code == Code::Float8_E5M2) return DType::kFp8E5m2;
      return kNone;
    case 16:
      if (code == Code::Float) return DType::kFp16;
      return code == Code::Bfloat ? DType::kBf16 : kNone;
    case 32:
      if (code == Code::Float) return DType::kFp32;
      return code == Code::Int ? DType::kInt32 : kNone;
    case 64:
      return code == Code::Int ? DType::kInt64 : kNone;
    default:
      return kNone;
  }
}

nb::dlpack::dtype ToDlpack(DType dtype) {
  const auto of = [](Code code, uint8_t bits) {
    return nb::dlpack::dtype{static_cast<uint8_t>(code), bits, 1};
  };
  switch (dtype) {
    case DType::kInt8:
      return of(Code::Int, 8);
    case DType::kBool:
      return of(Code::Bool, 8);
    case DType::kInt32:
      return of(Code::Int, 32);
    case DType::kInt64:
      return of(Code::Int, 64);
    case DType::kFp16:
      return of(Code::Float, 16);
    case DType::kBf16:
      return of(Code::Bfloat, 16);
    case DType::kFp32:
      return of(Code::Float, 32);
    case DType::kFp8E4m3:
      return of(Code::Float8_E4M3FN, 8);
    case DType::kFp8E5m2:
      return of(Code::Float8_E5M2, 8);
    default:
      return of(Code::UInt, 8);  // kInt4 by its packed bytes.
  }
}

bool IsContiguous(const Borrowed& array) {
  int64_t expected = 1;
  for (size_t i = array.ndim(); i-- > 0;) {
    if (array.shape(i) > 1 && array.stride(i) != expected) return false;
    expected *= static_cast<int64_t>(array.shape(i));
  }
  return true;
}

TensorMeta MetaOf(const Borrowed& array, DType dtype) {
  if (array.ndim() > TensorMeta::kRankMax) {
    RaiseInvalidArgument(absl::StrCat("the tensor has ", array.ndim(), " dimensions, at most ",
                                      TensorMeta::kRankMax, " can be stored: reshape it"));
  }
  TensorMeta meta;
  meta.dtype = dtype;
  meta.rank = static_cast<uint8_t>(array.ndim());
  for (size_t i = 0; i < array.ndim(); ++i) meta.dims[i] = static_cast<int64_t>(array.shape(i));
  return meta;
}

// Where the caller's bytes are, and whether this store can reach them.
void SetDevice(const Borrowed& array, bool gpu_there, BorrowedTensor* tensor) {
  switch (array.device_type()) {
    case nb::device::cpu::value:
      tensor->kind = MemoryKind::kHost;
      return;
    case nb::device::cuda_host::value:
      tensor->kind = MemoryKind::kHostPinned;
      return;
    case nb::device::cuda::value:
      tensor->kind = MemoryKind::kGpu;
      break;
    case nb::device::cuda_managed::value:
      tensor->kind = MemoryKind::kManaged;
      break;
    default:
      gpu_there = false;
  }
  tensor->device = array.device_id();
  if (!gpu_there) {
    RaiseInvalidArgument(absl::StrCat("the tensor is on a device (DLPack type ",
                                      array.device_type(), ", number ", array.device_id(),
                                      ") that this store has not: copy it to the CPU first"));
  }
}

// Of torch's tensors, what not every way of DLPack refuses: autograd would not see what is read
// into one that requires grad, and a negative view's memory has the numbers with the other sign.
void RefuseLazyTensors(nb::handle tensor) {
  const nb::object requires_grad = nb::getattr(tensor, "requires_grad", nb::none());
  if (requires_grad.is_none()) return;  // Not torch's.
  if (requires_grad.is(nb::bool_(true))) {
    RaiseInvalidArgument("the tensor requires grad: pass x.detach()");
  }
  const nb::object is_neg = nb::getattr(tensor, "is_neg", nb::none());
  if (!is_neg.is_none() && is_neg().is(nb::bool_(true))) {
    RaiseInvalidArgument("the tensor is a negative view: pass x.resolve_neg()");
  }
}

// jax promises that an array never changes, shares memory on that promise, and its DLPack does not
// say so.
void RefuseToWriteJax(nb::handle tensor) {
  const nb::object module = nb::getattr(tensor.type(), "__module__", nb::none());
  if (!nb::isinstance<nb::str>(module)) return;
  if (std::string_view(nb::cast<const char*>(module)).starts_with("jax")) {
    RaiseInvalidArgument(
        "an array of jax cannot be read into: pass a numpy array and make jax's from that");
  }
}

}  // namespace

BorrowedTensor Borrow(nb::handle tensor, bool writable, bool gpu_there) {
  BorrowedTensor borrowed;
  DType dtype = static_cast<DType>(0);
  const auto import = [&](nb::handle source) {
    if (!writable) return nb::try_cast(source, borrowed.owner, /*convert=*/false);
    nb::ndarray<> array;
    if (!nb::try_cast(source, array, /*convert=*/false)) return false;
    borrowed.owner = Borrowed(array);
    return true;
  };
  RefuseLazyTensors(tensor);
  if (writable) RefuseToWriteJax(tensor);
  if (import(tensor)) {
    SetDevice(borrowed.owner, gpu_there, &borrowed);
    dtype = ToDType(borrowed.owner.dtype());
  }
  if (dtype == static_cast<DType>(0)) {
    // A type that neither protocol carries, as numpy's bfloat16; or nothing that can be stored.
    const nb::tuple seen(
        nb::module_::import_("cairn._reinterpret").attr("as_bytes")(tensor, writable));
    dtype = static_cast<DType>(nb::cast<uint8_t>(seen[1]));
    if (!import(nb::object(seen[0]))) {
      RaiseInvalidArgument(writable ? "the tensor is read-only: pass one that can be written"
                                    : "the tensor's memory cannot be borrowed: copy it first");
    }
    SetDevice(borrowed.owner, gpu_there, &borrowed);
  }
  if (!IsContiguous(borrowed.owner)) {
    RaiseInvalidArgument(
        "the tensor is not contiguous: pass numpy.ascontiguousarray(x), or x.contiguous() of "
        "torch");
  }
  borrowed.meta = MetaOf(borrowed.owner, dtype);
  // Written only where `writable` was asked for.
  borrowed.data = static_cast<std::byte*>(const_cast<void*>(borrowed.owner.data()));
  borrowed.size = borrowed.owner.nbytes();
  return borrowed;
}

BorrowedPieces BorrowPieces(nb::handle tensor, bool writable, bool gpu_there) {
  BorrowedPieces borrowed;
  const auto add = [&borrowed](BorrowedTensor one) {
    borrowed.owners.push_back(std::move(one.owner));
    borrowed.pieces.push_back({one.data, one.size});
  };
  if (!nb::isinstance<nb::list>(tensor) && !nb::isinstance<nb::tuple>(tensor)) {
    BorrowedTensor one = Borrow(tensor, writable, gpu_there);
    borrowed.meta = one.meta;
    borrowed.kind = one.kind;
    borrowed.device = one.device;
    add(std::move(one));
    return borrowed;
  }
  uint64_t bytes = 0;
  bool first = true;
  for (const nb::handle piece : nb::borrow<nb::iterable>(tensor)) {
    BorrowedTensor one = Borrow(piece, writable, gpu_there);
    if (first) {
      borrowed.kind = one.kind;
      borrowed.device = one.device;
    }
    if (one.kind != borrowed.kind || one.device != borrowed.device) {
      RaiseInvalidArgument(
          "the pieces of one tensor are in memory of different kinds, or devices: copy them");
    }
    first = false;
    bytes += one.size;
    add(std::move(one));
  }
  borrowed.meta = TensorMeta::Bytes(bytes);
  return borrowed;
}

std::string_view KeyBytes(nb::handle key) {
  if (PyBytes_Check(key.ptr())) {
    return {PyBytes_AS_STRING(key.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(key.ptr()))};
  }
  if (PyUnicode_Check(key.ptr())) {
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(key.ptr(), &size);
    if (text == nullptr) nb::detail::raise_python_error();
    return {text, static_cast<size_t>(size)};
  }
  RaiseTypeError(absl::StrCat("a key is str or bytes, not ", Py_TYPE(key.ptr())->tp_name));
}

absl::Duration Seconds(const char* name, std::optional<double> seconds) {
  if (!seconds.has_value()) return absl::InfiniteDuration();
  if (std::isnan(*seconds) || *seconds < 0) {
    RaiseInvalidArgument(absl::StrCat(name, " is ", *seconds, " s: give 0 or more, or None"));
  }
  return absl::Seconds(*seconds);
}

nb::object NumpyDtype(DType dtype) {
  return nb::module_::import_("cairn._reinterpret")
      .attr("numpy_dtype")(static_cast<unsigned>(dtype));
}

nb::tuple Shape(const TensorMeta& meta) {
  nb::list dims;
  for (uint8_t i = 0; i < meta.rank; ++i) dims.append(meta.dims[i]);
  return nb::tuple(dims);
}

Pin::Pin(TensorHandle handle) : handle_(std::move(handle)), fork_generation_(ForkGeneration()) {}

Pin::~Pin() {
  // In a forked child the locks of the store may be held by threads that are not here.
  if (fork_generation_ != ForkGeneration()) new TensorHandle(std::move(handle_));
}

namespace {

class PyTensorHandle {
 public:
  explicit PyTensorHandle(TensorHandle handle) : pin_(std::make_shared<Pin>(std::move(handle))) {}

  const TensorHandle& handle() const {
    if (pin_ == nullptr) RaiseIfError(absl::FailedPreconditionError("the handle is released"));
    return pin_->handle();
  }
  void Release() { pin_.reset(); }
  bool valid() const { return pin_ != nullptr; }

  nb::tuple shape() const {
    const TensorMeta& meta = handle().view().meta;
    return meta.dtype == DType::kInt4 ? nb::make_tuple(meta.byte_count()) : Shape(meta);
  }
  nb::object dtype() const { return NumpyDtype(handle().view().meta.dtype); }

  nb::object Numpy() const {
    const TensorView& view = handle().view();
    if (!view.host()) {
      RaiseInvalidArgument(
          "the tensor is in GPU memory: get it with want=Level.L2_PINNED, or pass "
          "the handle to the from_dlpack of a library of that GPU");
    }
    const DType dtype = view.meta.dtype;
    const bool known =
        dtype != DType::kBf16 && dtype != DType::kFp8E4m3 && dtype != DType::kFp8E5m2;
    if (known) return Array<nb::ndarray<nb::numpy, nb::ro>>(ToDlpack(dtype));
    // What numpy does not know by itself goes as bits of the same size.
    const auto bits = static_cast<uint8_t>(DTypeBits(dtype));
    const nb::object array =
        Array<nb::ndarray<nb::numpy, nb::ro>>({static_cast<uint8_t>(Code::UInt), bits, 1});
    return array.attr("view")(NumpyDtype(dtype));
  }

  nb::object AsArray(nb::object dtype, nb::object copy) const {
    nb::object array = Numpy();
    if (!dtype.is_none() && !array.attr("dtype").equal(dtype)) {
      if (copy.is(nb::bool_(false))) {
        RaiseInvalidArgument("another dtype needs a copy, and copy=False forbids one");
      }
      return array.attr("astype")(dtype);
    }
    return copy.is(nb::bool_(true)) ? nb::object(array.attr("copy")()) : array;
  }

  nb::object Dlpack(nb::kwargs options) const {
    return Array<nb::ndarray<nb::array_api, nb::ro>>(ToDlpack(handle().view().meta.dtype))
        .attr("__dlpack__")(**options);
  }
  nb::tuple DlpackDevice() const {
    const auto [type, number] = Device();
    return nb::make_tuple(type, number);
  }

  void CopyTo(nb::handle target) const {
    const BorrowedTensor into = Borrow(target, /*writable=*/true, /*gpu_there=*/false);
    absl::Status status;
    const TensorHandle& source = handle();
    {
      const nb::gil_scoped_release released;
      status = source.CopyTo({into.data, into.size});
    }
    RaiseIfError(status);
  }

  nb::str Repr() const {
    if (!valid()) return nb::str("<cairn.TensorHandle, released>");
    const std::string text = absl::StrCat("<cairn.TensorHandle ", handle().view().meta.ToString(),
                                          " in ", LevelName(handle().level()), ">");
    return nb::str(text.c_str());
  }

 private:
  std::pair<int, int> Device() const {
    const TensorView& view = handle().view();
    if (view.host()) return {nb::device::cpu::value, 0};
    return {
        view.kind == MemoryKind::kGpu ? nb::device::cuda::value : nb::device::cuda_managed::value,
        view.device};
  }

  // Owns a share of the pin.
  template <typename Array_>
  nb::object Array(nb::dlpack::dtype dtype) const {
    const TensorView& view = handle().view();
    size_t dims[TensorMeta::kRankMax] = {view.size};
    size_t rank = 1;
    if (view.meta.dtype != DType::kInt4) {
      rank = view.meta.rank;
      for (size_t i = 0; i < rank; ++i) dims[i] = static_cast<size_t>(view.meta.dims[i]);
    }
    const nb::capsule owner(new std::shared_ptr<Pin>(pin_), [](void* pin) noexcept {
      delete static_cast<std::shared_ptr<Pin>*>(pin);
    });
    const auto [type, number] = Device();
    return nb::cast(Array_(view.data, rank, dims, owner, nullptr, dtype, type, number));
  }

  std::shared_ptr<Pin> pin_;
};

}  // namespace

nb::object NewTensorHandle(TensorHandle handle) {
  return nb::cast(PyTensorHandle(std::move(handle)));
}

void BindTensorHandle(nb::module_& module) {
  nb::class_<PyTensorHandle>(
      module, "TensorHandle",
      "A pin on a tensor's bytes in the store: they neither move nor change while it, or an array\n"
      "made of it, lives. Not a cache entry: pinned bytes cannot be evicted. Arrays are "
      "read-only;\n"
      "numpy.asarray(handle), handle.numpy() and torch.from_dlpack(handle) copy nothing. It may\n"
      "outlive its store.")
      .def("numpy", &PyTensorHandle::Numpy, nb::sig("def numpy(self) -> numpy.ndarray"),
           "The bytes as a read-only array, without a copy.")
      .def("__array__", &PyTensorHandle::AsArray, nb::arg("dtype") = nb::none(),
           nb::arg("copy") = nb::none())
      .def("__dlpack__", &PyTensorHandle::Dlpack)
      .def("__dlpack_device__", &PyTensorHandle::DlpackDevice)
      .def("copy_to", &PyTensorHandle::CopyTo, nb::arg("target"),
           "Copies the bytes into a contiguous tensor of the CPU, of as many bytes.")
      .def("release", &PyTensorHandle::Release,
           "Gives this handle's share of the pin back; arrays made of it keep theirs.")
      .def("__enter__", [](nb::object self) { return self; })
      .def("__exit__", [](PyTensorHandle& self, nb::args) { self.Release(); })
      .def("__repr__", &PyTensorHandle::Repr)
      .def_prop_ro("valid", &PyTensorHandle::valid, "Whether it is not released.")
      .def_prop_ro("shape", &PyTensorHandle::shape, nb::sig("def shape(self) -> tuple[int, ...]"))
      .def_prop_ro("dtype", &PyTensorHandle::dtype, nb::sig("def dtype(self) -> numpy.dtype"),
                   "numpy's; int4 is seen as its packed bytes, of one dimension.")
      .def_prop_ro("nbytes", [](const PyTensorHandle& self) { return self.handle().view().size; })
      .def_prop_ro(
          "level", [](const PyTensorHandle& self) { return self.handle().level(); },
          "Where the bytes are.")
      .def_prop_ro(
          "found_at", [](const PyTensorHandle& self) { return self.handle().found_at(); },
          "Where the get found them.");
}

}  // namespace cairn::python
