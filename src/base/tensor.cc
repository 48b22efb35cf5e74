#include "cairn/tensor.h"

#include <xxhash.h>

#include <limits>

#include "absl/strings/str_cat.h"
#include "cairn/key.h"
#include "src/base/check.h"

namespace cairn {

const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kUint8:
      return "uint8";
    case DType::kInt8:
      return "int8";
    case DType::kInt4:
      return "int4";
    case DType::kBool:
      return "bool";
    case DType::kInt32:
      return "int32";
    case DType::kInt64:
      return "int64";
    case DType::kFp16:
      return "fp16";
    case DType::kBf16:
      return "bf16";
    case DType::kFp32:
      return "fp32";
    case DType::kFp8E4m3:
      return "fp8_e4m3";
    case DType::kFp8E5m2:
      return "fp8_e5m2";
  }
  return "?";
}

const char* TensorClassName(TensorClass tensor_class) {
  switch (tensor_class) {
    case TensorClass::kGeneral:
      return "general";
    case TensorClass::kKv:
      return "kv";
    case TensorClass::kVision:
      return "vision";
    case TensorClass::kText:
      return "text";
  }
  return "?";
}

const char* LevelName(Level level) {
  switch (level) {
    case Level::kL1Gpu:
      return "L1";
    case Level::kL2Pinned:
      return "L2";
    case Level::kL3Nvme:
      return "L3";
  }
  return "?";
}

uint32_t DTypeBits(DType dtype) {
  switch (dtype) {
    case DType::kInt4:
      return 4;
    case DType::kUint8:
    case DType::kInt8:
    case DType::kBool:
    case DType::kFp8E4m3:
    case DType::kFp8E5m2:
      return 8;
    case DType::kFp16:
    case DType::kBf16:
      return 16;
    case DType::kInt32:
    case DType::kFp32:
      return 32;
    case DType::kInt64:
      return 64;
  }
  return 0;
}

TensorMeta TensorMeta::Of(DType dtype, std::initializer_list<int64_t> dims) {
  CAIRN_CHECK(dims.size() <= kRankMax);
  TensorMeta meta;
  meta.dtype = dtype;
  for (const int64_t dim : dims) meta.dims[meta.rank++] = dim;
  return meta;
}

TensorMeta TensorMeta::Bytes(uint64_t size) {
  // A size beyond 63 bits becomes a negative dimension, which Validate refuses.
  return Of(DType::kUint8, {static_cast<int64_t>(size)});
}

absl::Status TensorMeta::Validate() const {
  const uint32_t bits = DTypeBits(dtype);
  if (bits == 0) {
    return absl::InvalidArgumentError(absl::StrCat("unknown dtype ", static_cast<int>(dtype)));
  }
  if (rank > kRankMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", static_cast<int>(rank), " is over ", static_cast<int>(kRankMax)));
  }
  // int4 is held to 63 bits of elements, not of bytes: a shape whose elements cannot be counted
  // in an int64 is of no use to anyone.
  constexpr uint64_t kBytesMax = std::numeric_limits<int64_t>::max();
  const uint64_t elements_max = bits == 4 ? kBytesMax : kBytesMax / (bits / 8);
  uint64_t elements = 1;
  for (uint8_t i = 0; i < rank; ++i) {
    if (dims[i] < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("dimension ", static_cast<int>(i), " is ", dims[i], ", below 1"));
    }
    if (static_cast<uint64_t>(dims[i]) > elements_max / elements) {
      return absl::InvalidArgumentError(
          absl::StrCat("the size of ", ToString(), " does not fit 63 bits"));
    }
    elements *= static_cast<uint64_t>(dims[i]);
  }
  return absl::OkStatus();
}

uint64_t TensorMeta::byte_count() const {
  uint64_t elements = 1;
  for (uint8_t i = 0; i < rank; ++i) elements *= static_cast<uint64_t>(dims[i]);
  const uint32_t bits = DTypeBits(dtype);
  return bits == 4 ? elements / 2 + elements % 2 : elements * (bits / 8);
}

std::string TensorMeta::ToString() const {
  std::string text = absl::StrCat(DTypeName(dtype), "[");
  for (uint8_t i = 0; i < rank && i < kRankMax; ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ",", dims[i]);
  }
  text.push_back(']');
  return text;
}

uint64_t TensorKey::hash() const { return XXH3_64bits(bytes_.data(), bytes_.size()); }

}  // namespace cairn
