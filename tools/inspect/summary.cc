#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tools/inspect/commands.h"

namespace cairn::inspect {
namespace {

using Json = nlohmann::ordered_json;

struct Count {
  uint64_t tensors = 0;
  uint64_t bytes = 0;

  void Add(uint64_t payload_bytes) {
    ++tensors;
    bytes += payload_bytes;
  }
};

struct Figures {
  Count all;
  Count keep;
  Count expired;
  std::map<std::string, Count> by_fingerprint;
  std::map<std::string, Count> by_class;
  std::map<std::string, Count> by_dtype;
  std::vector<uint64_t> sizes;
  uint64_t extent_bytes = 0;
  uint64_t sequence_max = 0;
  std::vector<StoreView::DamagedEntry> damaged;
};

absl::Status Collect(const StoreView& view, Figures& figures) {
  // A fingerprint without tensors is worth a line too.
  for (const Fingerprint& fingerprint : view.fingerprints()) {
    figures.by_fingerprint[PrintableKey(fingerprint.text)];
  }
  const int64_t now_ms = absl::ToUnixMillis(absl::Now());
  const auto visit = [&](const StoreView::Entry& entry) {
    const IndexRecord& record = entry.record;
    const uint64_t bytes = record.payload_bytes;
    const std::string* const text = view.FingerprintText(entry.fingerprint_id);
    figures.all.Add(bytes);
    if (record.retention == Retention::kKeep) figures.keep.Add(bytes);
    if (record.expires_unix_ms != 0 && record.expires_unix_ms <= now_ms) {
      figures.expired.Add(bytes);
    }
    figures
        .by_fingerprint[text != nullptr ? PrintableKey(*text)
                                        : absl::StrCat("?", entry.fingerprint_id)]
        .Add(bytes);
    figures.by_class[TensorClassName(record.tensor_class)].Add(bytes);
    figures.by_dtype[DTypeName(record.meta.dtype)].Add(bytes);
    figures.sizes.push_back(bytes);
    figures.extent_bytes += record.extent_bytes();
    figures.sequence_max = std::max(figures.sequence_max, record.sequence);
    return true;
  };
  return view.ForEach(visit, figures.damaged);
}

Json ToJson(const Count& count) { return {{"tensors", count.tensors}, {"bytes", count.bytes}}; }

Json ToJson(const std::map<std::string, Count>& counts) {
  Json json = Json::object();
  for (const auto& [name, count] : counts) json[name] = ToJson(count);
  return json;
}

// Where the data files lie, and how many bytes of them in each place.
Json FoldersJson(const StoreFiles& files) {
  Json folders = Json::array();
  for (size_t i = 0; i < files.folders().size(); ++i) {
    folders.push_back({{"path", files.folders()[i]},
                       {"weight", files.WeightOf(i)},
                       {"data_files", 0},
                       {"data_bytes", 0}});
  }
  for (size_t i = 0; i < files.files().size(); ++i) {
    Json& folder = folders[files.FolderOf(i)];
    folder["data_files"] = folder["data_files"].get<uint64_t>() + 1;
    folder["data_bytes"] = folder["data_bytes"].get<uint64_t>() + files.files()[i].bytes;
  }
  return folders;
}

Json Report(const StoreView& view, const Options& options, Figures& figures) {
  const StoreFiles& files = view.files();
  uint64_t data_bytes = 0;
  uint64_t usable_bytes = 0;
  for (const StoreFiles::File& file : files.files()) {
    data_bytes += file.bytes;
    usable_bytes += file.bytes - std::min(file.bytes, kBlockBytes);
  }
  std::sort(figures.sizes.begin(), figures.sizes.end());
  const auto size_at = [&](size_t percent) {
    return figures.sizes.empty() ? 0 : figures.sizes[(figures.sizes.size() - 1) * percent / 100];
  };
  return {{"store", options.path},
          {"uuid", UuidText(files.uuid())},
          {"format_version", files.format_version()},
          {"data_files", files.files().size()},
          {"data_file_bytes", files.data_file_bytes()},
          {"data_bytes", data_bytes},
          {"data_folders", FoldersJson(files)},
          {"used_bytes", figures.extent_bytes},
          {"free_bytes", usable_bytes - std::min(usable_bytes, figures.extent_bytes)},
          {"index_bytes_on_disk", view.IndexBytesOnDisk()},
          {"tensors", figures.all.tensors},
          {"bytes", figures.all.bytes},
          {"keep", ToJson(figures.keep)},
          {"expired", ToJson(figures.expired)},
          {"sequence_max", figures.sequence_max},
          {"size_min", size_at(0)},
          {"size_median", size_at(50)},
          {"size_max", size_at(100)},
          {"fingerprints", ToJson(figures.by_fingerprint)},
          {"classes", ToJson(figures.by_class)},
          {"dtypes", ToJson(figures.by_dtype)},
          {"problems", files.problems()},
          {"index", view.index_status().ok() ? "ok" : std::string(view.index_status().message())},
          {"damaged_index_entries", figures.damaged.size()}};
}

void PrintSummary(const Json& report, Output& output) {
  const auto number = [&](const char* name) { return report[name].get<uint64_t>(); };
  const auto text = [&](const char* name) { return report[name].get<std::string>(); };
  const auto bytes = [&](const char* name) { return FormatBytes(number(name)); };
  const auto line = [&](const char* name, const std::string& value) {
    output.Line(absl::StrFormat("%-12s %s", name, value));
  };
  const auto count = [](const Json& json) {
    return absl::StrCat(json["tensors"].get<uint64_t>(), " tensors, ",
                        FormatBytes(json["bytes"].get<uint64_t>()));
  };
  line("store", text("store"));
  line("uuid", text("uuid"));
  line("format", absl::StrCat(number("format_version")));
  line("data files", absl::StrCat(number("data_files"), " of up to ", bytes("data_file_bytes"),
                                  ", ", bytes("data_bytes"), " in all"));
  const bool weighted = number("format_version") == kWeightedFormatVersion;
  for (const Json& folder : report["data_folders"]) {
    const uint64_t weight = folder["weight"].get<uint64_t>();
    line("in",
         absl::StrCat(folder["path"].get<std::string>(), ": ", folder["data_files"].get<uint64_t>(),
                      " files, ", FormatBytes(folder["data_bytes"].get<uint64_t>()),
                      weighted ? absl::StrCat(", weight ", weight) : ""));
  }
  line("used", absl::StrCat(bytes("used_bytes"), ", free ", bytes("free_bytes")));
  line("index", absl::StrCat(bytes("index_bytes_on_disk"), " on disk"));
  line("tensors", absl::StrCat(count(report), " (sizes ", bytes("size_min"), " to ",
                               bytes("size_max"), ", median ", bytes("size_median"), ")"));
  line("kept", count(report["keep"]));
  line("expired", count(report["expired"]));
  const std::pair<const char*, const char*> groups[] = {
      {"fingerprint", "fingerprints"}, {"class", "classes"}, {"dtype", "dtypes"}};
  for (const auto& [name, group] : groups) {
    for (const auto& [value, counted] : report[group].items()) {
      line(name, absl::StrCat(value.empty() ? "(none)" : value, ": ", count(counted)));
    }
  }
  if (text("index") != "ok") line("problem", text("index"));
  for (const Json& problem : report["problems"]) line("problem", problem.get<std::string>());
  if (number("damaged_index_entries") > 0) {
    line("problem", absl::StrCat(number("damaged_index_entries"), " damaged index entries"));
  }
}

}  // namespace

absl::StatusOr<int> Summarize(const StoreView& view, const Options& options, Output& output) {
  Figures figures;
  if (view.index_status().ok()) {
    CAIRN_RETURN_IF_ERROR(Collect(view, figures));
  } else if (!absl::IsDataLoss(view.index_status()) && !absl::IsNotFound(view.index_status())) {
    return view.index_status();
  }
  const Json report = Report(view, options, figures);
  if (options.json) {
    output.Json(report);
  } else {
    PrintSummary(report, output);
  }
  const bool damaged =
      !view.index_status().ok() || !figures.damaged.empty() || !view.files().problems().empty();
  return damaged ? kDamaged : kSound;
}

}  // namespace cairn::inspect
