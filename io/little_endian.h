#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "src/base/check.h"

namespace cairn {

// Writes fields one after another into memory that was sized for them. Everything on disk is
// little-endian, whatever the host. Running over the end is a bug of the caller.
class FieldWriter {
 public:
  FieldWriter(char* data, size_t size) : data_(data), size_(size) {}

  void U8(uint8_t value) { Unsigned(value, 1); }
  void U16(uint16_t value) { Unsigned(value, 2); }
  void U32(uint32_t value) { Unsigned(value, 4); }
  void U64(uint64_t value) { Unsigned(value, 8); }
  void Bytes(std::string_view bytes) {
    CAIRN_CHECK(bytes.size() <= size_ - position_);
    if (!bytes.empty()) std::memcpy(data_ + position_, bytes.data(), bytes.size());
    position_ += bytes.size();
  }
  void Zeros(size_t count) {
    CAIRN_CHECK(count <= size_ - position_);
    std::memset(data_ + position_, 0, count);
    position_ += count;
  }

  size_t position() const { return position_; }
  std::string_view written() const { return {data_, position_}; }

 private:
  void Unsigned(uint64_t value, size_t width) {
    CAIRN_CHECK(width <= size_ - position_);
    for (size_t i = 0; i < width; ++i) {
      data_[position_ + i] = static_cast<char>(static_cast<uint8_t>(value >> (8 * i)));
    }
    position_ += width;
  }

  char* const data_;
  const size_t size_;
  size_t position_ = 0;
};

// Reads fields one after another from bytes of any origin. Past the end every field is zero and
// ok() is false from then on: decode all, then ask once.
class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : bytes_(bytes) {}

  uint8_t U8() { return static_cast<uint8_t>(Unsigned(1)); }
  uint16_t U16() { return static_cast<uint16_t>(Unsigned(2)); }
  uint32_t U32() { return static_cast<uint32_t>(Unsigned(4)); }
  uint64_t U64() { return Unsigned(8); }
  std::string_view Bytes(size_t count) {
    if (count > bytes_.size()) {
      ok_ = false;
      bytes_ = {};
      return {};
    }
    const std::string_view field = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return field;
  }
  // False when one of the next `count` bytes is not zero.
  bool Zeros(size_t count) {
    const std::string_view field = Bytes(count);
    return ok_ && field.find_first_not_of('\0') == std::string_view::npos;
  }

  bool ok() const { return ok_; }
  size_t left() const { return bytes_.size(); }

 private:
  uint64_t Unsigned(size_t width) {
    const std::string_view field = Bytes(width);
    uint64_t value = 0;
    for (size_t i = 0; i < field.size(); ++i) {
      value |= static_cast<uint64_t>(static_cast<uint8_t>(field[i])) << (8 * i);
    }
    return value;
  }

  std::string_view bytes_;
  bool ok_ = true;
};

}  // namespace cairn
