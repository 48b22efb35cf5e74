// How the bytes of a store are divided into files.

#include "io/store_layout.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "io/data_file.h"
#include "io/data_folders.h"
#include "io/store_files.h"
#include "tests/disk_fixture.h"

namespace cairn {
namespace {

using ::testing::SizeIs;

TEST(StoreLayoutTest, IndexIsASixtyFourthWithinBounds) {
  EXPECT_EQ(StoreFiles::IndexBytesReserved(32_MiB), 8_MiB);
  EXPECT_EQ(StoreFiles::IndexBytesReserved(1_GiB), 16_MiB);
  EXPECT_EQ(StoreFiles::IndexBytesReserved(uint64_t{1} << 50), 4_GiB);
}

TEST(StoreLayoutTest, SmallStoresGetTwoFilesOrMore) {
  EXPECT_EQ(ChooseDataFileBytes(uint64_t{8} << 40), 1_GiB);
  EXPECT_EQ(ChooseDataFileBytes(uint64_t{16} << 30), 256_MiB);
  EXPECT_EQ(ChooseDataFileBytes(uint64_t{256} << 30), 512_MiB);
  EXPECT_EQ(ChooseDataFileBytes(512_MiB), 256_MiB);
  EXPECT_EQ(ChooseDataFileBytes(511_MiB), 254_MiB);
  EXPECT_EQ(ChooseDataFileBytes(20_MiB), 16_MiB);
  EXPECT_THAT(PlanFiles(24_MiB - 4096, 16_MiB), ::testing::ElementsAre(16_MiB, 8_MiB - 4096));
  EXPECT_THAT(PlanFiles(33_MiB - 1, 16_MiB), ::testing::ElementsAre(16_MiB, 16_MiB));
  EXPECT_THAT(PlanFiles(33_MiB, 16_MiB), ::testing::ElementsAre(16_MiB, 16_MiB, 1_MiB));
  EXPECT_THAT(PlanFiles(1_MiB - 1, 16_MiB), SizeIs(0));
}

TEST(StoreLayoutTest, EveryFolderGetsAsManyFiles) {
  for (const uint64_t folders : {2, 3, 4, 7}) {
    for (const uint64_t data_bytes : {112_MiB, 777_MiB, 2_GiB - 4096, 16_GiB}) {
      const uint64_t file_bytes = ChooseDataFileBytes(data_bytes, folders);
      EXPECT_LE(file_bytes, 1_GiB);
      EXPECT_EQ(PlanFiles(data_bytes, file_bytes).size() % folders, 0u)
          << data_bytes << " bytes in " << folders;
    }
  }
  EXPECT_EQ(ChooseDataFileBytes(40_MiB - 4096, 2), 20_MiB);
  EXPECT_EQ(ChooseDataFileBytes(40_MiB - 4096, 3), 16_MiB);
  EXPECT_EQ(ChooseDataFileBytes(uint64_t{8} << 40, 4), 1_GiB);
}

// Whatever the weights: the shares are exact, where files need not be smaller than they may.
TEST(StoreLayoutTest, FilesAreWholePeriods) {
  const std::vector<std::vector<uint32_t>> all = {{3, 1}, {1, 1, 6}, {5, 4, 4}, {64, 63}};
  for (const std::vector<uint32_t>& weights : all) {
    const std::vector<std::string> paths(weights.size(), "/drive");
    const DataFolders folders("/store", {}, paths, weights);
    for (const uint64_t data_bytes : {2_GiB - 4096, 5_GiB + 12345, 1000_GiB, 4000_GiB}) {
      const uint64_t file_bytes = ChooseDataFileBytes(data_bytes, folders.period());
      EXPECT_LE(file_bytes, 1_GiB + 2_MiB);
      const std::vector<uint64_t> files = PlanFiles(data_bytes, file_bytes);
      std::vector<double> bytes_of(weights.size());
      for (size_t i = 0; i < files.size(); ++i) {
        bytes_of[folders.FolderOf(i)] += static_cast<double>(files[i]);
      }
      for (size_t i = 0; i < weights.size(); ++i) {
        const double share =
            static_cast<double>(data_bytes) * weights[i] / static_cast<double>(folders.period());
        EXPECT_NEAR(bytes_of[i], share, 2 * static_cast<double>(file_bytes));
      }
    }
  }
  EXPECT_EQ(ChooseDataFileBytes(128_MiB - 4096, 4), 32_MiB);
  EXPECT_EQ(ChooseDataFileBytes(16_GiB, 127), 130_MiB);
}

TEST(StoreLayoutTest, NamesOfDataFiles) {
  EXPECT_EQ(DataFilePath("d", 7), "d/000007.data");
  EXPECT_EQ(DataFileNumber("000007.data"), 7);
  EXPECT_EQ(DataFileNumber("1234567.data"), 1234567);
  for (const char* name : {"7.data", "0000007.data", "000007.dat", "+00007.data", "x00007.data",
                           "000007.data~", ".data", "99999999999.data", "-00001.data"}) {
    EXPECT_EQ(DataFileNumber(name), -1) << name;
  }
}

}  // namespace
}  // namespace cairn
