#include "src/l2_mover.h"

#include <cstring>
#include <optional>

namespace cairn {

bool L2Mover::Move(Extent from) {
  const uint64_t hash = l2_->OwnerOf(from);
  bool may_drop = false;
  Entry* const entry = directory_->BeginRelocation(hash, from, &may_drop);
  if (entry == nullptr) return false;
  std::optional<Extent> target;
  if (!may_drop || !coldest_.contains(hash)) {
    // Not as Reserve: nobody asked for its size.
    const absl::StatusOr<Extent> found = l2_->space().Allocate(entry->bytes());
    if (found.ok()) target = *found;
  }
  if (target.has_value()) {
    std::memcpy(l2_->Address(*target), l2_->Address(from), entry->bytes());
  }
  return directory_->EndRelocation(entry, target);
}

}  // namespace cairn
