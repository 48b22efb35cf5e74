#include "src/tier_mover.h"

#include <optional>

#include "src/base/check.h"

namespace cairn {

bool TierMover::Move(Extent from) {
  const uint64_t hash = parts_.owners->Of(from);
  bool may_drop = false;
  const Pin pin = parts_.directory->BeginRelocation(parts_.gpu, hash, from, &may_drop);
  if (pin.entry == nullptr) return false;
  const uint64_t bytes = pin.entry->bytes();
  std::optional<Extent> target;
  if (!may_drop || !coldest_.contains(hash)) {
    // Not as Reserve: nobody asked for its size.
    const absl::StatusOr<Extent> found = parts_.space->Allocate(bytes);
    if (found.ok()) target = *found;
  }
  if (target.has_value() && !parts_.copy(from, *target, bytes)) {
    CAIRN_CHECK(parts_.space->Free(*target).ok());
    target.reset();
  }
  return parts_.directory->EndRelocation(pin, target);
}

}  // namespace cairn
