#include "native/errors.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace cairn::python {
namespace {

std::atomic<uint64_t> fork_generation = 0;
std::atomic<bool> store_was_opened = false;

// In a child of a process with stores the destructors of static objects would wait for threads that
// are not here (RocksDB's): what exit() has left to do when Python is done is skipped.
void LeaveAtOnce(int exit_status, void*) {
  std::fflush(nullptr);
  _exit(exit_status);
}

void OnForkedChild() {
  const bool first = fork_generation.fetch_add(1, std::memory_order_relaxed) == 0;
  if (first && store_was_opened.load()) on_exit(LeaveAtOnce, nullptr);
}

const char* ClassName(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kNotFound:
      return "NotFoundError";
    case absl::StatusCode::kDataLoss:
      return "DataLossError";
    case absl::StatusCode::kResourceExhausted:
      return "ResourceExhaustedError";
    case absl::StatusCode::kDeadlineExceeded:
      return "DeadlineExceededError";
    case absl::StatusCode::kUnavailable:
      return "UnavailableError";
    case absl::StatusCode::kInvalidArgument:
      return "InvalidArgumentError";
    case absl::StatusCode::kFailedPrecondition:
      return "FailedPreconditionError";
    case absl::StatusCode::kUnimplemented:
      return "UnimplementedError";
    default:
      return "CairnError";
  }
}

nb::object NewException(const char* class_name, std::string_view message) {
  return nb::module_::import_("cairn.errors")
      .attr(class_name)(nb::str(message.data(), message.size()));
}

[[noreturn]] void Raise(const nb::object& exception) {
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  nb::detail::raise_python_error();
}

}  // namespace

nb::object ToException(const absl::Status& status) {
  if (status.ok()) return nb::none();
  return NewException(ClassName(status.code()), {status.message().data(), status.message().size()});
}

void RaiseIfError(const absl::Status& status) {
  if (!status.ok()) Raise(ToException(status));
}

void RaiseInvalidArgument(std::string_view message) {
  Raise(NewException("InvalidArgumentError", message));
}

void RaiseTypeError(std::string_view message) {
  PyErr_SetString(PyExc_TypeError, std::string(message).c_str());
  nb::detail::raise_python_error();
}

uint64_t ForkGeneration() { return fork_generation.load(std::memory_order_relaxed); }

void WatchForks() { pthread_atfork(nullptr, nullptr, OnForkedChild); }

void RaiseIfForked(uint64_t generation) {
  if (generation == ForkGeneration()) return;
  Raise(NewException(
      "ForkedError",
      "this process was forked from one that had opened a store, whose threads are not here: open "
      "stores in one process, or start others by multiprocessing's \"spawn\" method"));
}

uint64_t EnterProcess() {
  static const uint64_t first_opened_in = ForkGeneration();
  RaiseIfForked(first_opened_in);
  store_was_opened.store(true);
  return first_opened_in;
}

}  // namespace cairn::python
