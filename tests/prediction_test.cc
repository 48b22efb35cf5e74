// What is guessed of the next key: by what followed it before, and by its number.

#include <atomic>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "src/prediction/predictor.h"

namespace cairn {
namespace {

// Hashes as those of keys are: all bits differ.
uint64_t Hash(uint64_t number) { return (number + 1) * 0x9e3779b97f4a7c15; }

TEST(Successors, KnowWhatFollowedUntilItIsAnother) {
  Successors successors(1024);
  EXPECT_EQ(successors.After(Hash(1)), 0u);
  successors.Learn(Hash(1), Hash(2));
  EXPECT_EQ(successors.After(Hash(1)), Hash(2));
  // Nobody can say, until it has been the same twice.
  successors.Learn(Hash(1), Hash(3));
  EXPECT_EQ(successors.After(Hash(1)), 0u);
  successors.Learn(Hash(1), Hash(4));
  EXPECT_EQ(successors.After(Hash(1)), 0u);
  successors.Learn(Hash(1), Hash(4));
  EXPECT_EQ(successors.After(Hash(1)), Hash(4));
  EXPECT_EQ(successors.After(Hash(2)), 0u);
}

TEST(Successors, ForgetTheOldestOfALineThatIsFull) {
  Successors successors(1);
  EXPECT_EQ(successors.memory_bytes(), 64u);
  for (uint64_t i = 0; i < 5; ++i) successors.Learn(Hash(i), Hash(i + 100));
  EXPECT_EQ(successors.After(Hash(0)), 0u);
  for (uint64_t i = 1; i < 5; ++i) EXPECT_EQ(successors.After(Hash(i)), Hash(i + 100));
}

TEST(Successors, KeepAsManyAsTheyAreMadeFor) {
  constexpr uint64_t kKeys = 1 << 16;
  Successors successors(kKeys * 2);
  EXPECT_EQ(successors.memory_bytes(), kKeys * 2 * 16);
  for (uint64_t i = 0; i < kKeys; ++i) successors.Learn(Hash(i), Hash(i + 1));
  uint64_t known = 0;
  for (uint64_t i = 0; i < kKeys; ++i) known += successors.After(Hash(i)) == Hash(i + 1) ? 1 : 0;
  // A line has four places, and two keys on average.
  EXPECT_GE(known, kKeys * 9 / 10);
}

// Whatever they learn at one moment: a guess is a key that somebody has learned.
TEST(Successors, ThreadsMayLearnAtOnce) {
  constexpr uint64_t kKeys = 64;
  Successors successors(16);
  std::vector<std::thread> threads;
  std::atomic<uint64_t> strange = 0;
  for (uint64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937_64 random(thread);
      for (int i = 0; i < 20000; ++i) {
        successors.Learn(Hash(random() % kKeys), Hash(random() % kKeys));
        const uint64_t next = successors.After(Hash(random() % kKeys));
        bool known = next == 0;
        for (uint64_t key = 0; key < kKeys; ++key) known = known || next == Hash(key);
        strange += known ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(strange, 0u);
}

std::vector<uint64_t> Guesses(ReadStream& stream, size_t ahead, const Successors& successors) {
  std::vector<uint64_t> guesses;
  while (const uint64_t guess = stream.Next(ahead, successors)) guesses.push_back(guess);
  return guesses;
}

TEST(ReadStream, FollowsAReaderByAsManyKeysAsItMay) {
  Successors successors(1024);
  ReadStream first;
  for (uint64_t i = 0; i < 6; ++i) EXPECT_TRUE(first.Read(Hash(i), successors));
  EXPECT_TRUE(Guesses(first, 3, successors).empty());
  ReadStream second;
  EXPECT_TRUE(Guesses(second, 3, successors).empty());
  second.Read(Hash(0), successors);
  EXPECT_EQ(Guesses(second, 3, successors), (std::vector{Hash(1), Hash(2), Hash(3)}));
  EXPECT_TRUE(second.Read(Hash(1), successors));
  EXPECT_EQ(Guesses(second, 3, successors), (std::vector{Hash(4)}));
  // Elsewhere: what was guessed is void, and the new way is learned.
  EXPECT_FALSE(second.Read(Hash(9), successors));
  EXPECT_TRUE(Guesses(second, 3, successors).empty());
  EXPECT_EQ(successors.After(Hash(1)), 0u);
}

TEST(ReadStream, LearnsNothingOverABreak) {
  Successors successors(1024);
  ReadStream stream;
  stream.Read(Hash(0), successors);
  stream.Break();
  stream.Read(Hash(1), successors);
  EXPECT_EQ(successors.After(Hash(0)), 0u);
  // Nor of a key that is read twice.
  stream.Read(Hash(1), successors);
  EXPECT_EQ(successors.After(Hash(1)), 0u);
}

TEST(ReadStream, GoesRoundARing) {
  Successors successors(1024);
  ReadStream stream;
  for (uint64_t i = 0; i < 300; ++i) stream.Read(Hash(i), successors);
  ReadStream again;
  for (uint64_t i = 0; i + 64 < 299; ++i) {
    EXPECT_TRUE(again.Read(Hash(i), successors));
    const std::vector<uint64_t> guesses = Guesses(again, 1000, successors);
    ASSERT_EQ(guesses.size(), i == 0 ? ReadStream::kAheadMax : 1u);
    EXPECT_EQ(guesses.back(), Hash(i + 64));
  }
}

std::vector<std::string> GuessesAfter(Stride& stride, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) stride.Read(key);
  std::vector<std::string> guesses;
  while (std::optional<std::string> guess = stride.Next(keys.back())) guesses.push_back(*guess);
  return guesses;
}

TEST(Stride, ThreeAtOneDistanceHaveAFourth) {
  Stride stride;
  EXPECT_TRUE(GuessesAfter(stride, {"layer/7", "layer/9"}).empty());
  const std::vector<std::string> guesses = GuessesAfter(stride, {"layer/11"});
  ASSERT_EQ(guesses.size(), Stride::kAhead);
  EXPECT_EQ(guesses.front(), "layer/13");
  EXPECT_EQ(guesses.back(), "layer/27");
  EXPECT_EQ(GuessesAfter(stride, {"layer/13"}), std::vector<std::string>{"layer/29"});
  EXPECT_TRUE(GuessesAfter(stride, {"layer/20"}).empty());
}

TEST(Stride, KeepsZerosAndGoesDownToZero) {
  Stride padded;
  EXPECT_EQ(GuessesAfter(padded, {"t007", "t008", "t009"}).front(), "t010");
  Stride down;
  EXPECT_EQ(GuessesAfter(down, {"t4", "t3", "t2"}), (std::vector<std::string>{"t1", "t0"}));
}

TEST(Stride, OtherRowsAndOtherKeysEndIt) {
  Stride stride;
  EXPECT_TRUE(GuessesAfter(stride, {"a1", "a2", "b3"}).empty());
  EXPECT_TRUE(GuessesAfter(stride, {"a1", "a1", "a1"}).empty());
  EXPECT_TRUE(GuessesAfter(stride, {"x", "y", "z", ""}).empty());
  EXPECT_TRUE(GuessesAfter(stride, {"1", "3", "8"}).empty());
  EXPECT_EQ(GuessesAfter(stride, {"1", "2", "3"}).front(), "4");
  // More digits than a number has room for are in part of the row.
  EXPECT_EQ(GuessesAfter(
                stride, {"123456789123456789001", "123456789123456789002", "123456789123456789003"})
                .front(),
            "123456789123456789004");
}

TEST(Predictor, AThreadBeginsAnewInEachStore) {
  Predictor one(64);
  Predictor other(64);
  one.ThisReader().stream.Read(Hash(1), one.successors());
  one.ThisReader().token = 7;
  EXPECT_EQ(one.ThisReader().token, 7u);
  EXPECT_EQ(other.ThisReader().token, 0u);
  one.ThisReader().stream.Read(Hash(2), one.successors());
  EXPECT_EQ(one.successors().After(Hash(1)), 0u);
}

}  // namespace
}  // namespace cairn
