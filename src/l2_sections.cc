#include "src/l2_sections.h"

#include <algorithm>

#include "src/base/check.h"

namespace cairn {
namespace {

// So many, of whole huge pages, and no longer than what an engine registers at once. More would be
// finer, and more transfers lie across two, which no fixed buffer serves.
constexpr uint64_t kSections = 32;
constexpr uint64_t kGrainBytes = uint64_t{2} << 20;
constexpr uint64_t kSectionBytesMax = uint64_t{1} << 30;

uint64_t SectionBytes(uint64_t arena_bytes) {
  const uint64_t share = (arena_bytes + kSections - 1) / kSections;
  const uint64_t rounded = (share + kGrainBytes - 1) / kGrainBytes * kGrainBytes;
  return std::min(rounded, kSectionBytesMax);
}

}  // namespace

L2Sections::L2Sections(PinnedTier* l2, AsyncIo* io)
    : l2_(l2),
      io_(io),
      section_bytes_(SectionBytes(l2->arena().bytes())),
      sections_((l2->bytes_max() + section_bytes_ - 1) / section_bytes_),
      bytes_usable_(l2->bytes_max()) {}

std::string L2Sections::kept_because() const {
  if (l2_->arena().pages() == ArenaPages::kHugetlb) {
    return "its pages are reserved huge pages, which nobody else could use";
  }
  return l2_->kept_by_gpu() ? "the GPU's driver has pinned it, or is about to" : "";
}

Extent L2Sections::extent(size_t section) const {
  const uint64_t offset = section * section_bytes_;
  return {offset, std::min(section_bytes_, l2_->bytes_max() - offset)};
}

// With what the arena has beyond L2's end.
absl::Span<std::byte> L2Sections::MemoryOf(size_t section) const {
  const uint64_t offset = section * section_bytes_;
  return l2_->arena().memory().subspan(offset, section_bytes_);
}

absl::Status L2Sections::Begin(const std::function<int64_t()>& bytes_spare, uint64_t bytes_min) {
  const bool all = bytes_spare == nullptr || !kept_because().empty();
  const uint64_t least = std::max<uint64_t>((bytes_min + section_bytes_ - 1) / section_bytes_, 1);
  absl::Status status;
  size_t taken = 0;
  for (; taken < sections_.size(); ++taken) {
    if (!all && taken >= least && bytes_spare() < static_cast<int64_t>(section_bytes_)) break;
    if (!all) l2_->arena().Populate(MemoryOf(taken));
    if (status.ok()) status = Register(taken);
  }
  for (size_t section = taken; section < sections_.size(); ++section) {
    CAIRN_CHECK(Leave(section));
    sections_[section].state = State::kGivenBack;
  }
  // All of it or none, as hosts are told.
  for (size_t section = 0; section < taken && !status.ok(); ++section) Unregister(section);
  registered_.store(status.ok(), std::memory_order_relaxed);
  return status;
}

absl::Status L2Sections::Register(size_t section) {
  const absl::Status status = io_->RegisterMemory(MemoryOf(section));
  sections_[section].registered = status.ok();
  return status;
}

void L2Sections::Unregister(size_t section) {
  if (!sections_[section].registered) return;
  CAIRN_CHECK(io_->UnregisterMemory(MemoryOf(section)).ok());
  sections_[section].registered = false;
}

bool L2Sections::Leave(size_t section) {
  CAIRN_CHECK(sections_[section].state == State::kInUse);
  if (!l2_->Withhold(extent(section))) return false;
  sections_[section].state = State::kLeaving;
  bytes_usable_.fetch_sub(extent(section).bytes, std::memory_order_relaxed);
  return true;
}

void L2Sections::Stay(size_t section) {
  CAIRN_CHECK(sections_[section].state == State::kLeaving);
  l2_->Restore(extent(section));
  sections_[section].state = State::kInUse;
  bytes_usable_.fetch_add(extent(section).bytes, std::memory_order_relaxed);
}

bool L2Sections::TryGiveBack(size_t section) {
  CAIRN_CHECK(sections_[section].state == State::kLeaving);
  if (!l2_->IsEmpty(extent(section))) return false;
  // Registered pages are pinned: they would not be free.
  Unregister(section);
  l2_->arena().GiveBack(MemoryOf(section));
  sections_[section].state = State::kGivenBack;
  return true;
}

bool L2Sections::TakeOne() {
  const auto given_back =
      std::find_if(sections_.begin(), sections_.end(),
                   [](const Section& section) { return section.state == State::kGivenBack; });
  if (given_back == sections_.end()) return false;
  const size_t section = static_cast<size_t>(given_back - sections_.begin());
  // Not every engine takes the pages of what it registers.
  l2_->arena().Populate(MemoryOf(section));
  if (registered() && !Register(section).ok()) registered_.store(false, std::memory_order_relaxed);
  given_back->state = State::kLeaving;
  Stay(section);
  return true;
}

}  // namespace cairn
