#include "bench/peers/figures.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace cairn::peers {
namespace {

using Json = nlohmann::json;

constexpr std::array<const char*, 6> kNumbers = {
    "tensor_bytes", "bytes", "round", "bytes_on_disk", "device_bytes_written", "device_bytes_read"};

Json WayJson(const Way& way) {
  return {{"wall_s", way.wall_s}, {"cpu_s", way.cpu_s}, {"batch_us", way.batch_us}};
}

bool IsNumber(const Json& object, const char* name) {
  return object.contains(name) && object[name].is_number();
}

bool IsWay(const Json& line, const char* name) {
  if (!line.contains(name) || !line[name].is_object()) return false;
  const Json& way = line[name];
  if (!IsNumber(way, "wall_s") || !IsNumber(way, "cpu_s") || !way.contains("batch_us")) {
    return false;
  }
  if (!way["batch_us"].is_array() || way["batch_us"].empty()) return false;
  for (const Json& batch : way["batch_us"]) {
    if (!batch.is_number_unsigned()) return false;
  }
  return true;
}

bool IsFigures(const Json& line) {
  if (!line.is_object() || !line.contains("store") || !line["store"].is_string()) return false;
  for (const char* name : kNumbers) {
    if (!IsNumber(line, name)) return false;
  }
  return IsWay(line, "put") && IsWay(line, "get");
}

Way WayOf(const Json& way) {
  return {way["wall_s"].get<double>(), way["cpu_s"].get<double>(),
          way["batch_us"].get<std::vector<uint64_t>>()};
}

}  // namespace

std::string ToLine(const Figures& figures) {
  const Json line = {{"store", figures.store},
                     {"tensor_bytes", figures.tensor_bytes},
                     {"bytes", figures.bytes},
                     {"round", figures.round},
                     {"put", WayJson(figures.put)},
                     {"get", WayJson(figures.get)},
                     {"bytes_on_disk", figures.bytes_on_disk},
                     {"device_bytes_written", figures.device_bytes_written},
                     {"device_bytes_read", figures.device_bytes_read}};
  return line.dump();
}

absl::StatusOr<Figures> FromLine(std::string_view text) {
  const Json line = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (line.is_discarded() || !IsFigures(line)) {
    return absl::InvalidArgumentError("no line that peers_bench has written");
  }
  Figures figures;
  figures.store = line["store"].get<std::string>();
  figures.tensor_bytes = line["tensor_bytes"].get<uint64_t>();
  figures.bytes = line["bytes"].get<uint64_t>();
  figures.round = line["round"].get<uint64_t>();
  figures.put = WayOf(line["put"]);
  figures.get = WayOf(line["get"]);
  figures.bytes_on_disk = line["bytes_on_disk"].get<uint64_t>();
  figures.device_bytes_written = line["device_bytes_written"].get<uint64_t>();
  figures.device_bytes_read = line["device_bytes_read"].get<uint64_t>();
  return figures;
}

}  // namespace cairn::peers
