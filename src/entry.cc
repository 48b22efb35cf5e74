#include "src/entry.h"

#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "src/base/check.h"

namespace cairn {
namespace {

// A dimension takes seven bits a byte, the last of them without the eighth: a tensor of 1 GiB has
// at most 2^31 elements, so all eight dimensions take twelve bytes at most, and those of most
// tensors a byte or two.
constexpr size_t kDimBytesMax = 10;

size_t DimBytes(int64_t dim) {
  size_t bytes = 1;
  for (auto left = static_cast<uint64_t>(dim); left >= 0x80; left >>= 7) ++bytes;
  return bytes;
}

char* PutDim(int64_t dim, char* target) {
  auto left = static_cast<uint64_t>(dim);
  for (; left >= 0x80; left >>= 7) *target++ = static_cast<char>(left | 0x80);
  *target++ = static_cast<char>(left);
  return target;
}

const char* TakeDim(const char* source, int64_t* dim) {
  uint64_t value = 0;
  for (size_t i = 0; i < kDimBytesMax; ++i) {
    const auto byte = static_cast<uint8_t>(*source++);
    value |= uint64_t{byte & 0x7fU} << (7 * i);
    if (byte < 0x80) break;
  }
  *dim = static_cast<int64_t>(value);
  return source;
}

}  // namespace

// README.md promises what a stored tensor takes: this, its key and shape, what malloc adds, and a
// slot in the directory.
static_assert(sizeof(Entry) == 80);

std::unique_ptr<Entry> Entry::Create(IndexKey key, const IndexRecord& record) {
  CAIRN_CHECK(!key.key.empty() && key.key.size() <= std::numeric_limits<uint8_t>::max());
  CAIRN_CHECK(record.payload_bytes <= std::numeric_limits<uint32_t>::max());
  size_t bytes = sizeof(Entry) + key.key.size();
  if (record.expires_unix_ms != 0) bytes += sizeof(int64_t);
  for (uint8_t i = 0; i < record.meta.rank; ++i) bytes += DimBytes(record.meta.dims[i]);
  void* const memory = ::operator new(bytes);
  return std::unique_ptr<Entry>(::new (memory) Entry(key, record));
}

Entry::Entry(IndexKey key, const IndexRecord& record)
    : checksum(record.checksum),
      dtype_(record.meta.dtype),
      rank_(record.meta.rank),
      key_bytes_(static_cast<uint8_t>(key.key.size())),
      tensor_class_(static_cast<uint8_t>(record.tensor_class) & (kTensorClasses - 1)),
      recompute_level_(record.recompute_level & kRecomputeLevelMax),
      keep_(record.retention == Retention::kKeep),
      has_expiry_(record.expires_unix_ms != 0),
      bytes_(static_cast<uint32_t>(record.payload_bytes)),
      fingerprint_id_(key.fingerprint_id),
      sequence_(record.sequence),
      l3_offset_(record.offset) {
  set_header_bytes(record.header_bytes);
  char* target = tail();
  std::memcpy(target, key.key.data(), key.key.size());
  target += key.key.size();
  if (has_expiry_) {
    std::memcpy(target, &record.expires_unix_ms, sizeof(int64_t));
    target += sizeof(int64_t);
  }
  for (uint8_t i = 0; i < rank_; ++i) target = PutDim(record.meta.dims[i], target);
}

TensorMeta Entry::meta() const {
  TensorMeta meta;
  meta.dtype = dtype_;
  meta.rank = rank_;
  const char* source = dims();
  for (uint8_t i = 0; i < rank_; ++i) source = TakeDim(source, &meta.dims[i]);
  return meta;
}

int64_t Entry::expires_unix_ms() const {
  int64_t expires = 0;
  if (has_expiry_) std::memcpy(&expires, tail() + key_bytes_, sizeof(expires));
  return expires;
}

void Entry::set_header_bytes(uint64_t bytes) {
  CAIRN_CHECK(bytes % kBlockBytes == 0);
  CAIRN_CHECK(bytes / kBlockBytes <= std::numeric_limits<uint16_t>::max());
  header_blocks_ = static_cast<uint16_t>(bytes / kBlockBytes);
}

uint64_t Entry::l3_bytes() const {
  return (pack == nullptr ? header_bytes() : 0) + RoundUpToBlock(bytes_);
}

// The first block of L3 is a file's header, so no tensor is at offset 0.
Extent Entry::l3_extent() const {
  if (l3_offset_ == 0) return {};
  return {l3_offset_, l3_bytes()};
}

void Entry::set_l3_extent(Extent extent) {
  CAIRN_CHECK(l3_offset_ == 0 && extent.offset != 0);
  l3_offset_ = extent.offset;
  CAIRN_CHECK(extent == l3_extent());
}

Extent Entry::TakeL3Extent() {
  const Extent extent = l3_extent();
  l3_offset_ = 0;
  return extent;
}

HotPart& Entry::MakeHot() {
  if (hot_ == nullptr) hot_ = std::make_unique<HotPart>(this);
  return *hot_;
}

L1Copy& Entry::AddL1(Gpu* gpu, Extent target) {
  auto copy = std::make_unique<L1Copy>(this, gpu, target);
  copy->next = std::move(hot_->l1);
  hot_->l1 = std::move(copy);
  return *hot_->l1;
}

std::unique_ptr<L1Copy> Entry::TakeL1(L1Copy* copy) {
  std::unique_ptr<L1Copy>* place = &hot_->l1;
  while (place->get() != copy) place = &(*place)->next;
  return std::exchange(*place, std::move(copy->next));
}

void Entry::CoolDown() {
  if (hot_ == nullptr || spilling || l2 != CopyState::kAbsent) return;
  if (hot_->replaced != nullptr || hot_->fill_waiters != nullptr) return;
  if (hot_->spill_waiters != nullptr || hot_->l1 != nullptr) return;
  CAIRN_CHECK(!hot_->dirty && hot_->l2_extent.bytes == 0);
  hot_.reset();
}

Entry* Entry::TakeReplaced() {
  if (hot_ == nullptr) return nullptr;
  Entry* const replaced = std::exchange(hot_->replaced, nullptr);
  CoolDown();
  return replaced;
}

IndexRecord Entry::Record() const {
  return {.sequence = sequence_,
          .offset = l3_offset_,
          .pack_offset = pack == nullptr ? 0 : pack->table.offset,
          .header_bytes = header_bytes(),
          .payload_bytes = bytes_,
          .checksum = checksum,
          .meta = meta(),
          .tensor_class = tensor_class(),
          .retention = retention(),
          .recompute_level = recompute_level_,
          .expires_unix_ms = expires_unix_ms()};
}

}  // namespace cairn
