#pragma once

// Python's tensors as Cairn's: what is borrowed from the caller (buffer protocol, DLPack), and the
// handles that lend the store's bytes out the same way.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/store.h"

namespace cairn::python {

namespace nb = nanobind;

// Keeps the caller's tensor alive and where it is.
using Borrowed = nb::ndarray<nb::ro>;

// A contiguous tensor of the caller.
struct BorrowedTensor {
  Borrowed owner;
  TensorMeta meta;
  std::byte* data = nullptr;
  uint64_t size = 0;
  MemoryKind kind = MemoryKind::kHost;
  int device = -1;
};

// Raises for what cannot be stored or read into as it lies, saying what to do instead. `gpu_there`:
// whether the store's device is a GPU, whose memory may then be named.
BorrowedTensor Borrow(nb::handle tensor, bool writable, bool gpu_there);

// One tensor, or a list of the pieces that make one up; then its meta is that of flat bytes.
struct BorrowedPieces {
  std::vector<Borrowed> owners;
  std::vector<Piece> pieces;
  TensorMeta meta;
  MemoryKind kind = MemoryKind::kHost;
  int device = -1;
};
BorrowedPieces BorrowPieces(nb::handle tensor, bool writable, bool gpu_there);

// The bytes of a str (as UTF-8) or bytes; they live as long as the object.
std::string_view KeyBytes(nb::handle key);

// A cudaStream_t as the number that torch and cupy have for it.
StreamRef Stream(uint64_t stream, int gpu);

// None: no end.
absl::Duration Seconds(const char* name, std::optional<double> seconds);

// The numpy dtype of a tensor; for int4 that of its packed bytes.
nb::object NumpyDtype(DType dtype);
nb::tuple Shape(const TensorMeta& meta);

// A pin on a tensor in the store, shared by the handle and the arrays made of it.
class Pin {
 public:
  explicit Pin(TensorHandle handle);
  ~Pin();
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;
  const TensorHandle& handle() const { return handle_; }
  // As TensorHandle's. After OK there is nothing left to see.
  absl::Status ReleaseAfter(StreamRef stream) { return std::move(handle_).ReleaseAfter(stream); }

 private:
  TensorHandle handle_;
  const uint64_t fork_generation_;
};

void BindTensorHandle(nb::module_& module);
nb::object NewTensorHandle(TensorHandle handle);

}  // namespace cairn::python
