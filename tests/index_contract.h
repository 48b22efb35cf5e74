#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "io/index.h"
#include "io/raw_index.h"
#include "tests/disk_fixture.h"

namespace cairn {

// What every Index does. A test instantiates it with a type that has `std::unique_ptr<RawIndex>
// Open()`: a new, empty one.
template <typename Maker>
class IndexContract : public ::testing::Test {
 protected:
  using Entry = std::pair<std::string, uint64_t>;  // "fingerprint number:key", sequence.

  static IndexEdit Put(IndexKey key, uint64_t sequence) {
    return {.kind = IndexEdit::Kind::kPut,
            .key = key,
            .record = SampleRecord("", key.key, TensorMeta::Of(DType::kBf16, {2, 28, 8, 16, 128}),
                                   4096, sequence)};
  }
  static IndexEdit Delete(IndexKey key) { return {.kind = IndexEdit::Kind::kDelete, .key = key}; }

  std::vector<Entry> Entries(std::vector<std::string>* damaged = nullptr) const {
    std::vector<Entry> entries;
    const auto visit = [&](IndexKey key, const IndexRecord& record) {
      entries.emplace_back(absl::StrCat(key.fingerprint_id, ":", std::string(key.key)),
                           record.sequence);
      return true;
    };
    const auto note = [&](std::string_view raw_key, const absl::Status& status) {
      EXPECT_TRUE(absl::IsDataLoss(status)) << status;
      if (damaged != nullptr) damaged->emplace_back(raw_key);
      return true;
    };
    EXPECT_TRUE(index_->ForEach({.record = visit, .damaged = note}).ok());
    return entries;
  }

  Maker maker_;
  std::unique_ptr<RawIndex> index_ = maker_.Open();
};
TYPED_TEST_SUITE_P(IndexContract);

TYPED_TEST_P(IndexContract, FindsWhatWasCommitted) {
  const IndexEdit edit = this->Put({1, "key"}, 5);
  EXPECT_TRUE(absl::IsNotFound(this->index_->Find({1, "key"}).status()));
  ASSERT_TRUE(this->index_->Commit({edit}, true).ok());
  const absl::StatusOr<IndexRecord> found = this->index_->Find({1, "key"});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(SameRecord(*found, edit.record));
  EXPECT_TRUE(absl::IsNotFound(this->index_->Find({2, "key"}).status()));
  EXPECT_TRUE(absl::IsNotFound(this->index_->Find({1, "ke"}).status()));
  ASSERT_TRUE(this->index_->Sync().ok());
}

TYPED_TEST_P(IndexContract, CommitsInOrder) {
  ASSERT_TRUE(this->index_
                  ->Commit({this->Put({1, "a"}, 1), this->Put({1, "a"}, 2), this->Put({1, "b"}, 3),
                            this->Delete({1, "b"}), this->Delete({1, "c"}), this->Put({1, "c"}, 4)},
                           false)
                  .ok());
  EXPECT_EQ(this->index_->Find({1, "a"})->sequence, 2u);
  EXPECT_TRUE(absl::IsNotFound(this->index_->Find({1, "b"}).status()));
  EXPECT_EQ(this->index_->Find({1, "c"})->sequence, 4u);
  EXPECT_TRUE(this->index_->Commit({}, false).ok());
}

TYPED_TEST_P(IndexContract, VisitsInOrderOfFingerprintAndKey) {
  const std::string zeros("\0\0", 2);
  ASSERT_TRUE(
      this->index_
          ->Commit({this->Put({300, "a"}, 1), this->Put({2, "b"}, 2), this->Put({2, "ab"}, 3),
                    this->Put({2, "a"}, 4), this->Put({2, "\xff"}, 5), this->Put({2, zeros}, 6),
                    this->Put({70000, std::string(255, 'x')}, 7)},
                   false)
          .ok());
  using Pair = std::pair<std::string, uint64_t>;
  EXPECT_EQ(this->Entries(), (std::vector<Pair>{{"2:" + zeros, 6},
                                                {"2:a", 4},
                                                {"2:ab", 3},
                                                {"2:b", 2},
                                                {"2:\xff", 5},
                                                {"300:a", 1},
                                                {"70000:" + std::string(255, 'x'), 7}}));
}

TYPED_TEST_P(IndexContract, EndsEarlyWhenTheVisitorSaysSo) {
  ASSERT_TRUE(this->index_->Commit({this->Put({1, "a"}, 1), this->Put({1, "b"}, 2)}, false).ok());
  int visits = 0;
  const auto visit = [&](IndexKey, const IndexRecord&) {
    ++visits;
    return false;
  };
  const auto damaged = [](std::string_view, const absl::Status&) { return true; };
  EXPECT_TRUE(this->index_->ForEach({.record = visit, .damaged = damaged}).ok());
  EXPECT_EQ(visits, 1);
}

TYPED_TEST_P(IndexContract, VisitorMayChangeTheIndex) {
  ASSERT_TRUE(this->index_->Commit({this->Put({1, "a"}, 1), this->Put({1, "b"}, 2)}, false).ok());
  const auto visit = [&](IndexKey key, const IndexRecord&) {
    return this->index_->Commit({this->Delete(key)}, false).ok();
  };
  const auto damaged = [](std::string_view, const absl::Status&) { return true; };
  EXPECT_TRUE(this->index_->ForEach({.record = visit, .damaged = damaged}).ok());
  EXPECT_TRUE(this->Entries().empty());
}

TYPED_TEST_P(IndexContract, HandsOverDamagedEntriesAndRemovesThem) {
  ASSERT_TRUE(this->index_->Commit({this->Put({1, "a"}, 1), this->Put({1, "b"}, 2)}, false).ok());
  const std::string raw_key = EncodeIndexKey({1, "a"});
  std::string value = *this->index_->ReadRaw(raw_key);
  value[20] ^= 1;
  const std::string fingerprint_key = EncodeFingerprintKey(1);
  ASSERT_TRUE(this->index_
                  ->WriteRaw({{.key = raw_key, .value = value},
                              {.key = fingerprint_key, .value = "garbage"},
                              {.key = std::string(kNextFingerprintKey), .value = ""},
                              {.key = "foreign", .value = "x"}},
                             false)
                  .ok());
  EXPECT_TRUE(absl::IsDataLoss(this->index_->Find({1, "a"}).status()));
  std::vector<std::string> damaged;
  EXPECT_EQ(this->Entries(&damaged).size(), 1u);
  EXPECT_EQ(damaged, (std::vector<std::string>{fingerprint_key, "N", raw_key, "foreign"}));
  for (const std::string& key : damaged) ASSERT_TRUE(this->index_->DeleteRaw(key).ok());
  damaged.clear();
  EXPECT_EQ(this->Entries(&damaged).size(), 1u);
  EXPECT_TRUE(damaged.empty());
}

TYPED_TEST_P(IndexContract, NumbersFingerprintsOnce) {
  EXPECT_EQ(*this->index_->FingerprintId("llama"), 1u);
  EXPECT_EQ(*this->index_->FingerprintId(""), 2u);
  EXPECT_EQ(*this->index_->FingerprintId(std::string(255, '\0')), 3u);
  EXPECT_EQ(*this->index_->FingerprintId("llama"), 1u);
  EXPECT_TRUE(absl::IsInvalidArgument(this->index_->FingerprintId(std::string(256, 'x')).status()));
  const std::vector<Fingerprint> fingerprints = *this->index_->Fingerprints();
  ASSERT_EQ(fingerprints.size(), 3u);
  EXPECT_EQ(fingerprints[0].text, "llama");
  EXPECT_EQ(fingerprints[1].id, 2u);
  // Visited by ForEach, but not as tensors.
  EXPECT_TRUE(this->Entries().empty());
}

TYPED_TEST_P(IndexContract, NeverGivesANumberTwice) {
  EXPECT_EQ(*this->index_->FingerprintId("a"), 1u);
  EXPECT_EQ(*this->index_->FingerprintId("b"), 2u);
  ASSERT_TRUE(this->index_->DropFingerprint(2).ok());
  ASSERT_TRUE(this->index_->DropFingerprint(17).ok());
  EXPECT_EQ(this->index_->Fingerprints()->size(), 1u);
  EXPECT_EQ(*this->index_->FingerprintId("b"), 3u);
  // Not even when the entry that counts them is lost: tensors of a lost number may be there.
  ASSERT_TRUE(this->index_->Commit({this->Put({9, "k"}, 1)}, false).ok());
  ASSERT_TRUE(this->index_->DeleteRaw(kNextFingerprintKey).ok());
  EXPECT_EQ(*this->index_->FingerprintId("c"), 10u);
  ASSERT_TRUE(
      this->index_->WriteRaw({{.key = std::string(kNextFingerprintKey), .value = "garbage"}}, true)
          .ok());
  EXPECT_EQ(*this->index_->FingerprintId("d"), 11u);
}

TYPED_TEST_P(IndexContract, RestoresFingerprintsUnderTheirNumbers) {
  ASSERT_TRUE(this->index_->RestoreFingerprint({.id = 7, .text = "a"}).ok());
  ASSERT_TRUE(this->index_->RestoreFingerprint({.id = 3, .text = ""}).ok());
  EXPECT_EQ(*this->index_->FingerprintId("a"), 7u);
  EXPECT_EQ(*this->index_->FingerprintId(""), 3u);
  EXPECT_EQ(*this->index_->FingerprintId("new"), 8u);
  // Once more is no harm; anything else under a number or a text that is taken is.
  EXPECT_TRUE(this->index_->RestoreFingerprint({.id = 7, .text = "a"}).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(this->index_->RestoreFingerprint({.id = 7, .text = "b"})));
  EXPECT_TRUE(absl::IsAlreadyExists(this->index_->RestoreFingerprint({.id = 9, .text = "a"})));
  EXPECT_TRUE(absl::IsInvalidArgument(this->index_->RestoreFingerprint({.id = 0, .text = "c"})));
  EXPECT_EQ(this->index_->Fingerprints()->size(), 3u);
  // A number that was restored and dropped is not given again either.
  ASSERT_TRUE(this->index_->RestoreFingerprint({.id = 20, .text = "gone"}).ok());
  ASSERT_TRUE(this->index_->DropFingerprint(20).ok());
  EXPECT_EQ(*this->index_->FingerprintId("gone"), 21u);
}

REGISTER_TYPED_TEST_SUITE_P(IndexContract, FindsWhatWasCommitted, CommitsInOrder,
                            VisitsInOrderOfFingerprintAndKey, EndsEarlyWhenTheVisitorSaysSo,
                            VisitorMayChangeTheIndex, HandsOverDamagedEntriesAndRemovesThem,
                            NumbersFingerprintsOnce, NeverGivesANumberTwice,
                            RestoresFingerprintsUnderTheirNumbers);

}  // namespace cairn
