#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/disk_fixture.h"
#include "tests/store_fixture.h"

namespace cairn {

inline constexpr uint64_t kTensorBytes = 100'000;
inline constexpr int kTensors = 60;

// A store whose data files are spread over several directories, as over several drives.
class DataPathsTest : public StoreTest {
 protected:
  void MakeDrives(int count) {
    for (int i = 0; i < count; ++i) {
      options_.data_paths.push_back(Drive(i));
      std::filesystem::create_directory(Drive(i));
    }
  }
  std::string Drive(int number) const { return drives_ / absl::StrCat("drive", number); }

  // The store's own folder there.
  static std::string FolderIn(const std::string& drive) {
    std::string found;
    for (const auto& entry : std::filesystem::directory_iterator(drive)) {
      if (!entry.path().filename().string().starts_with("cairn-")) continue;
      EXPECT_EQ(found, "") << "a second one in " << drive;
      found = entry.path().string();
    }
    return found;
  }
  uint64_t BytesOfAll() const {
    uint64_t bytes = BytesOnDisk(directory_);
    for (const std::string& drive : options_.data_paths) bytes += BytesOnDisk(drive);
    return bytes;
  }

  void PutSome(int count = kTensors, uint64_t version = 0) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(
          Put(absl::StrCat("k", i), kTensorBytes, version, {.durability = Durability::kOnDevice})
              .ok());
    }
  }
  void ExpectSome(int count = kTensors, uint64_t version = 0) {
    for (int i = 0; i < count; ++i) Expect(absl::StrCat("k", i), kTensorBytes, version);
  }
  absl::Status OpenStatus() const { return OpenStore(options_, {}).status(); }

  // Refused by name, and nothing that is there changes.
  void ExpectRefused(std::string_view text) {
    const auto before = Snapshot(directory_);
    const auto drives_before = Snapshot(drives_.path());
    ExpectStatus(OpenStatus(), absl::StatusCode::kFailedPrecondition, text);
    EXPECT_EQ(Snapshot(directory_), before);
    EXPECT_EQ(Snapshot(drives_.path()), drives_before);
  }
  void ExpectWhole() {
    Open();
    EXPECT_EQ(store_->Stats().recovery_dropped, 0u);
    // What else is said is of the machine.
    EXPECT_THAT(log_, ::testing::Not(::testing::Contains(::testing::HasSubstr(".data"))));
    ExpectSome();
    Close();
  }

  TemporaryDirectory drives_;
};

}  // namespace cairn
