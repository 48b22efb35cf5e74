#include "tiers/stream_points.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/faulty_device.h"
#include "tiers/host_device.h"

namespace cairn {
namespace {

class StreamPointsTest : public testing::Test {
 protected:
  std::shared_ptr<StreamPoint> Next(StreamRef stream) { return *points_.Next(stream); }
  void LookUntilIdle() {
    while (!points_.idle()) points_.Look();
  }

  FaultyDevice device_{NewHostDevice({.delay_us_max = 200, .delay_seed = 3})};
  const StreamRef first_ = *device_.CreateStream();
  const StreamRef second_ = *device_.CreateStream();
  StreamPoints points_{&device_};
};

TEST_F(StreamPointsTest, OneEventIsOfAllThatAskedBeforeIt) {
  const auto gate = device_.Hold(first_);
  const auto point = Next(first_);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(Next(first_), point);
  EXPECT_NE(Next(second_), point);
  EXPECT_EQ(device_.records, 0);
  EXPECT_TRUE(points_.Record(first_).ok());
  EXPECT_EQ(device_.records, 1) << "and none on the other stream";
  EXPECT_NE(Next(first_), point);
  points_.Look();
  EXPECT_FALSE(point->reached());
  gate->Open();
  LookUntilIdle();
  EXPECT_TRUE(point->reached());
  EXPECT_EQ(device_.records, 3);
}

// However often the thread looks while a stream is late.
TEST_F(StreamPointsTest, AStreamThatIsLateHasFewEvents) {
  const auto gate = device_.Hold(first_);
  std::vector<std::shared_ptr<StreamPoint>> asked;
  for (int i = 0; i < 1000; ++i) {
    asked.push_back(Next(first_));
    EXPECT_FALSE(points_.Look());
  }
  EXPECT_EQ(device_.records, StreamPoints::kEventsAheadMax);
  gate->Open();
  LookUntilIdle();
  for (const auto& point : asked) EXPECT_TRUE(point->reached());
  EXPECT_LE(device_.records, StreamPoints::kEventsAheadMax + 1);
}

TEST_F(StreamPointsTest, AnotherStreamWaitsOnTheDevice) {
  const auto gate = device_.Hold(first_);
  const auto point = Next(first_);
  ASSERT_TRUE(point->LetWait(second_).ok());
  const auto behind = *device_.Record(second_);
  points_.Look();
  EXPECT_FALSE(*behind->Reached());
  gate->Open();
  EXPECT_TRUE(behind->Wait().ok());
  LookUntilIdle();
  EXPECT_TRUE(point->reached());
  EXPECT_TRUE(point->LetWait(second_).ok());
}

TEST_F(StreamPointsTest, WhatTheDeviceRefusesEndsWithAllThatItDoes) {
  const auto point = Next(first_);
  device_.records_to_refuse = 1;
  EXPECT_TRUE(absl::IsUnavailable(point->LetWait(second_)));
  EXPECT_FALSE(point->reached());
  EXPECT_FALSE(points_.idle());
  device_.setups = 0;
  EXPECT_TRUE(points_.Look());
  EXPECT_EQ(device_.setups, 1) << "the whole device was waited for";
  EXPECT_TRUE(point->reached());
  EXPECT_TRUE(points_.idle());
}

TEST_F(StreamPointsTest, AtOnceMeansThatTheDriverIsAskedInTheCall) {
  const auto before = Next(first_);
  points_.RecordAtOnce();
  EXPECT_TRUE(points_.RecordAll().ok());
  EXPECT_EQ(device_.records, 1);
  EXPECT_NE(Next(first_), Next(first_));
  EXPECT_EQ(device_.records, 3);
  device_.records_to_refuse = 1;
  EXPECT_TRUE(absl::IsUnavailable(points_.Next(first_).status()));
  LookUntilIdle();
  EXPECT_TRUE(before->reached());
}

TEST_F(StreamPointsTest, AStreamOfAnotherDeviceIsRefused) {
  const StreamRef elsewhere = {.stream = first_.stream, .device = 1};
  EXPECT_TRUE(absl::IsInvalidArgument(points_.Next(elsewhere).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(points_.Record(elsewhere)));
  EXPECT_TRUE(points_.Record(first_).ok());
  EXPECT_TRUE(points_.idle());
}

}  // namespace
}  // namespace cairn
