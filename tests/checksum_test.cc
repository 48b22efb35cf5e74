#include "io/checksum.h"

// The portable code of the header, to hold the library's vector code against.
#define XXH_INLINE_ALL
#define XXH_VECTOR 0
#include <xxhash.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace cairn {
namespace {

constexpr uint64_t kPrime = 11400714785074694797u;

std::string RandomBytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// The test vectors of the XXH3 specification's reference program.
TEST(ChecksumTest, KnownAnswers) {
  std::vector<uint8_t> buffer(2367);
  uint64_t generator = 2654435761u;
  for (uint8_t& byte : buffer) {
    byte = static_cast<uint8_t>(generator >> 56);
    generator *= kPrime;
  }
  struct Answer {
    size_t size;
    uint64_t sum;
    uint64_t seeded;
  };
  const Answer answers[] = {
      {0, 0x2D06800538D394C2, 0xA8A6B918B2F0364A},
      {1, 0xC44BDFF4074EECDB, 0x032BE332DD766EF8},
      {6, 0x27B56A84CD2D7325, 0x84589C116AB59AB9},
      {12, 0xA713DAF0DFBB77E7, 0xE7303E1B2336DE0E},
      {24, 0xA3FE70BF9D3510EB, 0x850E80FC35BDD690},
      {48, 0x397DA259ECBA1F11, 0xADC2CBAA44ACC616},
      {80, 0xBCDEFBBB2C47C90A, 0xC6DD0CB699532E73},
      {195, 0xCD94217EE362EC3A, 0xBA68003D370CB3D9},
      {403, 0xCDEB804D65C6DEA4, 0x6259F6ECFD6443FD},
      {512, 0x617E49599013CB6B, 0x3CE457DE14C27708},
      {2048, 0xDD59E2C3A5F038E0, 0x66F81670669ABABC},
      {2240, 0x6E73A90539CF2948, 0x757BA8487D1B5247},
      {2367, 0xCB37AEB9E5D361ED, 0xD2DB3415B942B42A},
  };
  for (const Answer& answer : answers) {
    EXPECT_EQ(ChunkChecksum(0, buffer.data(), answer.size), answer.sum) << answer.size;
    EXPECT_EQ(ChunkChecksum(kPrime, buffer.data(), answer.size), answer.seeded) << answer.size;
  }
}

TEST(ChecksumTest, VectorCodeAgreesWithPortableCode) {
  const std::string bytes = RandomBytes(kChecksumChunkBytes + 64, 1);
  std::mt19937_64 random(2);
  for (int i = 0; i < 200; ++i) {
    const size_t shift = random() % 64;
    const size_t size = i < 20 ? kChecksumChunkBytes - i : random() % (i < 150 ? 5000 : 300000);
    const uint64_t seed = i % 3 == 0 ? 0 : random();
    EXPECT_EQ(ChunkChecksum(seed, bytes.data() + shift, size),
              XXH3_64bits_withSeed(bytes.data() + shift, size, seed))
        << size;
  }
}

TEST(ChecksumTest, StreamingAgreesWithOneShotHoweverItIsCut) {
  const std::string bytes = RandomBytes(200'000, 3);
  std::mt19937_64 random(4);
  ChunkHasher hasher;  // Used again: Reset must forget everything.
  for (int i = 0; i < 100; ++i) {
    const size_t size = i < 10 ? static_cast<size_t>(i) * 60 : random() % bytes.size();
    const uint64_t seed = i % 3 == 0 ? 0 : random();
    hasher.Reset(seed);
    for (size_t done = 0; done < size;) {
      const size_t piece = std::min(size - done, random() % (i % 2 == 0 ? 100 : 70'000));
      hasher.Update(bytes.data() + done, piece);
      done += piece;
    }
    const uint64_t sum = ChunkChecksum(seed, bytes.data(), size);
    EXPECT_EQ(hasher.Finish(), sum) << size;
    EXPECT_EQ(hasher.Finish(), sum) << "Finish changes nothing";
  }
}

TEST(ChecksumTest, TensorChecksumIsOfTheLittleEndianList) {
  const uint64_t sums[] = {0x0102030405060708, 0x1112131415161718};
  const char bytes[] = "\x08\x07\x06\x05\x04\x03\x02\x01\x18\x17\x16\x15\x14\x13\x12\x11";
  EXPECT_EQ(TensorChecksum(99, sums), ChunkChecksum(99, bytes, 16));
  EXPECT_NE(TensorChecksum(98, sums), TensorChecksum(99, sums));
}

TEST(ChecksumTest, SeedDependsOnKeyAndSequence) {
  EXPECT_NE(ChecksumSeed(1, 2), ChecksumSeed(2, 1));
  EXPECT_NE(ChecksumSeed(1, 2), ChecksumSeed(1, 3));
  // On disk: must not change.
  EXPECT_EQ(ChecksumSeed(1, 2),
            StructureChecksum(std::string_view("\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0", 16)));
}

TEST(ChecksumTest, ChunkCount) {
  EXPECT_EQ(ChecksumChunkCount(1), 1u);
  EXPECT_EQ(ChecksumChunkCount(kChecksumChunkBytes), 1u);
  EXPECT_EQ(ChecksumChunkCount(kChecksumChunkBytes + 1), 2u);
}

}  // namespace
}  // namespace cairn
