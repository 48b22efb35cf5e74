#pragma once

// From absl::Status to the exceptions of cairn/errors.py, and the check that a process forked from
// the store's is not using it.

#include <nanobind/nanobind.h>

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"

namespace cairn::python {

namespace nb = nanobind;

// The exception for a status other than OK, with its text; None for OK.
nb::object ToException(const absl::Status& status);

// Raises the exception for a status other than OK.
void RaiseIfError(const absl::Status& status);
[[noreturn]] void RaiseInvalidArgument(std::string_view message);
[[noreturn]] void RaiseTypeError(std::string_view message);

// How often this process was made by a fork since the module was loaded. What belongs to an earlier
// generation belongs to the parent: its threads are not here, and its locks may be held by them.
uint64_t ForkGeneration();
void WatchForks();

// Raises ForkedError where `generation` is not this process's.
void RaiseIfForked(uint64_t generation);

// Before a store is opened: raises ForkedError where the parent had opened one, whose libraries'
// threads are not here either. Returns the generation of this process.
uint64_t EnterProcess();

}  // namespace cairn::python
