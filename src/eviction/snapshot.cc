#include "src/eviction/snapshot.h"

#include <algorithm>
#include <optional>

#include "io/checksum.h"
#include "io/little_endian.h"
#include "src/base/check.h"
#include "src/base/status_macros.h"
#include "src/eviction/chain_clock.h"
#include "src/eviction/ghost_list.h"
#include "src/eviction/node_queue.h"

namespace cairn {
namespace {

constexpr uint8_t kEnd = 4;  // As a kind, on disk.
constexpr size_t kHeadBytes = 6;
constexpr uint8_t kWorthUnit = 4;

uint8_t UsesAndWorth(const EvictionNode& node) {
  return static_cast<uint8_t>(NodeQueue::Uses(node) + kWorthUnit * (NodeQueue::Worth(node) + 1));
}

// Of a copy in its chain; where none was kept, its own.
uint8_t WorthOf(uint8_t uses_and_worth, const NodeQueue& queue, const EvictionNode& node) {
  const int worth = uses_and_worth / kWorthUnit - 1;
  return worth >= 0 && worth < kWorths ? static_cast<uint8_t>(worth) : queue.WorthOf(node);
}

void AppendRaw(uint8_t kind, const SnapshotPiece& piece, uint32_t count, std::string& bytes) {
  const size_t begin = bytes.size();
  bytes.resize(begin + kHeadBytes + piece.words.size() * 8 + piece.uses.size() +
               kStructureSumBytes);
  FieldWriter writer(bytes.data() + begin, bytes.size() - begin);
  writer.U8(kind);
  writer.U8(piece.number);
  writer.U32(count);
  for (const uint64_t word : piece.words) writer.U64(word);
  for (const uint8_t uses : piece.uses) writer.U8(uses);
  writer.U64(StructureChecksum(writer.written()));
}

absl::Status Damaged() { return absl::DataLossError("a piece is damaged or missing"); }

// Takes the next piece off the bytes; the number of all before it where it is the end.
absl::Status TakePiece(std::string_view& bytes, SnapshotPiece& piece,
                       std::optional<uint32_t>& end) {
  FieldReader head(bytes);
  const uint8_t kind = head.U8();
  piece.number = head.U8();
  const uint32_t count = head.U32();
  const bool copies = kind == static_cast<uint8_t>(SnapshotPiece::Kind::kCopies);
  const size_t words = kind == kEnd ? 0 : count;
  const size_t body_bytes = kHeadBytes + words * 8 + (copies ? words : 0);
  if (!head.ok() || bytes.size() < body_bytes + kStructureSumBytes || kind < 1 || kind > kEnd ||
      FieldReader(bytes.substr(body_bytes)).U64() !=
          StructureChecksum(bytes.substr(0, body_bytes))) {
    return Damaged();
  }
  piece.kind = static_cast<SnapshotPiece::Kind>(kind);
  piece.words.resize(words);
  piece.uses.resize(copies ? words : 0);
  for (uint64_t& word : piece.words) word = head.U64();
  for (uint8_t& uses : piece.uses) uses = head.U8();
  if (kind == kEnd) end = count;
  bytes.remove_prefix(body_bytes + kStructureSumBytes);
  return absl::OkStatus();
}

absl::Status ForEachPiece(std::string_view bytes,
                          absl::FunctionRef<void(const SnapshotPiece&)> visit) {
  SnapshotPiece piece;
  std::optional<uint32_t> end;
  for (uint32_t pieces = 0; !bytes.empty(); ++pieces) {
    CAIRN_RETURN_IF_ERROR(TakePiece(bytes, piece, end));
    if (end.has_value()) return bytes.empty() && *end == pieces ? absl::OkStatus() : Damaged();
    visit(piece);
  }
  return Damaged();
}

}  // namespace

SnapshotReader::SnapshotReader(EvictionPolicy* policy, uint64_t words_max)
    : policy_(policy), parts_(policy->parts()), words_left_(words_max) {}

bool SnapshotReader::Next(SnapshotPiece* piece) {
  *piece = {};
  if (!findings_read_) {
    findings_read_ = true;
    piece->words = policy_->Findings(words_left_);
    words_left_ -= piece->words.size();
    return true;
  }
  return NextGhosts(piece) || NextCopies(piece);
}

bool SnapshotReader::NextGhosts(SnapshotPiece* piece) {
  while (piece->words.empty() && ghosts_ < parts_.ghosts.size()) {
    GhostList& ghosts = *parts_.ghosts[ghosts_];
    if (!walking_) {
      // Each list has its part of what there is room for.
      left_ = std::min(ghosts.size(), words_left_ / (parts_.ghosts.size() - ghosts_));
      words_left_ -= left_;
      ghosts.BeginWalk(ghosts.size() - left_);
      walking_ = true;
    }
    piece->kind = SnapshotPiece::Kind::kGhosts;
    piece->number = static_cast<uint8_t>(ghosts_);
    while (walking_ && piece->words.size() < SnapshotPiece::kKeysMax) {
      const std::optional<uint64_t> key_hash = left_ == 0 ? std::nullopt : ghosts.Walk();
      walking_ = key_hash.has_value();
      if (!walking_) break;
      piece->words.push_back(*key_hash);
      --left_;
    }
    if (!walking_) ++ghosts_;
  }
  return !piece->words.empty();
}

bool SnapshotReader::NextCopies(SnapshotPiece* piece) {
  while (piece->words.empty() && queue_ < parts_.queues.size()) {
    NodeQueue& queue = *parts_.queues[queue_];
    if (!walking_) {
      // With some that are met twice.
      left_ = queue.size() + queue.size() / 8 + SnapshotPiece::kKeysMax;
      queue.BeginWalk();
      walking_ = true;
    }
    piece->kind = SnapshotPiece::Kind::kCopies;
    piece->number = static_cast<uint8_t>(queue_);
    while (walking_ && piece->words.size() < SnapshotPiece::kKeysMax) {
      const EvictionNode* const node = left_ == 0 ? nullptr : queue.Walk(*parts_.clock);
      walking_ = node != nullptr;
      if (!walking_) break;
      piece->words.push_back(queue.KeyHash(*node));
      piece->uses.push_back(UsesAndWorth(*node));
      --left_;
    }
    if (!walking_) ++queue_;
  }
  return !piece->words.empty();
}

void Restore(EvictionPolicy* policy, const SnapshotPiece& piece,
             absl::Span<EvictionNode* const> nodes) {
  const EvictionPolicy::Parts parts = policy->parts();
  const auto remember = [&parts](size_t number, uint64_t key_hash) {
    if (parts.ghosts.empty()) return;
    parts.ghosts[std::min(number, parts.ghosts.size() - 1)]->Add(key_hash, GhostList::kSizeMax);
  };
  switch (piece.kind) {
    case SnapshotPiece::Kind::kFindings:
      return policy->TakeFindings(piece.words);
    case SnapshotPiece::Kind::kGhosts:
      for (const uint64_t key_hash : piece.words) remember(piece.number, key_hash);
      return;
    case SnapshotPiece::Kind::kCopies:
      break;
  }
  CAIRN_CHECK(nodes.size() == piece.words.size() && piece.uses.size() == piece.words.size());
  const size_t pool_queues = parts.queues.size() / parts.pools;
  if (piece.number >= parts.queues.size()) return;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i] == nullptr) {
      remember(piece.number, piece.words[i]);
      continue;
    }
    policy->Forget(nodes[i]);
    // In the pool of its class, which may be another by now.
    NodeQueue* queue = parts.queues[piece.number];
    if (parts.pools > 1) {
      const auto pool = static_cast<size_t>(queue->ClassOf(*nodes[i]));
      queue = parts.queues[pool * pool_queues + piece.number % pool_queues];
    }
    NodeQueue::SetUses(nodes[i], piece.uses[i] % kWorthUnit);
    queue->Push(nodes[i], {parts.clock->Now(), WorthOf(piece.uses[i], *queue, *nodes[i])});
  }
}

void AppendPiece(const SnapshotPiece& piece, std::string& bytes) {
  AppendRaw(static_cast<uint8_t>(piece.kind), piece, static_cast<uint32_t>(piece.words.size()),
            bytes);
}

void AppendEnd(uint32_t pieces, std::string& bytes) { AppendRaw(kEnd, {}, pieces, bytes); }

absl::Status DecodePieces(std::string_view bytes,
                          absl::FunctionRef<void(const SnapshotPiece&)> visit) {
  CAIRN_RETURN_IF_ERROR(ForEachPiece(bytes, [](const SnapshotPiece&) {}));
  return ForEachPiece(bytes, visit);
}

}  // namespace cairn
