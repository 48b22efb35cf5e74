#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "cairn/options.h"

namespace cairn::python {

namespace nb = nanobind;

// The keyword arguments of Store: fields of StoreOptions. TypeError names one that is none, or
// whose value is not of its type.
StoreOptions ToStoreOptions(const std::string& path, const nb::kwargs& fields);

}  // namespace cairn::python
