#include "cairn/tensor.h"

#include <limits>
#include <string>

#include "cairn/key.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

TEST(TensorMetaTest, ByteCountOfEveryDType) {
  EXPECT_EQ(TensorMeta::Of(DType::kUint8, {3, 5}).byte_count(), 15u);
  EXPECT_EQ(TensorMeta::Of(DType::kInt8, {3, 5}).byte_count(), 15u);
  EXPECT_EQ(TensorMeta::Of(DType::kBool, {3, 5}).byte_count(), 15u);
  EXPECT_EQ(TensorMeta::Of(DType::kFp8E4m3, {3, 5}).byte_count(), 15u);
  EXPECT_EQ(TensorMeta::Of(DType::kFp8E5m2, {3, 5}).byte_count(), 15u);
  EXPECT_EQ(TensorMeta::Of(DType::kFp16, {3, 5}).byte_count(), 30u);
  EXPECT_EQ(TensorMeta::Of(DType::kBf16, {3, 5}).byte_count(), 30u);
  EXPECT_EQ(TensorMeta::Of(DType::kFp32, {3, 5}).byte_count(), 60u);
  EXPECT_EQ(TensorMeta::Of(DType::kInt32, {3, 5}).byte_count(), 60u);
  EXPECT_EQ(TensorMeta::Of(DType::kInt64, {3, 5}).byte_count(), 120u);
}

TEST(TensorMetaTest, Int4RoundsUpToAByte) {
  EXPECT_EQ(TensorMeta::Of(DType::kInt4, {}).byte_count(), 1u);
  EXPECT_EQ(TensorMeta::Of(DType::kInt4, {2}).byte_count(), 1u);
  EXPECT_EQ(TensorMeta::Of(DType::kInt4, {3, 5}).byte_count(), 8u);
  EXPECT_EQ(TensorMeta::Of(DType::kInt4, {kMax}).byte_count(), uint64_t{1} << 62);
}

TEST(TensorMetaTest, ScalarHasOneElement) {
  const TensorMeta scalar = TensorMeta::Of(DType::kFp32, {});
  EXPECT_TRUE(scalar.Validate().ok());
  EXPECT_EQ(scalar.byte_count(), 4u);
  EXPECT_EQ(scalar.ToString(), "fp32[]");
}

TEST(TensorMetaTest, BytesIsAFlatArray) {
  EXPECT_EQ(TensorMeta::Bytes(100), TensorMeta::Of(DType::kUint8, {100}));
  EXPECT_FALSE(TensorMeta::Bytes(0).Validate().ok());
  EXPECT_FALSE(TensorMeta::Bytes(std::numeric_limits<uint64_t>::max()).Validate().ok());
}

TEST(TensorMetaTest, ToStringHasTypeAndShape) {
  EXPECT_EQ(TensorMeta::Of(DType::kBf16, {2, 28, 8, 16, 128}).ToString(), "bf16[2,28,8,16,128]");
}

TEST(TensorMetaTest, ValidateNamesTheFigure) {
  EXPECT_THAT(std::string(TensorMeta::Of(static_cast<DType>(77), {1}).Validate().message()),
              HasSubstr("77"));
  TensorMeta deep = TensorMeta::Of(DType::kInt8, {1, 1, 1, 1, 1, 1, 1, 1});
  EXPECT_TRUE(deep.Validate().ok());
  deep.rank = 9;
  EXPECT_THAT(std::string(deep.Validate().message()), HasSubstr("rank 9"));
  EXPECT_THAT(std::string(TensorMeta::Of(DType::kInt8, {4, 0}).Validate().message()),
              HasSubstr("dimension 1 is 0"));
  EXPECT_THAT(std::string(TensorMeta::Of(DType::kInt8, {-3}).Validate().message()),
              HasSubstr("-3"));
}

TEST(TensorMetaTest, ValidateRefusesWhatDoesNotFit63Bits) {
  EXPECT_TRUE(TensorMeta::Of(DType::kUint8, {kMax}).Validate().ok());
  EXPECT_FALSE(TensorMeta::Of(DType::kBf16, {kMax}).Validate().ok());
  EXPECT_TRUE(TensorMeta::Of(DType::kBf16, {kMax / 2}).Validate().ok());
  EXPECT_FALSE(TensorMeta::Of(DType::kBf16, {kMax / 2 + 1}).Validate().ok());
  EXPECT_FALSE(TensorMeta::Of(DType::kInt64, {kMax / 8 + 1}).Validate().ok());
  EXPECT_TRUE(TensorMeta::Of(DType::kInt4, {kMax}).Validate().ok());
  EXPECT_FALSE(TensorMeta::Of(DType::kInt4, {kMax, 2}).Validate().ok());
  // A product that wraps around to something small.
  const int64_t half = int64_t{1} << 32;
  EXPECT_FALSE(TensorMeta::Of(DType::kUint8, {half, half}).Validate().ok());
  EXPECT_FALSE(TensorMeta::Of(DType::kUint8, {half, half, 3}).Validate().ok());
}

TEST(TensorMetaTest, EqualityLooksAtTheUsedDimensionsOnly) {
  TensorMeta a = TensorMeta::Of(DType::kInt8, {2, 3});
  TensorMeta b = a;
  b.dims[5] = 9;
  EXPECT_EQ(a, b);
  EXPECT_FALSE(a == TensorMeta::Of(DType::kInt8, {3, 2}));
  EXPECT_FALSE(a == TensorMeta::Of(DType::kUint8, {2, 3}));
  EXPECT_FALSE(a == TensorMeta::Of(DType::kInt8, {2, 3, 1}));
}

TEST(NamesTest, EveryValueHasOneAndOthersHaveNone) {
  for (int value = 0; value < 256; ++value) {
    const DType dtype = static_cast<DType>(value);
    const bool known = value >= 1 && value <= 11;
    EXPECT_EQ(std::string(DTypeName(dtype)) != "?", known) << value;
    EXPECT_EQ(DTypeBits(dtype) != 0, known) << value;
    EXPECT_EQ(std::string(TensorClassName(static_cast<TensorClass>(value))) != "?", value <= 3);
    EXPECT_EQ(std::string(LevelName(static_cast<Level>(value))) != "?", value >= 1 && value <= 3);
  }
  EXPECT_STREQ(DTypeName(DType::kBf16), "bf16");
  EXPECT_STREQ(DTypeName(DType::kInt4), "int4");
}

// The hash may be on someone's disk: these values must not change.
TEST(TensorKeyTest, HashIsXxh3) {
  EXPECT_EQ(TensorKey("").hash(), 0x2d06800538d394c2u);
  EXPECT_EQ(TensorKey("layer0/block17").hash(), TensorKey(std::string("layer0/block17")).hash());
  EXPECT_NE(TensorKey("a").hash(), TensorKey("b").hash());
}

}  // namespace
}  // namespace cairn
