// Media that lose, tear or misplace what was written: every case of a kind, not a sample.

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/disk_fixture.h"
#include "tests/faulty_io.h"
#include "tests/process.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;
using Fault = FaultyIo::Fault;
using FaultKind = FaultyIo::Kind;

constexpr uint64_t kBlock = 4096;

// How a tensor lies on L3: payload, and what describes it, which no read of the tensor needs.
struct Layout {
  const char* name;
  uint64_t payload_blocks;
  bool description_first;

  uint64_t payload_bytes() const { return payload_blocks * kBlock; }
  uint64_t blocks() const { return payload_blocks + 1; }
  uint64_t payload_mask() const {
    return ((uint64_t{1} << payload_blocks) - 1) << (description_first ? 1 : 0);
  }
  friend void PrintTo(const Layout& layout, std::ostream* out) { *out << layout.name; }
};
constexpr Layout kRecord = {.name = "Record", .payload_blocks = 16, .description_first = true};
constexpr Layout kPackOfOne = {.name = "Pack", .payload_blocks = 15, .description_first = false};

class ScoreboardMediaTest : public StoreTest, public ::testing::WithParamInterface<Layout> {
 protected:
  void OpenFaulty() { Open(WrappedIn(&io_)); }
  void PutOnL3(const std::string& key, uint64_t version = 0) {
    ASSERT_TRUE(Put(key, GetParam().payload_bytes(), version).ok());
    ASSERT_TRUE(store_->Evict(key, Level::kL3Nvme).ok());
  }
  // Where a tensor's first block lies in the data files.
  struct Place {
    std::string file;
    uint64_t offset = 0;
  };
  Place PlaceOf(const std::string& key) const {
    const std::vector<std::byte> content = ContentOf(key, kBlock);
    const std::string_view block(reinterpret_cast<const char*>(content.data()), kBlock);
    for (const auto& file : std::filesystem::directory_iterator(directory_ / "data")) {
      const size_t offset = ReadFile(file.path()).find(block);
      if (offset != std::string::npos) return {file.path(), offset};
    }
    ADD_FAILURE() << key << " is in no data file";
    return {};
  }
  // Of what is written while the plan is in place, `blocks` of them, only these reach the medium.
  void TearNextWrite(uint64_t mask, uint64_t blocks) {
    io_->SetPlan([mask, blocks](const IoOp& op, uint64_t) -> Fault {
      if (op.kind != IoOp::Kind::kWrite) return {};
      EXPECT_EQ(op.byte_count(), blocks * kBlock);
      return {.kind = FaultKind::kTear, .where = mask};
    });
  }
  void ExpectTornIsSeen(uint64_t mask) {
    SCOPED_TRACE(absl::StrCat("blocks ", absl::Hex(mask)));
    const std::string key = absl::StrCat("torn", mask);
    // What lay there before must not look like it, were it the same tensor.
    PutOnL3(key, 1);
    TearNextWrite(mask, GetParam().blocks());
    PutOnL3(key, 2);
    io_->SetPlan(nullptr);
    if ((mask & GetParam().payload_mask()) == GetParam().payload_mask()) {
      Expect(key, GetParam().payload_bytes(), 2);
    } else {
      ExpectStatus(GetStatus(key), StatusCode::kDataLoss, key);
      EXPECT_EQ(store_->CountLeading({key}, {})->count, 0u);
      ++torn_;
    }
    ASSERT_TRUE(store_->Erase(key).ok());
    EXPECT_EQ(store_->Stats().checksum_failures, torn_);
  }

  FaultyIo* io_ = nullptr;
  uint64_t torn_ = 0;
};

TEST_P(ScoreboardMediaTest, AWriteTornAtEveryBoundaryIsNeverReturned) {
  OpenFaulty();
  for (uint64_t boundary = 1; boundary < GetParam().blocks(); ++boundary) {
    const uint64_t first = (uint64_t{1} << boundary) - 1;
    ExpectTornIsSeen(first);
    ExpectTornIsSeen(~first);
  }
  EXPECT_EQ(torn_, 2 * GetParam().payload_blocks - 1);
}

TEST_P(ScoreboardMediaTest, AWriteWithoutAnyOneBlockIsReturnedOnlyWhenThePayloadIsWhole) {
  OpenFaulty();
  for (uint64_t block = 0; block < GetParam().blocks(); ++block) {
    ExpectTornIsSeen(~(uint64_t{1} << block));
  }
  EXPECT_EQ(torn_, GetParam().payload_blocks);
}

TEST_P(ScoreboardMediaTest, AWriteThatLandsOnAnotherTensorIsNeitherOfThem) {
  OpenFaulty();
  uint64_t offset = 0;
  io_->SetPlan([&offset](const IoOp& op, uint64_t) -> Fault {
    if (op.kind == IoOp::Kind::kWrite) offset = op.offset;
    return {};
  });
  PutOnL3("first");
  io_->SetPlan([&offset](const IoOp& op, uint64_t) -> Fault {
    if (op.kind != IoOp::Kind::kWrite) return {};
    return {.kind = FaultKind::kMisdirect, .where = offset};
  });
  PutOnL3("second");
  io_->SetPlan(nullptr);
  ExpectStatus(GetStatus("first"), StatusCode::kDataLoss, "first");
  ExpectStatus(GetStatus("second"), StatusCode::kDataLoss, "second");
}

// Both whole, each in the other's place, with all that describes them.
TEST_P(ScoreboardMediaTest, SwappedTensorsAreNeitherOfThem) {
  const uint64_t bytes = GetParam().blocks() * kBlock;
  const uint64_t bytes_before = GetParam().description_first ? kBlock : 0;
  Open();
  PutOnL3("first");
  PutOnL3("second");
  Close();
  std::vector<Place> places;
  std::vector<std::string> images;
  for (const std::string key : {"first", "second"}) {
    places.push_back(PlaceOf(key));
    places.back().offset -= bytes_before;
    images.push_back(ReadFile(places.back().file).substr(places.back().offset, bytes));
  }
  for (const size_t i : {0u, 1u}) {
    std::fstream stream(places[i].file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(places[i].offset));
    stream.write(images[1 - i].data(), static_cast<std::streamsize>(bytes));
  }
  Open();
  ExpectStatus(GetStatus("first"), StatusCode::kDataLoss, "first");
  ExpectStatus(GetStatus("second"), StatusCode::kDataLoss, "second");
}

// Random places of the data files and of the superblock: whatever a byte means there, no read
// brings wrong bytes.
TEST_P(ScoreboardMediaTest, RandomFlippedBitsNeverGiveWrongBytes) {
  const uint64_t seed = std::random_device{}();
  std::printf("seed %lu\n", static_cast<unsigned long>(seed));
  std::mt19937_64 random(seed);
  Open();
  for (int i = 0; i < 60; ++i) PutOnL3(absl::StrCat("k", i));
  Close();
  for (const auto& file : std::filesystem::directory_iterator(directory_ / "data")) {
    std::fstream stream(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    // The first MiBs, where the tensors are; not the header, without which a file is lost.
    const uint64_t range = std::min(4 * kMiB, file.file_size() - kBlock);
    for (int flip = 0; flip < 30; ++flip) {
      const auto at = static_cast<std::streamoff>(kBlock + random() % range);
      stream.seekg(at);
      const int byte = stream.get();
      stream.seekp(at);
      stream.put(static_cast<char>(byte ^ (1 << random() % 8)));
    }
    ASSERT_TRUE(stream.good()) << file.path();
  }
  Open();
  uint64_t lost = 0;
  for (int i = 0; i < 60; ++i) {
    const std::string key = absl::StrCat("k", i);
    if (absl::IsDataLoss(GetStatus(key))) {
      ++lost;
    } else {
      Expect(key, GetParam().payload_bytes());
    }
  }
  EXPECT_GT(lost, 0u);
  EXPECT_EQ(store_->Stats().checksum_failures, lost);
}

INSTANTIATE_TEST_SUITE_P(Layouts, ScoreboardMediaTest, ::testing::Values(kRecord, kPackOfOne),
                         [](const auto& tested) { return std::string(tested.param.name); });

class ScoreboardPackTest : public ScoreboardMediaTest {
 protected:
  static constexpr uint64_t kMembers = 12;

  // Of a block each, in one write: member i is block i of it.
  void PutMembers(uint64_t version) {
    AlignedBuffer buffer(kMembers * kBlock);
    std::vector<std::string> keys;
    std::vector<ConstPiece> pieces;
    for (uint64_t i = 0; i < kMembers; ++i) {
      keys.push_back(absl::StrCat("member", i));
      pieces.push_back({buffer.data() + i * kBlock, kBlock});
      const std::vector<std::byte> content = ContentOf(keys.back(), kBlock, version);
      std::memcpy(buffer.data() + i * kBlock, content.data(), kBlock);
    }
    std::vector<PutRequest> requests;
    for (uint64_t i = 0; i < kMembers; ++i) {
      requests.push_back(
          {.key = keys[i], .meta = TensorMeta::Bytes(kBlock), .pieces = {&pieces[i], 1}});
    }
    for (const absl::Status& status : store_->PutFrom(requests, {})) {
      ASSERT_TRUE(status.ok()) << status;
    }
  }
};

TEST_F(ScoreboardPackTest, APackTornAtEveryBoundaryLosesTheMembersBehindItAndNoOther) {
  OpenFaulty();
  for (uint64_t boundary = 0; boundary <= kMembers; ++boundary) {
    TearNextWrite((uint64_t{1} << boundary) - 1, kMembers + 1);
    PutMembers(boundary);
    io_->SetPlan(nullptr);
    for (uint64_t i = 0; i < kMembers; ++i) {
      const std::string key = absl::StrCat("member", i);
      if (i < boundary) {
        Expect(key, kBlock, boundary);
      } else {
        ExpectStatus(GetStatus(key), StatusCode::kDataLoss, key);
      }
    }
  }
}

#ifdef CAIRN_STORE_INSPECT
TEST_F(ScoreboardPackTest, InspectNamesWhatEveryFlippedByteOfAPackDamages) {
  Open();
  PutMembers(0);
  Close();
  const Place pack = PlaceOf("member0");
  const TemporaryDirectory output;
  const auto verify = [&](int exit_code) {
    const ProcessEnd end =
        Process(output.path(), {CAIRN_STORE_INSPECT, "verify", "--json", options_.path}).Wait();
    EXPECT_EQ(end.exit_code, exit_code) << end.out << end.err;
    return nlohmann::json::parse(end.out, nullptr, false)["damaged"];
  };
  EXPECT_EQ(verify(0).size(), 0u);
  for (uint64_t at = 5; at < (kMembers + 1) * kBlock; at += 2003) {
    SCOPED_TRACE(at);
    FlipByte(pack.file, pack.offset + at);
    const nlohmann::json damaged = verify(1);
    const uint64_t member = at / kBlock;
    ASSERT_EQ(damaged.size(), member < kMembers ? 1 : kMembers);
    if (member < kMembers) {
      EXPECT_EQ(damaged[0]["key"], absl::StrCat("member", member));
    }
    EXPECT_EQ(damaged[0]["what"], member < kMembers ? "payload" : "header");
    FlipByte(pack.file, pack.offset + at);
  }
}
#endif

TEST_F(ScoreboardPackTest, ABlockThatIsLostIsOneMemberLost) {
  OpenFaulty();
  for (uint64_t lost = 0; lost <= kMembers; ++lost) {  // The last is the table.
    TearNextWrite(~(uint64_t{1} << lost), kMembers + 1);
    PutMembers(lost);
    io_->SetPlan(nullptr);
    for (uint64_t i = 0; i < kMembers; ++i) {
      const std::string key = absl::StrCat("member", i);
      if (i != lost) {
        Expect(key, kBlock, lost);
      } else {
        ExpectStatus(GetStatus(key), StatusCode::kDataLoss, key);
      }
    }
  }
}

}  // namespace
}  // namespace cairn
