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

StreamRef Stream(uint64_t stream, int gpu) {
  return {.stream = reinterpret_cast<void*>(static_cast<uintptr_t>(stream)), .device = gpu};
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

}  // namespace cairn::python
