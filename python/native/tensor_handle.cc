// A handle of the store as Python has it: what lends a tensor's bytes out, and when they are let
// go.

#include <utility>

#include "absl/strings/str_cat.h"
#include "native/errors.h"
#include "native/tensors.h"

namespace cairn::python {
namespace {

using Code = nb::dlpack::dtype_code;

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

}  // namespace

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
  void ReleaseAfter(uint64_t stream, int gpu) {
    handle();
    if (pin_.use_count() > 1) {
      RaiseInvalidArgument("an array made of the handle is still there: delete it first");
    }
    // What may wait for the driver, with nothing of Python's held.
    absl::Status released;
    {
      const nb::gil_scoped_release without_gil;
      released = pin_->ReleaseAfter(Stream(stream, gpu));
    }
    RaiseIfError(released);
    pin_.reset();
  }
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
      .def(
          "release_after", &PyTensorHandle::ReleaseAfter, nb::arg("stream"), nb::arg("gpu") = 0,
          "As release, of a handle of which no array is left, but the bytes stay until the stream\n"
          "(of torch: stream.cuda_stream) of that GPU has done what it was given so far. The\n"
          "stream stays until Store.forget_stream or close.")
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
