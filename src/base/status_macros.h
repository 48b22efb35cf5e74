#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define CAIRN_RETURN_IF_ERROR(expression)          \
  do {                                             \
    absl::Status cairn_status_ = (expression);     \
    if (!cairn_status_.ok()) return cairn_status_; \
  } while (false)

#define CAIRN_CONCAT_INNER_(a, b) a##b
#define CAIRN_CONCAT_(a, b) CAIRN_CONCAT_INNER_(a, b)

#define CAIRN_ASSIGN_OR_RETURN(target, expression) \
  CAIRN_ASSIGN_OR_RETURN_IMPL_(CAIRN_CONCAT_(cairn_or_, __LINE__), target, expression)

#define CAIRN_ASSIGN_OR_RETURN_IMPL_(or_, target, expression) \
  auto or_ = (expression);                                    \
  if (!or_.ok()) return std::move(or_).status();              \
  target = std::move(or_).value()
