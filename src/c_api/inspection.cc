// What is in a store, and its figures.

#include <cstring>
#include <string>

#include "src/base/status_macros.h"
#include "src/c_api/call.h"

namespace cairn::c_api {
namespace {

// Writes as much of `source` as the caller's struct has.
template <typename Struct>
absl::Status WriteKnown(const char* name, const Struct& source, Struct* target) {
  const size_t bytes = target->struct_bytes;
  if (bytes < sizeof(bytes) || bytes > sizeof(Struct)) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ".struct_bytes is ", bytes, ": this library knows ", sizeof(Struct),
                     " bytes of it; set it to sizeof before the call"));
  }
  std::memcpy(static_cast<void*>(target), &source, bytes);
  target->struct_bytes = bytes;
  return absl::OkStatus();
}

cairn_tier_stats WriteTier(const TierStats& tier) {
  return {.bytes_max = tier.bytes_max,
          .bytes_used = tier.bytes_used,
          .tensors = tier.tensors,
          .hits = tier.hits,
          .evictions = tier.evictions,
          .bytes_read = tier.bytes_read,
          .bytes_written = tier.bytes_written};
}

}  // namespace
}  // namespace cairn::c_api

using cairn::c_api::CheckRequired;
using cairn::c_api::Guarded;
using cairn::c_api::ReadKey;

int cairn_store_describe(cairn_store* store, cairn_key key, cairn_info* info,
                         cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}, {info, "info"}}));
    std::string_view name;
    CAIRN_RETURN_IF_ERROR(ReadKey(key, &name));
    CAIRN_ASSIGN_OR_RETURN(const cairn::TensorInfo found, store->store->Describe(name));
    return cairn::c_api::WriteKnown("cairn_info", cairn::c_api::WriteInfo(found), info);
  });
}

int cairn_store_scan(cairn_store* store, cairn_key prefix, cairn_key after, size_t limit,
                     int (*visit)(void* context, cairn_key key, const cairn_info* info),
                     void* context, int* more, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(
        CheckRequired({{store, "store"}, {reinterpret_cast<const void*>(visit), "visit"}}));
    std::string_view key_prefix;
    std::string_view key_after;
    CAIRN_RETURN_IF_ERROR(ReadKey(prefix, &key_prefix));
    CAIRN_RETURN_IF_ERROR(ReadKey(after, &key_after));
    CAIRN_ASSIGN_OR_RETURN(const cairn::ScanPage page,
                           store->store->Scan(key_prefix, key_after, limit));
    if (more != nullptr) *more = page.more ? 1 : 0;
    for (const cairn::ScanEntry& entry : page.entries) {
      const cairn_info info = cairn::c_api::WriteInfo(entry.info);
      if (visit(context, {entry.key.data(), entry.key.size()}, &info) != 0) break;
    }
    return absl::OkStatus();
  });
}

int cairn_store_advise(cairn_store* store, uint64_t bytes, uint32_t tensor_class,
                       cairn_advice* advice, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}, {advice, "advice"}}));
    cairn::TensorClass read = cairn::TensorClass::kGeneral;
    CAIRN_RETURN_IF_ERROR(
        cairn::c_api::ReadEnum("tensor_class", tensor_class, cairn::TensorClass::kText, &read));
    CAIRN_ASSIGN_OR_RETURN(const cairn::PlacementAdvice found, store->store->Advise(bytes, read));
    cairn_advice told = {};
    told.struct_bytes = sizeof(told);
    told.arrival_us = cairn::c_api::WriteTime(found.arrival);
    told.level = found.level.has_value() ? static_cast<uint32_t>(*found.level) : 0;
    cairn::c_api::CopyText(found.reason, told.reason, sizeof(told.reason));
    return cairn::c_api::WriteKnown("cairn_advice", told, advice);
  });
}

int cairn_store_stats(cairn_store* store, cairn_stats* stats, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}, {stats, "stats"}}));
    const cairn::StatsSnapshot snapshot = store->store->Stats();
    const cairn_stats figures = {.struct_bytes = sizeof(cairn_stats),
                                 .l1 = cairn::c_api::WriteTier(snapshot.l1),
                                 .l2 = cairn::c_api::WriteTier(snapshot.l2),
                                 .l3 = cairn::c_api::WriteTier(snapshot.l3),
                                 .puts = snapshot.puts,
                                 .gets = snapshot.gets,
                                 .misses = snapshot.misses,
                                 .erases = snapshot.erases,
                                 .dirty_bytes = snapshot.dirty_bytes,
                                 .checksum_failures = snapshot.checksum_failures,
                                 .quarantined = snapshot.quarantined};
    return cairn::c_api::WriteKnown("cairn_stats", figures, stats);
  });
}

size_t cairn_store_stats_json(cairn_store* store, char* buffer, size_t size) {
  size_t length = 0;
  Guarded(nullptr, [&] {
    CAIRN_RETURN_IF_ERROR(CheckRequired({{store, "store"}}));
    const std::string json = store->store->Stats().ToJson();
    length = json.size();
    cairn::c_api::CopyText(json, buffer, size);
    return absl::OkStatus();
  });
  return length;
}

int cairn_store_explain(cairn_store* store, cairn_key key,
                        int (*visit)(void* context, const cairn_journal_entry* entry),
                        void* context, cairn_status* status) {
  return Guarded(status, [&] {
    CAIRN_RETURN_IF_ERROR(
        CheckRequired({{store, "store"}, {reinterpret_cast<const void*>(visit), "visit"}}));
    std::string_view bytes;
    CAIRN_RETURN_IF_ERROR(ReadKey(key, &bytes));
    CAIRN_ASSIGN_OR_RETURN(const std::vector<cairn::JournalEntry> entries,
                           store->store->Explain(bytes));
    for (const cairn::JournalEntry& entry : entries) {
      const cairn_journal_entry told = {.unix_us = absl::ToUnixMicros(entry.time),
                                        .decision = cairn::DecisionName(entry.decision),
                                        .text = cairn::DecisionText(entry.decision),
                                        .bytes = entry.bytes};
      if (visit(context, &told) != 0) break;
    }
    return absl::OkStatus();
  });
}
