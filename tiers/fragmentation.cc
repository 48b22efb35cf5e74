#include "tiers/fragmentation.h"

#include <algorithm>
#include <bit>

namespace cairn {
namespace {

constexpr size_t kSizesMax = 16;
constexpr uint64_t kPartBytes = uint64_t{64} << 20;

}  // namespace

void SizeMix::Note(uint64_t bytes) {
  if (bytes == 0) return;
  const int shift = 63 - std::countl_zero(bytes);
  const uint64_t eighth = shift < 3 ? bytes << (3 - shift) : bytes >> (shift - 3);
  const size_t number = static_cast<size_t>(shift) * kClassesAnOctave + (eighth & 7);
  Class& one = classes_[number];
  one.bytes_asked.fetch_add(bytes, std::memory_order_relaxed);
  const uint64_t least = one.bytes_least.load(std::memory_order_relaxed);
  if (least == 0 || bytes < least) one.bytes_least.store(bytes, std::memory_order_relaxed);
  const uint64_t all = bytes_asked_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  if (all < 2 * bytes_recent_) return;
  bytes_asked_.store(all / 2, std::memory_order_relaxed);
  for (Class& each : classes_) {
    const uint64_t asked = each.bytes_asked.load(std::memory_order_relaxed);
    if (asked == 0) continue;
    each.bytes_asked.store(asked / 2, std::memory_order_relaxed);
    if (asked / 2 == 0) each.bytes_least.store(0, std::memory_order_relaxed);
  }
}

std::vector<SizeMix::Size> SizeMix::Sizes() const {
  std::vector<Size> sizes;
  for (const Class& one : classes_) {
    const uint64_t asked = one.bytes_asked.load(std::memory_order_relaxed);
    const uint64_t least = one.bytes_least.load(std::memory_order_relaxed);
    if (asked > 0 && least > 0) sizes.push_back({least, asked});
  }
  std::sort(sizes.begin(), sizes.end(),
            [](const Size& a, const Size& b) { return a.bytes_asked > b.bytes_asked; });
  if (sizes.size() > kSizesMax) sizes.resize(kSizesMax);
  return sizes;
}

Fragmentation MeasureFragmentation(
    uint64_t space_bytes, const SizeMix& mix,
    absl::FunctionRef<void(Extent part, VisitRun visit)> visit_free) {
  const std::vector<SizeMix::Size> sizes = mix.Sizes();
  std::array<uint64_t, kSizesMax> usable = {};
  Fragmentation found;
  for (uint64_t begin = 0; begin < space_bytes; begin += kPartBytes) {
    visit_free({begin, std::min(kPartBytes, space_bytes - begin)}, [&](Extent run) {
      found.bytes_free += run.bytes;
      found.bytes_free_longest = std::max(found.bytes_free_longest, run.bytes);
      for (size_t i = 0; i < sizes.size(); ++i) {
        usable[i] += run.bytes / sizes[i].bytes * sizes[i].bytes;
      }
    });
  }
  if (found.bytes_free == 0) return found;
  const auto free = static_cast<double>(found.bytes_free);
  double asked = 0;
  double most = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto weight = static_cast<double>(sizes[i].bytes_asked);
    const double unusable = weight * (1 - static_cast<double>(usable[i]) / free);
    asked += weight;
    found.unusable_share += unusable;
    if (unusable <= most) continue;
    most = unusable;
    found.bytes_most_unusable = sizes[i].bytes;
  }
  if (asked > 0) found.unusable_share /= asked;
  return found;
}

}  // namespace cairn
